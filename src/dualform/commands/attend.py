"""`dualform attend`: what a model attends to, with the number that proves it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from dualform.commands import flags
from dualform.commands.flags import option
from dualform.commands.options import OF_A_POLICY, Options, Read, drops
from dualform.commands.sources import NOTHING, source_of
from dualform.errors import require

DEFAULT_TEXT = "First Citizen:\nBefore we proceed any further, hear me speak.\n"


@dataclass(frozen=True)
class Attend(Options):
    """Show what a model attends to: exact maps of the whole and of each layer, and the number that proves each.

    Without a model, a small one that comes with the package, on a text of its own.
    """

    model: Annotated[str, flags.MODEL] = "characters"
    text: Annotated[str | None, flags.text("Of g2p-en a word.")] = None
    file: Annotated[
        Path | None,
        flags.file("A model that listens reads a WAV file, and a bare layer activations, (time, d), in an .npy file."),
    ] = None
    layer: Annotated[str, flags.layer("The page shows their names.")] = "all"
    target: Annotated[
        Literal["logit", "token", "state"],
        option(
            None,
            "What is explained. logit: the model's choice at each token, or --logit. token: the last layer's output. state: "
            "what is remembered in the end.",
        ),
    ] = "logit"
    method: Annotated[
        str,
        option(
            "METHOD",
            "contributions: the exact sum. For one logit also raw, rollout, gradient-weighted, gradient, 'integrated "
            "gradients' and occlusion.",
        ),
    ] = "contributions"
    place: Annotated[
        int | None, option("N", "The token, from 0, at which another method explains the logit.", "the last")
    ] = None
    logit: Annotated[
        str | None,
        option(
            "TOKEN",
            "The output whose logit is explained: the text of a token, or a number.",
            "the largest at each token",
        ),
    ] = None
    against: Annotated[str | None, option("TOKEN", "Another output, whose logit is subtracted.")] = None
    policy: Annotated[
        str | None, flags.policy("Of a language model; the page then shows what is kept after each token.")
    ] = None
    states: Annotated[int | None, flags.states("64")] = None
    rerotate: Annotated[bool, flags.REROTATE] = False
    out: Annotated[
        Path,
        flags.out(
            "A name that ends in .html is a page; another a folder for `dualform serve`, of maps too large for a page."
        ),
    ] = Path("attention.html")
    figure: Annotated[
        Path | None,
        option("FILE", "Draw what is kept under a policy as a picture, too: a name that ends in .png or .svg."),
    ] = None
    RULES: ClassVar = (
        Read(("states", "rerotate", "figure"), lambda given: given.policy is not None, OF_A_POLICY),
        Read(("rerotate",), lambda given: drops(given.policy), "of a policy that drops some; full keeps every place."),
    )

    def __call__(self) -> int:
        """Run it, and return the exit code."""
        from dualform.checkpoints.loading import load
        from dualform.reports.attend import Bound, Question, attend, write_view
        from dualform.reports.kept_figure import check_picture, write_kept_figure
        from dualform.reports.terminal import Terminal
        from dualform.reports.terminal import attend as prints
        from dualform.tensor_file import check_writable

        self.check_options()
        source = self._source()
        if self.figure is not None:
            check_picture(self.figure)
            check_writable(self.figure)
        check_writable(self.out, folder=self.out.suffix.lower() not in (".html", ".htm"))
        bound = None if self.policy is None else Bound(self.policy, self.states, self.rerotate)
        question = Question(self.layer, self.target, self.method, self.place, self.logit, self.against)
        question.check()
        view, terminal = attend(load(self.model), source, question, bound), Terminal()
        prints.attention(terminal, view, write_view(view, self.out))
        if view.kept is not None:
            prints.kept(terminal, view.kept)
            if self.figure is not None:
                terminal.paths([write_kept_figure(view.kept, view.tokens, self.figure)])
        return 0

    def _source(self) -> str | Path:
        """What the model reads: words, or the file of what no words are."""
        source = source_of(self.text, self.file, (".wav", ".npy"), "a text or a WAV file")
        if source is None:
            require(self.model == Attend.model, NOTHING.format(self.model))
            return DEFAULT_TEXT
        return source
