"""Tasks of memory: every answer is in its context, once; the context fits; a seed gives it again; scores on known cases."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dualform.errors import InputError
from dualform.tasks.memory import (
    FORMS,
    SCORES,
    Example,
    MemoryTask,
    Question,
    Room,
    TokenMemory,
    filler,
    memory_task,
    memory_tasks,
    register,
    score,
    sentences_of,
)
from tests.tiers import tiers

SENTENCES = ["The wind turned to the north.", "Nobody had seen the ship again.", "It was said to be a good year."]
COUNT = lambda text: len(re.findall(r"\w+|[^\w\s]", text))
ROOM = Room(400, COUNT, SENTENCES)
NAMES = list(memory_tasks())


@pytest.mark.parametrize("items", [None, 7])
@pytest.mark.parametrize("name", NAMES)
def test_contexts_fit_and_seeds_give_them_again(name, items):
    """A context has at most the wanted tokens and nearly as many; example i is of the seed and i alone."""
    task, room = memory_task(name), Room(400, COUNT, SENTENCES, items)
    drawn = task.examples(3, room, 5, seed=1)
    assert all(len(example.questions) == 5 for example in drawn)
    assert all(370 <= COUNT(example.context) <= 400 for example in drawn)
    assert task.examples(2, room, 5, seed=1) == drawn[:2] != task.examples(2, room, 5, seed=2)
    assert len({example.context for example in drawn}) == 3


@pytest.mark.parametrize("name", NAMES)
def test_the_true_answer_gets_the_whole_score(name):
    """What stands in the history scores 1, and what stands in another turn's history less."""
    for example in memory_task(name).examples(3, ROOM, 5):
        for i, question in enumerate(example.questions):
            assert score(question.score, question.answer, question.answers) == 1
            other = example.questions[i - 2]
            if other.answers != question.answers:
                assert score(question.score, other.answer, question.answers) < 1
        assert len({question.ask for question in example.questions}) == 5


@pytest.mark.parametrize("name", NAMES)
def test_no_question_says_its_answer(name):
    """What is asked for stands in the context alone: a model that reads the question without it has nothing to go by."""
    for example in memory_task(name).examples(3, ROOM, 5):
        for question in example.questions:
            said = [
                answer for answer in question.answers if answer.lower() in f"{question.ask} {question.lead}".lower()
            ]
            assert not said, f"{question.ask!r} says {said}"


def facts(example: Example, question: Question) -> list[str]:
    """The lines of a context that hold an answer of the question."""
    return [line for line in example.context.split("\n") if question.answers[0].split("-")[0] in line]


@pytest.mark.parametrize("name", ["kv", "needle", "prefix-suffix"])
def test_one_line_has_the_answer(name):
    """And it is the one that the question is about."""
    for example in memory_task(name).examples(4, ROOM, 5):
        for question in example.questions:
            (line,) = facts(example, question)
            assert line.strip("{},\n").startswith(question.lead) and question.answers[0] in line


def test_of_the_two_ends_one_alone_is_not_enough():
    """Other strings have the same beginning, or the same end; none has both."""
    alone = 0
    for example in memory_task("prefix-suffix").examples(4, ROOM, 5):
        strings = [line.split("-") for line in example.context.split("\n")]
        for question in example.questions:
            first, last = re.findall(r'"-?(\w+)-?"', question.ask)
            assert sum((a, c) == (first, last) for a, _, c in strings) == 1
            alone += sum(a == first for a, _, _ in strings) == 1 or sum(c == last for _, _, c in strings) == 1
    assert alone < 5


def test_variables_are_given_on_in_order():
    """Following the assignments line by line gives every variable's number: those of the question, and no others."""
    for example in memory_task("variable-tracking").examples(4, ROOM, 4):
        held: dict[str, str] = {}
        for name, given in re.findall(r"^(\w+) = (\w+)$", example.context, flags=re.M):
            held[name] = given if given.isdecimal() else held[given]
        for question in example.questions:
            value = re.findall(r"\d{5}", question.ask)[0]
            assert {name for name in held if held[name] == value} == set(question.answers)


def test_labels_follow_from_the_shots():
    """All shots of a word have one label; those asked for were not shown; four labels, nearly as often each."""
    for example in memory_task("many-shot").examples(4, ROOM, 5):
        shots = re.findall(r"^(\w+) -> (\w+)$", example.context, flags=re.M)
        label = dict(shots)
        assert set(shots) == set(label.items()) and len(set(label.values())) == 4
        for question in example.questions:
            word = question.lead.split()[0]
            assert word not in label and question.answers[0] in label.values()


def test_numbers_are_found_by_their_rank():
    """Sorting the list gives every answer; it has a middle."""
    ranks = {"largest": -1, "smallest": 0, "second largest": -2, "second smallest": 1, "third largest": -3}
    for example in memory_task("math-find").examples(4, ROOM, 7):
        found = sorted(map(int, re.findall(r"\d+", example.context)))
        assert len(found) % 2 == 1 and len(set(found)) == len(found)
        asked = {q.ask.split("the ")[1].removesuffix(" number in "): int(q.answers[0]) for q in example.questions}
        assert all(asked[name] == found[place] for name, place in ranks.items())
        assert asked["median"] == np.median(found)


def test_summaries_and_needles_by_turns():
    """A summary's events are both in the context, of that town; every second question is a needle."""
    for example in memory_task("summary-needle").examples(4, ROOM, 5):
        assert [q.score for q in example.questions] == ["ROUGE-L", "contains", "ROUGE-L", "contains", "ROUGE-L"]
        for question in example.questions[::2]:
            events = [line for line in example.context.split("\n") if line.startswith(question.lead)]
            assert " ".join(events) == question.lead + question.answer and len(events) == 2


KNOWN = [
    ("exact", "The Cat!", ["cat"], 1),
    ("exact", "a cat sat", ["cat"], 0),
    ("exact", "THE cat", ["Cat"], 1),
    ("contains", 'it is 12345".', ["12345"], 1),
    ("contains", "it is 1234", ["12345"], 0),
    ("contains", "It Is Kilo.", ["is KILO"], 1),
    ("share", "bada, kilo", ["bada", "lomi", "kilo", "zazu"], 0.5),
    ("share", "Bada, kilo", ["bada", "KILO"], 1),
    ("first number", "-12, then 7", ["-12"], 1),
    ("first number", "7, then -12", ["-12"], 0),
    ("first number", "none", ["7"], 0),
    ("first word", " Bada. kilo", ["bada"], 1),
    ("first word", "bada", ["Bada"], 1),
    ("first word", "", ["bada"], 0),
    ("token F1", "cat sat on mat", ["the mat on which the cat sat"], 8 / 9),
    ("token F1", "dog", ["cat", "the dog"], 1),
    ("token F1", "DOG", ["The Dog"], 1),
    ("ROUGE-L", "police kill gunman", ["police killed gunman"], 2 / 3),
    ("ROUGE-L", "gunman kill police", ["police killed gunman"], 1 / 3),
    ("ROUGE-L", "Police KILL gunman", ["police killed Gunman"], 2 / 3),
    ("ROUGE-L", "", ["police"], 0),
]


@pytest.mark.parametrize(("name", "said", "answers", "expected"), KNOWN)
def test_scores_of_known_cases(name, said, answers, expected):
    """ROUGE-L's second and third case are Lin's own example, with equal weights."""
    assert score(name, said, answers) == pytest.approx(expected) and set(SCORES) == {case[0] for case in KNOWN}


def test_filler_is_plain_sentences():
    """No digits, no code; of a text the sentences in their order."""
    assert len(filler()) > 500 and not any(re.search(r"[\d_()]", sentence) for sentence in filler())
    text = "Call me Ishmael, said the man. See item 4 for what follows here. Some years ago I\nwent to  sea."
    assert sentences_of(text) == ["Call me Ishmael, said the man.", "Some years ago I went to sea."]


def test_a_task_of_ones_own():
    """Registered, it is there by name; once."""
    try:
        own = register(MemoryTask("own", lambda rng, room, turns: Example("x", ()), "nobody"))
        assert memory_task("own") is own
        with pytest.raises(InputError, match="there is a memory task 'own' already"):
            register(own)
    finally:
        from dualform.tasks import memory

        memory._TASKS.pop("own", None)


BAD = {
    "task": (lambda: memory_task("best"), "there is no memory task 'best'; there are kv, "),
    "score": (lambda: score("best", "", [""]), "there is no score 'best'; there are exact"),
    "answers": (lambda: score("exact", "", []), "there is no answer to compare with"),
    "length": (lambda: Room(0, COUNT, SENTENCES), "length is 0; a context has at least 1 token"),
    "items": (lambda: Room(9, COUNT, SENTENCES, 0), "items is 0; give at least 1"),
    "sentences": (lambda: Room(9, COUNT, []), "there is no sentence to fill a context with"),
    "examples": (lambda: memory_task("kv").examples(0, ROOM, 5), "0 examples: give at least 1"),
    "turns": (lambda: memory_task("kv").examples(1, ROOM, 0), "0 turns: give at least 1"),
    "few items": (
        lambda: memory_task("kv").examples(1, Room(400, COUNT, SENTENCES, 3), 5),
        "kv has 3 items for 5 turns; each asks for another",
    ),
    "small room": (
        lambda: memory_task("kv").examples(1, Room(20, COUNT, SENTENCES), 5),
        "tokens at least, and there is room for 20. Give it more length, or fewer turns",
    ),
    "ranks": (lambda: memory_task("math-find").examples(1, ROOM, 8), "8 turns: math-find has 7 questions"),
    "numbers": (
        lambda: memory_task("math-find").examples(1, Room(400, COUNT, SENTENCES, 6), 5),
        "6 items: math-find needs at least 7",
    ),
    "form": (lambda: TokenMemory("best"), "form 'best' is none of kv, "),
    "token items": (lambda: TokenMemory(items=0), "items is 0; it must be at least 1"),
    "token turns": (lambda: TokenMemory(items=4, turns=5), "5 turns ask for 4 items"),
    "token length": (lambda: TokenMemory(items=16, length=30), "16 items are 32 tokens, and the context has 30"),
    "token names": (lambda: TokenMemory(items=16, names=15), "16 items need 16 names; there are 15"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_a_sentence(case):
    """What is wrong, with which value, and what to do."""
    call, message = BAD[case]
    with pytest.raises(InputError, match=re.escape(message)):
        call()


@pytest.mark.parametrize("form", tiers(FORMS, "kv", "needle"))
def test_token_form_answers_are_in_the_context(form):
    """Reading the facts of the context gives every answer; no question comes twice, and the key is all that matters."""
    task = TokenMemory(form, items=6, turns=4, length=25, names=24, batch=8)
    tokens, targets = task.sequences(jax.random.key(0))
    assert tokens.shape == targets.shape == (8, task.time) and int(jnp.max(tokens)) < task.vocabulary
    again = task.sample(jax.random.key(0))
    assert jnp.array_equal(again[0], tokens) and not jnp.array_equal(task.sample(jax.random.key(1))[0], tokens)
    kind = lambda token: "?" if token == 0 else "v" if token <= task.values else "n" if token <= 16 + 24 else "f"
    for row, target in zip(np.asarray(tokens).tolist(), np.asarray(targets).tolist(), strict=True):
        context, questions = row[:25], np.array(row[25:]).reshape(4, -1).tolist()
        kinds = "".join(map(kind, context))
        held: dict[tuple[int, ...], int] = {}
        if form == "prefix-suffix":
            assert kinds == "f" * 7 + "nvn" * 6
            held = {(context[i], context[i + 2]): context[i + 1] for i in range(7, 25, 3)}
            assert len({first for first, _ in held}) < 6
        else:
            for i in (
                (match.start() for match in re.finditer("n[nv]", kinds)) if form == "kv" else range(len(kinds) - 1)
            ):
                if form == "variable-tracking" and (i < 1 or i % 2 == 0):
                    continue
                if kinds[i : i + 2] in ("nv", "nn"):
                    given = context[i + 1]
                    held[context[i],] = given if given <= task.values else held[given,]
        assert len(held) == (12 if form == "variable-tracking" else 6)
        assert len({tuple(asked) for asked in questions}) == 4
        for n, (mark, *asked, answer) in enumerate(questions):
            assert mark == 0 and held[tuple(asked)] == answer
            assert target[25 + (n + 1) * len(questions[0]) - 2] == answer
        assert sum(t >= 0 for t in target) == 4 and all(t < 0 for t in target[:25])
