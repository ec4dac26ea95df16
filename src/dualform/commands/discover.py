"""`dualform discover`: train a gated RNN on an attention head, take it apart, and report."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

from dualform.commands.options import Options, Read
from dualform.errors import DivergedError, require


@dataclass(frozen=True)
class Discover(Options):
    """Train a gated RNN on an attention head by AdamW, reverse-engineer it, and say whether and how it implements attention.

    A second stage, of second order, follows apart: the verdict does not rest on it. The same command goes on where it was
    stopped, and ends with the same numbers.
    """

    teacher: str | None = None
    """An embedded head's name ("default"), "gaussian", or a safetensors file with w_v, w_k, w_q and, if any, w_o, inputs.
    By default the preset's."""
    preset: Literal["default", "quick", "paper"] = "default"
    """default: a head of a real model, linearised, on four whitened directions of its activations on real text. quick: the same,
    smaller. paper: a Gaussian teacher, 100 units, five seeds, and the paper's own recipe beside it."""
    n: int | None = None
    """Hidden units to begin with."""
    m: int | None = None
    """Pre-readout units to begin with."""
    steps: int | None = None
    """First-order training steps."""
    d: int | None = None
    """Width of a Gaussian teacher."""
    rank: int | None = None
    """Rank of a Gaussian teacher's W_V; full by default."""
    seed: int = 0
    """The first seed; of the student, the data and a Gaussian teacher."""
    seeds: int | None = None
    """How many seeds, one run each."""
    paper_recipe: Literal["auto", "yes", "no"] = "auto"
    """Also train the same student by the paper's recipe, for as many steps, and show its numbers; auto: for the preset paper."""
    out: Path | None = None
    """The run's folder; runs/PRESET-SEED by default."""
    RULES: ClassVar = (
        Read(
            ("d", "rank"),
            lambda given: (given.teacher or ("gaussian" if given.preset == "paper" else "")) == "gaussian",
            "of --teacher gaussian; every other has its own.",
        ),
    )

    def __call__(self) -> int:
        """Run it, and return the exit code."""
        from dualform.experiments.gated_rnn.identification import identify, preset
        from dualform.reports.console import Console
        from dualform.reports.discovery_page import write_discovery_page
        from dualform.room import check_fits

        self.check_options()
        config, paper = preset(self.preset), self.preset == "paper"
        asked = {name: getattr(self, name) for name in ("teacher", "n", "m", "d", "rank")}
        config = replace(config, **{name: value for name, value in asked.items() if value is not None})
        if self.steps is not None:
            warmup = min(config.fit.warmup, self.steps // 4)
            config = replace(config, fit=replace(config.fit, steps=self.steps, warmup=warmup))
        seeds = self.seeds if self.seeds is not None else 5 if paper else 1
        require(seeds >= 1, f"--seeds {seeds}: at least one seed is needed.")
        # Students are drawn by jax.random.key alone, which has so many where float64 is not enabled.
        require(self.seed + seeds <= 2**32, f"--seed {self.seed}: the last seed must be below 2^32.")
        require(
            self.out is None or seeds == 1,
            f"--out names one run; {seeds} seeds need one each. Leave it out, or --seeds 1.",
        )
        numbers = 2 * (config.n + config.m) * (config.d + 1 + config.n)
        check_fits(4 * numbers, f"a student of n {config.n:,} and m {config.m:,}", "Give fewer units.")
        console, results = Console(), []
        for seed in range(self.seed, self.seed + seeds):
            folder = self.out or Path("runs") / f"{self.preset}-{seed}"
            recipe = paper if self.paper_recipe == "auto" else self.paper_recipe == "yes"
            with console.progress(folder) as progress:
                try:
                    result = identify(replace(config, seed=seed), folder, paper_recipe=recipe, on_progress=progress)
                except DivergedError as error:
                    raise DivergedError(
                        f"{error} Here they are the preset's: give another --preset or --seed."
                    ) from error
                page = write_discovery_page(folder)
            console.verdict(result, page)
            results.append(result)
        if len(results) > 1:
            console.summary(results)
        return 0
