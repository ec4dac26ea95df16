"""`dualform perplexity`: how well a model predicts a text with a bounded memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from dualform.commands import flags
from dualform.commands.flags import option
from dualform.commands.options import Options, Read, drops
from dualform.errors import require


@dataclass(frozen=True)
class Perplexity(Options):
    """Measure how well a language model predicts a text, under each policy and each bound on its memory.

    Passages are spread evenly over the text; each is read from its own beginning, token by token.
    """

    file: Annotated[Path, flags.file()]
    model: Annotated[str, flags.MODEL] = "smollm2"
    policy: Annotated[tuple[str, ...], flags.policy("Several are compared.", several=True)] = ("full",)
    states: Annotated[tuple[int, ...] | None, flags.states("64 128 256 512", several=True)] = None
    passages: Annotated[int, option("N", "How many passages; fewer where the text is short.")] = 16
    length: Annotated[int, flags.length("A text is a passage here.")] = 2048
    rerotate: Annotated[bool, flags.REROTATE] = False
    RULES: ClassVar = (
        Read(
            ("states", "rerotate"), lambda given: drops(*given.policy), "of a policy that drops some; full keeps all."
        ),
    )

    def __call__(self) -> int:
        """Run it, and return the exit code."""
        from dualform.checkpoints.loading import load
        from dualform.checkpoints.tokens import beginning
        from dualform.generation import bounded, passages_of, perplexity
        from dualform.models import with_context
        from dualform.reading import text_of_file
        from dualform.reports.terminal import Terminal
        from dualform.reports.terminal import perplexity as prints

        self.check_options()
        bounds = chosen_bounds(self.policy, (64, 128, 256, 512) if self.states is None else self.states)
        bounds.sort(key=lambda bound: bound[1] is not None)  # full first: the others are held to it
        loaded = language_model(load(self.model))
        begin = beginning(loaded.tokens)
        tokens = loaded.encode(text_of_file(self.file))[len(begin) :]
        passages = passages_of(tokens, self.passages, self.length, begin)
        # The first token is given in any case; where several stand before a text, none of them is predicted.
        options = {"given": len(begin)} if len(begin) > 1 else {}
        terminal = Terminal()
        prints.head(terminal, loaded.name, str(self.file), *passages.shape)
        whole = None
        for name, count in bounds:
            if count is None:
                model = with_context(loaded.model, self.length)
            else:
                model = bounded(loaded.model, name, count, rerotate=self.rerotate)
            measured = perplexity(model, passages, **options)
            whole = measured if count is None else whole
            prints.row(terminal, name, count, measured, whole)
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


def chosen_bounds(policies: Sequence[str], states: Sequence[int]) -> list[tuple[str, int | None]]:
    """Each policy by name with each number of states, and None beside one that keeps everything.

    **Raises:** `InputError` for a policy that there is not, and a number of states below 1.
    """
    from dualform.generation import policy

    require(min(states, default=0) >= 1, f"--states {' '.join(map(str, states))}: give whole numbers of at least 1.")
    whole = {name: policy(name).whole for name in policies}
    return [(name, count) for name in whole for count in ((None,) if whole[name] else states)]
