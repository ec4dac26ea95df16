"""`dualform attend`: what a model attends to, with the number that proves it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from tyro.conf import Positional, arg

from dualform.commands.options import OF_A_POLICY, Options, Read, drops
from dualform.errors import require
from dualform.reading import text_of_file

DEFAULT_MODEL, DEFAULT_TEXT = "characters", "First Citizen:\nBefore we proceed any further, hear me speak.\n"


@dataclass(frozen=True)
class Attend(Options):
    """Show what a model attends to: exact maps of the whole and of each layer, and the number that proves each.

    Without a model, a small one that comes with the package, on a text of its own.
    """

    model: Positional[str | None] = None
    """A checkpoint's file or folder, or a name: characters (the default) and recall come with the package, `dualform models` has
    others."""
    named: Annotated[str | None, arg(name="model")] = None
    """The same as an option."""
    text: str | None = None
    """What the model reads; of g2p-en a word."""
    input: Path | None = None
    """A file of text; a WAV file for a model that listens; or activations, (time, d), in an .npy file for a bare layer."""
    layer: str = "all"
    """One layer, by the name that the page shows, or all."""
    target: Literal["logit", "token", "state"] = "logit"
    """logit: the model's choice at each token, or --output. token: the last layer's output. state: what is remembered in the
    end."""
    method: str = "contributions"
    """contributions: the exact sum. For one logit also raw, rollout, gradient-weighted, gradient, "integrated gradients" and
    occlusion."""
    place: int | None = None
    """The token, from 0, at which another method explains the logit; the last by default."""
    output: str | None = None
    """The output whose logit is asked for: the text of a token, or a number."""
    against: str | None = None
    """Another output, whose logit is subtracted."""
    policy: str | None = None
    """What a language model's softmax attention keeps while it reads: full, window, window+4, tova, h2o, snapkv, random, ...; the
    page then shows what is kept after each token."""
    states: int | None = None
    """How many keys and values each layer keeps; 64 where a policy is given, with full all."""
    rerotate: bool = False
    """Count positions anew among the kept states."""
    out: Path = Path("attention.html")
    """The page; a name without .html is a folder for `dualform serve`, for maps too large for a page."""
    figure: Path | None = None
    """What is kept under a policy as a picture, too: a name that ends in .png or .svg."""
    RULES: ClassVar = (
        Read(("states", "rerotate", "figure"), lambda given: given.policy is not None, OF_A_POLICY),
        Read(("rerotate",), lambda given: drops(given.policy), "of a policy that drops some; full keeps every place."),
    )

    def __call__(self) -> int:
        """Run it, and return the exit code."""
        from dualform.checkpoints.loading import load
        from dualform.reports.attend import Bound, Question, attend, write_view
        from dualform.reports.console import Console
        from dualform.reports.kept_figure import check_picture, write_kept_figure
        from dualform.tensor_file import check_writable

        self.check_options()
        model = self._model()
        source = self._source(model)
        if self.figure is not None:
            check_picture(self.figure)
            check_writable(self.figure)
        check_writable(self.out, folder=self.out.suffix.lower() not in (".html", ".htm"))
        bound = None if self.policy is None else Bound(self.policy, self.states, self.rerotate)
        question = Question(self.layer, self.target, self.method, self.place, self.output, self.against)
        question.check()
        view, console = attend(load(model), source, question, bound), Console()
        console.attention(view, write_view(view, self.out))
        if view.kept is not None:
            console.kept(view.kept)
            if self.figure is not None:
                console.got([write_kept_figure(view.kept, view.tokens, self.figure)])
        return 0

    def _model(self) -> str:
        """Which model, however it is given."""
        require(
            self.named is None or self.model is None,
            f"two models are given, {self.model} and --model {self.named}; give one of them.",
        )
        given = self.model if self.named is None else self.named
        return DEFAULT_MODEL if given is None else given

    def _source(self, model: str) -> str | Path:
        require(self.text is None or self.input is None, "--text and --input are both given; give one of them.")
        if self.text is not None:
            return self.text
        if self.input is None:
            require(model == DEFAULT_MODEL, f"what shall {model} read? Give --text '...' or --input FILE.")
            return DEFAULT_TEXT
        if self.input.suffix.lower() in (".wav", ".npy"):
            return self.input
        return text_of_file(self.input, "a text or a WAV file")
