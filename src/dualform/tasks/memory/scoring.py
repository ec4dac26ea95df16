"""How an answer is scored: each score is from 0 to 1, from what was said and the answers that are right."""

import re
from collections import Counter
from collections.abc import Callable, Sequence

from dualform.errors import require

Answers = Sequence[str]


def exact(said: str, answers: Answers) -> float:
    """1 where one of the answers is what was said, but for case, punctuation, articles and spaces.

    **Source:** Rajpurkar et al. 2016 (arXiv 1606.05250, Sec. 6.1).
    """
    return float(any(words(said) == words(answer) for answer in answers))


def contains(said: str, answers: Answers) -> float:
    """1 where one of the answers is somewhere in what was said, to the letter but for case.

    **Source:** Hsieh et al. 2024 (RULER, arXiv 2404.06654, Sec. 4); SCBench scores its retrieval of strings so.
    """
    return float(any(answer.lower() in said.lower() for answer in answers))


def share(said: str, answers: Answers) -> float:
    """The share of the answers that are somewhere in what was said: all are asked for.

    **Source:** Hsieh et al. 2024 (RULER, arXiv 2404.06654), the recall of its variable tracking.
    """
    return sum(contains(said, [answer]) for answer in answers) / len(answers)


def first_number(said: str, answers: Answers) -> float:
    """1 where the first whole number that was said is one of the answers.

    **Source:** Zhang et al. 2024 (InfiniteBench, arXiv 2402.13718), its Math.Find.
    """
    found = re.search(r"-?\d+", said)
    return float(found is not None and found.group() in answers)


def first_word(said: str, answers: Answers) -> float:
    """1 where the first word that was said is one of the answers, but for case: a label.

    **Source:** the accuracy of many-shot learning in SCBench (arXiv 2412.10319, Table 2).
    """
    found = re.search(r"\w+", said.lower())
    return float(found is not None and found.group() in [answer.lower() for answer in answers])


def token_f1(said: str, answers: Answers) -> float:
    """The harmonic mean of precision and recall of words, as bags; of several answers the best.

    **Source:** Rajpurkar et al. 2016 (arXiv 1606.05250, Sec. 6.1).
    """
    return max(_f1(sum((Counter(words(said)) & Counter(words(a))).values()), said, a) for a in answers)


def rouge_l(said: str, answers: Answers) -> float:
    """The harmonic mean of precision and recall of the longest common subsequence of words; of several answers the best.

    **Source:** Lin 2004 (ROUGE, ACL W04-1013, Sec. 3), with equal weights; SCBench scores summaries by ROUGE.
    """
    return max(_f1(_common(words(said), words(answer)), said, answer) for answer in answers)


def words(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation and articles."""
    return [word for word in re.findall(r"\w+", text.lower()) if word not in ("a", "an", "the")]


def _f1(common: int, said: str, answer: str) -> float:
    total = len(words(said)) + len(words(answer))
    return 2 * common / total if total else 1.0


def _common(a: Sequence[str], b: Sequence[str]) -> int:
    """The length of the longest common subsequence."""
    row = [0] * (len(b) + 1)
    for one in a:
        before = row
        row = [0]
        for j, other in enumerate(b):
            row.append(before[j] + 1 if one == other else max(before[j + 1], row[j]))
    return row[-1]


SCORES: dict[str, Callable[[str, Answers], float]] = {
    "exact": exact,
    "contains": contains,
    "share": share,
    "first number": first_number,
    "first word": first_word,
    "token F1": token_f1,
    "ROUGE-L": rouge_l,
}


def score(name: str, said: str, answers: Answers) -> float:
    """The score of that name.

    **Raises:** `InputError` for an unknown name, or no answers.
    """
    require(name in SCORES, f"there is no score {name!r}; there are {', '.join(SCORES)}.")
    require(len(answers) >= 1, "there is no answer to compare with; give at least one.")
    return SCORES[name](said, answers)
