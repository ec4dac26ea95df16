"""`dualform steer`: a model's text moved by the difference between two sets of texts."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from tyro.conf import Positional

from dualform.commands import flags
from dualform.commands.flags import option
from dualform.commands.options import Options, Read
from dualform.errors import InputError, require

PASSAGES, TIME, GIVEN = 8, 128, 16
"""Passages of the text that costs are measured on, their tokens, and how many of these are read as a prompt."""


@dataclass(frozen=True)
class Steer(Options):
    """Write a text as a model does, and steered, at the same draws: toward one set of texts, away from another.

    The mean difference between what a layer gives for the one and for the other is added to it, so many times.
    """

    model: Annotated[Positional[str], flags.LOOKED_INTO]
    prompt: Annotated[str | None, option("TEXT", "What it goes on from.")] = None
    toward: Annotated[Path | None, option("FILE", "Texts to steer toward, one in each line of this file.")] = None
    away: Annotated[Path | None, option("FILE", "Texts to steer away from, one in each line of this file.")] = None
    vector: Annotated[Path | None, option("FILE", "A vector that --out wrote, instead of --toward and --away.")] = None
    layer: Annotated[str | None, flags.layer("Such as 'block 2'; without it the one in the middle.")] = None
    state: Annotated[
        bool,
        option(
            None, "Add to what a layer remembers, before each token, and not to what it gives. It has a fixed size."
        ),
    ] = False
    once: Annotated[bool, option(None, "Add to what is remembered a single time, before the prompt's last token.")] = (
        False
    )
    times: Annotated[
        tuple[float, ...], option("X [X ...]", "Doses: how often the difference is added. Below 0 it is taken away.")
    ] = (1.5,)
    file: Annotated[
        Path | None,
        flags.file("Held out: each dose is given with the perplexity that the steered model has on it."),
    ] = None
    length: Annotated[int, flags.length("Those that are written.")] = 80
    temperature: Annotated[float, option("NUMBER", "How even the draws are; 0 for the likeliest token each time.")] = (
        0.8
    )
    seed: Annotated[int | None, flags.seed(default="0")] = None
    out: Annotated[Path | None, flags.out("The vector, which --vector reads again.", "nowhere")] = None
    RULES: ClassVar = (
        Read(
            ("toward", "away", "layer", "state", "out"),
            lambda given: given.vector is None,
            "of a vector that is made; --vector has its own.",
        ),
        Read(
            ("once",),
            lambda given: given.state or given.vector is not None,
            "of what is remembered; give --state.",
        ),
        Read(("seed",), lambda given: given.temperature != 0, "of draws; at --temperature 0 the likeliest is taken."),
        Read(
            ("length", "temperature", "seed", "file"),
            lambda given: given.prompt is not None,
            "of a text; give --prompt.",
        ),
    )

    def __call__(self) -> int:
        """Run it, and return the exit code."""
        import math

        from dualform.checkpoints.loading import load
        from dualform.commands.perplexity import language_model
        from dualform.lenses import SteeringVector
        from dualform.reports.terminal import Terminal
        from dualform.reports.terminal import steer as prints
        from dualform.tensor_file import check_writable

        self.check_options()
        require(self.length >= 1, f"--length {self.length}: give at least 1 token.")
        wrong = [dose for dose in self.times if not math.isfinite(dose)]
        require(not wrong, f"--times {wrong[0] if wrong else ''}: give finite numbers, such as 1.5.")
        require(
            self.vector is not None or (self.toward is not None and self.away is not None),
            "give --toward FILE and --away FILE, with a text in each line, or --vector FILE.",
        )
        require(self.prompt is not None or self.out is not None, "give --prompt TEXT to write from, or --out FILE.")
        if self.out is not None:
            check_writable(self.out)
        loaded = language_model(load(self.model))
        if self.prompt is not None:
            loaded.encode(self.prompt)
        vector = self._made(loaded) if self.vector is None else SteeringVector.load(self.vector, loaded.model)
        terminal = Terminal()
        prints.head(terminal, loaded.name, vector)
        if self.prompt is not None:
            doses = tuple(dict.fromkeys((0.0, *self.times)))
            costs = self._costs(loaded, vector, doses)
            for dose, cost in zip(doses, costs, strict=True):
                prints.row(terminal, dose, self._text(loaded, vector, dose), cost, costs[0])
        if self.out is not None:
            vector.save(self.out)
            terminal.paths([self.out])
        return 0

    def _made(self, loaded: Any) -> Any:
        """The vector from the two files."""
        from dualform.lenses import contrast

        assert self.toward is not None and self.away is not None
        toward, away = ([loaded.encode(line) for line in _lines(path)] for path in (self.toward, self.away))
        return contrast(loaded.model, toward, away, self._places(loaded.model))

    def _places(self, model: Any) -> list[str]:
        """Where the vector is taken and added."""
        from dualform.lenses import steerable

        what = "state" if self.state else "out"
        known = [place for place in steerable(model) if place.endswith(f".{what}")]
        if self.layer == "all":
            require(len(known) >= 1, "no layer of this model has a state of a fixed size; leave --state out.")
            return known
        layers = [name for name, _ in model.stages() if name.startswith("block ")]
        layer = layers[(len(layers) - 1) // 2] if self.layer is None else self.layer
        if layer not in layers:
            raise InputError(f"there is no layer {layer!r} to steer; there are {', '.join(layers)}.")
        return [f"{layer}.{what}"]

    def _adding(self) -> Any:
        """When states are added to."""
        return "once" if self.once else "each"

    def _text(self, loaded: Any, vector: Any, dose: float) -> str:
        """What is written behind the prompt."""
        from dualform.commands.generate import ends_of
        from dualform.counts import key_of
        from dualform.generation import written
        from dualform.lenses import steered_session

        session = steered_session(loaded.model, loaded.encode(self.prompt), vector, dose, states=self._adding())
        key, ends = key_of(0 if self.seed is None else self.seed), ends_of(loaded.record)
        ids = session.write(self.length, ends=ends, key=key, temperature=self.temperature)
        return "".join(written(loaded.tokens, ids, self.length, (), ends))

    def _costs(self, loaded: Any, vector: Any, doses: tuple[float, ...]) -> list[Any]:
        """The perplexity of the held-out text at each dose; None where there is no text."""
        from dualform.checkpoints.tokens import beginning
        from dualform.generation import passages_of
        from dualform.lenses import steered_perplexity
        from dualform.reading import text_of_file

        if self.file is None:
            return [None for _ in doses]
        begin = beginning(loaded.tokens)
        tokens = loaded.encode(text_of_file(self.file))[len(begin) :]
        length = min(TIME, len(tokens) + len(begin))
        given = min(max(GIVEN, len(begin)), length - 1)
        require(given >= 1, f"{str(self.file)!r} has a single token; nothing of it is foretold. Give a longer text.")
        passages = passages_of(tokens, PASSAGES, length, begin)
        cost = lambda dose: steered_perplexity(loaded.model, passages, vector, dose, given=given, states=self._adding())
        return [cost(dose) for dose in doses]


def _lines(path: Path) -> list[str]:
    """The lines of a file that have something in them.

    **Raises:** `InputError` where there is none.
    """
    from dualform.reading import text_of_file

    lines = [line for line in text_of_file(path).split("\n") if line.strip()]
    require(len(lines) >= 1, f"{str(path)!r} has no line with a text.")
    return lines
