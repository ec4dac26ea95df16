"""`dualform discover`: train a gated RNN on an attention head, take it apart, and report."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from dualform.commands import flags
from dualform.commands.flags import option
from dualform.commands.options import Options, Read
from dualform.errors import DivergedError, require


@dataclass(frozen=True)
class Discover(Options):
    """Train a gated RNN on an attention head by AdamW, reverse-engineer it, and say whether and how it implements attention.

    A second stage, of second order, follows apart: the verdict does not rest on it. The same command goes on where it was
    stopped, and ends with the same numbers.
    """

    teacher: Annotated[str | None, flags.teacher("the preset's")] = None
    preset: Annotated[
        Literal["default", "quick", "paper"],
        flags.preset(
            "default: a head of a real model, linearised, on four whitened directions of its activations on real text. quick: "
            "a smaller student of that head. paper: a Gaussian teacher, 100 units, five seeds, and the paper's own recipe "
            "beside it."
        ),
    ] = "default"
    n: Annotated[int | None, option("N", "Hidden units to begin with.", "the preset's")] = None
    m: Annotated[int | None, option("N", "Pre-readout units to begin with.", "the preset's")] = None
    steps: Annotated[int | None, option("N", "Training steps. Of first order.", "the preset's")] = None
    d: Annotated[int | None, flags.width("the preset's")] = None
    rank: Annotated[int | None, flags.RANK] = None
    seed: Annotated[int, flags.seed("With --seeds the first.")] = 0
    seeds: Annotated[int | None, option("N", "How many seeds, one run each.", "5 for the preset paper, else 1")] = None
    paper_recipe: Annotated[
        Literal["auto", "yes", "no"],
        option(
            None,
            "Also train such a student by the paper's recipe, for as many steps, and show its numbers; auto: for the preset "
            "paper.",
        ),
    ] = "auto"
    out: Annotated[Path | None, flags.out("The run's folder.", "runs/PRESET-SEED")] = None
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
        from dualform.reports.discovery_page import write_discovery_page
        from dualform.reports.terminal import Terminal
        from dualform.reports.terminal import discover as prints
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
        terminal, results = Terminal(), []
        for seed in range(self.seed, self.seed + seeds):
            folder = self.out or Path("runs") / f"{self.preset}-{seed}"
            recipe = paper if self.paper_recipe == "auto" else self.paper_recipe == "yes"
            with prints.progress(terminal, folder) as progress:
                try:
                    result = identify(replace(config, seed=seed), folder, paper_recipe=recipe, on_progress=progress)
                except DivergedError as error:
                    raise DivergedError(
                        f"{error} Here they are the preset's: give another --preset or --seed."
                    ) from error
                page = write_discovery_page(folder)
            prints.verdict(terminal, result, page)
            results.append(result)
        if len(results) > 1:
            prints.summary(terminal, results)
        return 0
