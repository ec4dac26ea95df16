"""How well a model remembers a context that several questions share, turn by turn, with its state used again.

The context is read once. By turns, one state goes through question 1, answer 1, question 2 and so on; by requests, the state
after the context is taken for each question anew. Examples go through the model together.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from dualform.checkpoints.tokens import Tokens, text_of
from dualform.errors import require
from dualform.generation import Session, bounded, policy
from dualform.mixers import SoftmaxAttention
from dualform.models import LanguageModel
from dualform.tasks.memory import Example, score

MODES, HISTORIES = ("turns", "requests"), ("true", "own")
SPARE = 6
"""How many more tokens than the longest right answer has are written."""


@dataclass(frozen=True)
class Template:
    """What stands before the context, behind it, behind a question, behind an answer, and before the next question."""

    begin: str
    behind_context: str
    behind_question: str
    behind_answer: str
    before_question: str


CHAT = Template(
    "<|im_start|>user\n", "\n\n", "<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>\n", "<|im_start|>user\n"
)
"""That of SmolLM2 and other models that were taught by chats."""
PLAIN = Template("", "\n\n", "\n", "\n\n", "")
"""For any other model."""


def template_of(tokens: Tokens) -> Template:
    """`CHAT` where its marks are tokens, else `PLAIN`."""
    return CHAT if len(tokens.encode("<|im_start|>")) == len(tokens.encode("")) + 1 else PLAIN


class Turn(NamedTuple):
    """What was said at one turn: the place of the example and of the question, the score's name, the text, the score."""

    example: int
    turn: int
    kind: str
    said: str
    score: float


class Score(NamedTuple):
    """A mean score, and an interval of 95%.

    - value: the mean.  low, high: Wilson's interval, in which a score between 0 and 1 counts as a part of a success: it is then
      wider than it need be.  examples: of how many.
    """

    value: float
    low: float
    high: float
    examples: int

    @classmethod
    def of(cls, scores: Sequence[float]) -> "Score":
        """From the scores, each from 0 to 1.

        **Source:** Wilson 1927 (J. Am. Stat. Assoc. 22, 209-212).
        """
        n, z = len(scores), 1.96
        p = sum(scores) / n
        middle, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        scale = 1 + z * z / n
        return cls(p, max((middle - half) / scale, 0.0), min((middle + half) / scale, 1.0), n)


class Row(NamedTuple):
    """One line of the table: a task's part, who answered, how many states, the scores by turn, None where it is not asked."""

    task: str
    kind: str
    name: str
    states: int | None
    turns: tuple[Score | None, ...]

    @property
    def mean(self) -> float:
        """The mean over all turns that are asked."""
        return float(np.mean([each.value for each in self.turns if each is not None]))


def rows_of(task: str, name: str, states: int | None, found: Sequence[Turn]) -> list[Row]:
    """A line for each score of the task."""
    turns = 1 + max(each.turn for each in found)
    kinds = dict.fromkeys(each.kind for each in found)
    at = lambda kind, turn: [each.score for each in found if (each.kind, each.turn) == (kind, turn)]
    of = lambda kind, turn: Score.of(at(kind, turn)) if at(kind, turn) else None
    return [Row(task, kind, name, states, tuple(of(kind, turn) for turn in range(turns))) for kind in kinds]


def contender(model: LanguageModel, by: str, states: int, needed: int) -> tuple[LanguageModel, int | None]:
    """The model bounded by a policy, and how many states it keeps: None for all, and for a recurrent model.

    **Arguments:** needed: tokens of the longest document: "full" keeps so many, rounded up.

    **Raises:** `InputError` for a policy other than full where no layer is softmax attention.
    """
    whole = policy(by).whole
    if not any(isinstance(block.mixer, SoftmaxAttention) for block in model.blocks):
        require(
            whole,
            f"policy {by}: this model has no layer of softmax attention, and its memory is bounded as it is. Give --policy full.",
        )
        return model, None
    return (bounded(model, by, -(-needed // 256) * 256), None) if whole else (bounded(model, by, states), states)


class Script(NamedTuple):
    """An example in tokens, in pieces.

    - context.  asks: for each turn the question, with how its answer begins.  answers: the true ones.
    - behind: what comes behind an answer.  before: what begins a question that is not the first.
    """

    context: list[int]
    asks: list[list[int]]
    answers: list[list[int]]
    behind: list[int]
    before: list[int]

    @property
    def length(self) -> int:
        """Tokens of the whole document with its true answers."""
        between = len(self.behind) + len(self.before)
        return len(self.context) + sum(map(len, self.asks + self.answers)) + between * len(self.asks)


def script(example: Example, tokens: Tokens, template: Template) -> Script:
    """The example's tokens, piece by piece, so that what is read does not depend on what follows."""
    around = tokens.encode("").tolist()

    def inside(text: str) -> list[int]:
        ids = tokens.encode(text).tolist()
        return ids[len(around) :] if around and ids[: len(around)] == around else ids

    whole = tokens.encode(template.begin + example.context + template.behind_context).tolist()
    return Script(
        whole,
        [inside(q.ask + template.behind_question + q.lead) for q in example.questions],
        [inside(q.answer) for q in example.questions],
        inside(template.behind_answer),
        inside(template.before_question) if template.before_question else [],
    )


def answers(
    model: LanguageModel,
    scripts: Sequence[Script],
    *,
    mode: str = "turns",
    history: str = "true",
    ends: Sequence[int] = (),
) -> list[list[list[int]]]:
    """What the model says, in tokens, for each example and turn: greedily, up to an end.

    **Arguments:** scripts: as many turns each; mode: "turns", or "requests" where every question comes first after the context;
    history: by turns, the answers that go before are the "true" ones, as published, or its "own"; ends: tokens before which
    an answer ends.

    **Raises:** `InputError` for an unknown mode or history.
    """
    require(mode in MODES, f"mode {mode!r}: give one of {', '.join(MODES)}.")
    require(history in HISTORIES, f"history {history!r}: give one of {', '.join(HISTORIES)}.")
    at = Session(model, texts=len(scripts), history=0)
    at.read([each.context for each in scripts])
    said: list[list[list[int]]] = [[] for _ in scripts]
    for turn in range(len(scripts[0].asks)):
        asked, first = at.fork(), turn == 0 or mode == "requests"
        asked.read([[*([] if first else each.before), *each.asks[turn]] for each in scripts])
        longest = max(len(each.answers[turn]) for each in scripts) + SPARE
        found = asked.fork().written(-(-longest // 8) * 8, ends=ends, read_last=False, temperature=0)
        for own, text in zip(said, found, strict=True):
            own.append(text.tokens[: len(text.tokens) - text.ended].tolist())
        if mode == "turns":
            answered = [each.answers[turn] for each in scripts] if history == "true" else [own[turn] for own in said]
            asked.read([[*answer, *each.behind] for answer, each in zip(answered, scripts, strict=True)])
            at = asked
    return said


def remember(
    model: LanguageModel,
    tokens: Tokens,
    examples: Sequence[Example],
    *,
    mode: str = "turns",
    history: str = "true",
    template: Template | None = None,
    ends: Sequence[int] = (),
    batch: int = 8,
    told: Callable[[int], None] | None = None,
) -> list[Turn]:
    """What a model says to each question of each example, and how it is scored.

    **Arguments:** batch: examples that go through it together; told: gets how many are done; others as of `answers`.

    **Raises:** `InputError` as `answers` does, and for a batch below 1.
    """
    require(batch >= 1, f"batch is {batch}; at least 1 example goes through the model.")
    template, found = template or template_of(tokens), []
    for begin in range(0, len(examples), batch):
        part = examples[begin : begin + batch]
        # The last batch is as large as the others, so that it is the same program.
        padded = [script(part[min(i, len(part) - 1)], tokens, template) for i in range(min(batch, len(examples)))]
        said = answers(model, padded, mode=mode, history=history, ends=ends)
        for i, example in enumerate(part):
            for turn, question in enumerate(example.questions):
                text = text_of(tokens, said[i][turn])
                got = score(question.score, text, question.answers)
                found.append(Turn(begin + i, turn, question.score, text, got))
        if told is not None:
            told(begin + len(part))
    return found
