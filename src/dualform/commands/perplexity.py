"""`dualform perplexity`: how well a model predicts a text with a bounded memory."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from dualform.commands.options import Options, Read, drops
from dualform.errors import require
from dualform.reading import whole


@dataclass(frozen=True)
class Perplexity(Options):
    """Measure how well a language model predicts a text, under each policy and each bound on its memory.

    Passages are spread evenly over the text; each is read from its own beginning, token by token.
    """

    text: Path
    """A file of text."""
    model: str = "smollm2"
    """A checkpoint's file or folder, or a name; `dualform models` lists some."""
    policy: str = "full"
    """Policies with commas between them: full, window, window+4, tova, tova-head, tova-newest, h2o, h2o-layer, snapkv, random."""
    states: str | None = None
    """How many keys and values each layer keeps, with commas between the numbers; 64,128,256,512 by default; full keeps all."""
    passages: int = 16
    """How many passages; fewer where the text is short."""
    length: int = 2048
    """Tokens of a passage."""
    rerotate: bool = False
    """Count positions anew among the kept states."""
    RULES: ClassVar = (
        Read(("states", "rerotate"), lambda given: drops(given.policy), "of a policy that drops some; full keeps all."),
    )

    def __call__(self) -> int:
        """Run it, and return the exit code."""
        from dualform.checkpoints.loading import load
        from dualform.checkpoints.tokens import beginning
        from dualform.generation import bounded, passages_of, perplexity, policy
        from dualform.models import with_context
        from dualform.reading import text_of_file
        from dualform.reports.console import Console

        self.check_options()
        states = whole_numbers("--states", "64,128,256,512" if self.states is None else self.states)
        chosen = {name: policy(name) for name in self.policy.split(",")}
        chosen = dict(
            sorted(chosen.items(), key=lambda each: not each[1].whole)
        )  # full first: the others are held to it
        loaded = language_model(load(self.model))
        begin = beginning(loaded.tokens)
        tokens = loaded.encode(text_of_file(self.text))[len(begin) :]
        passages = passages_of(tokens, self.passages, self.length, begin)
        # The first token is given in any case; where several stand before a text, none of them is predicted.
        options = {"given": len(begin)} if len(begin) > 1 else {}
        console = Console()
        console.perplexities(loaded.name, str(self.text), *passages.shape)
        whole = None
        for name, by in chosen.items():
            for count in states if not by.whole else (0,):
                model = bounded(loaded.model, by, count, rerotate=self.rerotate) if count else loaded.model
                found = perplexity(model if count else with_context(model, self.length), passages, **options)
                whole = found if by.whole else whole
                console.perplexity(name, count or None, found, whole)
        return 0


def language_model(loaded):
    """What was loaded, where it is a language model.

    **Raises:** `InputError` where it is another.
    """
    from dualform.models import LanguageModel

    require(
        isinstance(loaded.model, LanguageModel),
        f"{loaded.name} is a {loaded.architecture}, which predicts no next token. Give a language model.",
    )
    return loaded


def whole_numbers(option: str, said: str) -> tuple[int, ...]:
    """Numbers with commas between them.

    **Raises:** `InputError` unless all are whole and at least 1.
    """
    numbers = tuple(whole(part.strip()) or 0 for part in said.split(","))
    require(
        min(numbers) >= 1,
        f"{option} {said}: give whole numbers of at least 1 with commas between them, such as 64,128.",
    )
    return numbers
