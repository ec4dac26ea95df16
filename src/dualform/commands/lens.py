"""`dualform lens`: what each layer of a model would already say, token by token."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from tyro.conf import Positional

from dualform.commands import flags
from dualform.commands.flags import option
from dualform.commands.options import Options, Read
from dualform.commands.sources import NOTHING, source_of
from dualform.errors import InputError, require
from dualform.reading import text_of_file

PAGE, WEIGHTS = Path("lens.html"), Path("lens.safetensors")


@dataclass(frozen=True)
class Lens(Options):
    """Show what each layer of a model would already say, token by token: a table here, and a page.

    The logit lens reads each layer through the model's own final norm and unembedding. A tuned lens translates it first: with
    --train it is trained on a text, whose last tenth it is then measured on. The same command goes on where it was stopped.
    """

    model: Annotated[Positional[str], flags.LOOKED_INTO]
    text: Annotated[str | None, flags.text()] = None
    file: Annotated[Path | None, flags.file("With --train what the lens is trained on.")] = None
    tuned: Annotated[
        Path | None, option("FILE", "A tuned lens that was trained for this model, beside the logit lens.")
    ] = None
    attention: Annotated[
        Path | None,
        option("PATH", "The attention page of the same text, too: a name that ends in .html. Each links the other."),
    ] = None
    train: Annotated[bool, option(None, "Train a tuned lens on the text of --file.")] = False
    steps: Annotated[int, option("N", "Training steps.")] = 250
    batch: Annotated[int, flags.batch("In training, windows of a step.")] = 16
    length: Annotated[int, flags.length("A text is a window here.")] = 128
    rate: Annotated[float, flags.rate("It falls to 0 in a line.")] = 1.0
    seed: Annotated[int, flags.seed()] = 0
    out: Annotated[
        Path | None,
        flags.out(
            "The page; with --train the tuned lens, beside which a run's folder has its checkpoints.",
            "lens.html, with --train lens.safetensors",
        ),
    ] = None
    RULES: ClassVar = (
        Read(
            ("steps", "batch", "length", "rate", "seed"),
            lambda given: given.train,
            "of a training; give --train.",
        ),
        Read(
            ("text", "tuned", "attention"),
            lambda given: not given.train,
            "of a reading; a lens is trained on the text of --file, without it.",
        ),
    )

    def __call__(self) -> int:
        """Run it, and return the exit code."""
        from dualform.reports.terminal import Terminal

        self.check_options()
        return self._trained(Terminal()) if self.train else self._read(Terminal())

    def _trained(self, terminal: Any) -> int:
        """Train, or go on, and say what came of it."""
        from dualform.checkpoints.loading import load
        from dualform.lenses import LensConfig
        from dualform.lenses.lens_run import train_on_text
        from dualform.reports.terminal import lens as prints
        from dualform.tensor_file import check_writable

        if self.file is None:
            raise InputError("--train needs a text to train on; give --file FILE.")
        config = LensConfig(self.steps, self.batch, self.length, self.rate, seed=self.seed)
        out = WEIGHTS if self.out is None else self.out
        folder = out.with_name(f"{out.name}.run")
        check_writable(out)
        check_writable(folder, folder=True)
        loaded, text = load(self.model), text_of_file(self.file)
        with prints.progress(terminal, loaded.name, config, folder) as tell:
            result = train_on_text(loaded, text, config, out, folder, tell)
        prints.trained(terminal, result, out, self.model)
        return 0

    def _read(self, terminal: Any) -> int:
        """Look at a text, and write the page, or both pages."""
        from dualform.checkpoints.loading import load
        from dualform.lenses import load_lens
        from dualform.reports.attend import attend
        from dualform.reports.attention_page import write_attention_page
        from dualform.reports.lens import linked, look
        from dualform.reports.lens_page import write_lens_page
        from dualform.reports.terminal import lens as prints
        from dualform.tensor_file import check_writable

        source, out = self._source(), PAGE if self.out is None else self.out
        check_writable(out)
        if self.attention is not None:
            html = self.attention.suffix.lower() in (".html", ".htm")
            require(
                html and self.attention != out, f"--attention {self.attention}: give another name that ends in .html."
            )
            check_writable(self.attention)
        loaded = load(self.model)
        tuned = None if self.tuned is None else load_lens(self.tuned, loaded.model)
        view = look(loaded, source, tuned)
        if self.attention is None:
            view = linked(view, out, command=self._attention_command())
            paths = [write_lens_page(view, out)]
        else:
            view, beside = linked(view, out, self.attention), attend(loaded, source)
            paths = [
                write_lens_page(view, out),
                write_attention_page(linked(beside, self.attention, out), self.attention),
            ]
        prints.reading(terminal, view)
        terminal.paths(paths)
        return 0

    def _source(self) -> str | Path:
        """What the model reads: words, or the file of what no words are."""
        source = source_of(self.text, self.file, (".npy",))
        if source is None:
            raise InputError(NOTHING.format(self.model))
        return source

    def _attention_command(self) -> str:
        """What writes the attention page of the same model and text."""
        text = ["--file", str(self.file)] if self.text is None else ["--text", self.text]
        return shlex.join(["dualform", "attend", "--model", self.model, *text, "--out", "attention.html"])
