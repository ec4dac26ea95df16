"""`dualform train`: train a model on a task, in a folder that repeats it."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from tyro.conf import Positional

from dualform.commands import flags
from dualform.commands.flags import option
from dualform.commands.options import Options, Read
from dualform.errors import require


@dataclass(frozen=True)
class Train(Options):
    """Train a model of any mixers on a task, and measure it on sequences that training never saw.

    The same command goes on where it was stopped, and ends with the same numbers. The folder's run.toml says all that the
    training was told, and repeats it: `dualform train --config run.toml`. The weights are model.safetensors: every
    other command takes the folder as its model.
    """

    task: Annotated[
        Positional[str | None],
        flags.task("that of the config"),
    ] = None
    config: Annotated[
        Path | None, option("FILE", "A run.toml to begin with; what is said beside it goes before what it says.")
    ] = None
    mixer: Annotated[
        tuple[str, ...],
        option("NAME [NAME ...]", "Mixers of `dualform mixers`; with several, blocks take them in turn.", "gla"),
    ] = ()
    width: Annotated[int | None, option("N", "Width of the model.", "64")] = None
    layers: Annotated[int | None, option("N", "Layers of a stack. In training, residual blocks.", "2")] = None
    steps: Annotated[int | None, option("N", "Training steps.", "1000")] = None
    batch: Annotated[int | None, flags.batch("In training, those of a step.", "the task's")] = None
    rate: Annotated[float | None, flags.rate("It is reached after a tenth of the steps.", "0.003")] = None
    precision: Annotated[
        Literal["full", "bfloat16"] | None,
        option(None, "In what matrices and inputs are computed; the weights that are trained stay in float32.", "full"),
    ] = None
    dropout: Annotated[
        float | None,
        option("X", "The share of numbers that a step sets to 0, behind the embedding and in residual branches.", "0"),
    ] = None
    carry: Annotated[
        bool | None,
        option(
            None, "Read text on from step to step, from the states that the last step left; gradients end there.", "off"
        ),
    ] = None
    rematerialise: Annotated[
        bool | None, option(None, "Compute each block anew for the gradient: less memory, more time.", "off")
    ] = None
    set: Annotated[
        tuple[str, ...],
        option(
            "KEY=VALUE [KEY=VALUE ...]",
            "Any other key of run.toml, such as settings.time=128 (of the task), model.options.heads=4 (of the mixers), "
            "model.mlp=none or fit.patience=5.",
        ),
    ] = ()
    seed: Annotated[int | None, flags.seed("With --seeds the first.", default="0")] = None
    seeds: Annotated[int | None, option("N", "How many seeds, one run each.", "1")] = None
    together: Annotated[bool, option(None, "All seeds side by side in one compiled program, each with its folder.")] = (
        False
    )
    data: Annotated[
        Path | None, flags.data("A task that reads files says in `dualform tasks NAME` which, and where they are from.")
    ] = None
    tokenizer: Annotated[
        Path | None,
        option("FILE", "The tokenizer.json by which text is read; the folder keeps it.", "each character is a token"),
    ] = None
    devices: Annotated[
        int | None,
        option(
            "N",
            "Devices of each host that share every batch; on a CPU so many are simulated.",
            "one; with --hosts all that it has",
        ),
    ] = None
    hosts: Annotated[
        int | None, option("N", "Machines that train together; the command is started on each of them.", "1")
    ] = None
    host: Annotated[int | None, option("N", "The number of this machine, from 0; the first one keeps the folder.")] = (
        None
    )
    coordinator: Annotated[
        str | None, option("ADDRESS", "HOST:PORT of host 0, with a port that is free there, such as 10.0.0.1:1234.")
    ] = None
    out: Annotated[
        Path | None, flags.out("The run's folder; with several seeds, one in it for each.", "runs/TASK-MIXER-SEED")
    ] = None

    RULES: ClassVar[tuple[Read, ...]] = (
        Read(("together",), lambda command: (command.seeds or 1) > 1, "of several seeds; give --seeds."),
        Read(("host", "coordinator"), lambda command: command.hosts is not None, "of several hosts; give --hosts."),
    )

    def __call__(self) -> int:
        """Run it, and return the exit code."""
        from dualform.training.devices import simulated
        from dualform.training.hosts import check_hosts, joined

        self.check_options()
        if self.devices is not None:
            simulated(self.devices)
        if self.hosts is None:
            return self._run()
        check_hosts(self.coordinator, self.hosts, self.host)
        with joined(self.coordinator or "", self.hosts, self.host or 0):
            return self._run()

    def _devices(self) -> list[Any] | None:
        """The devices that share each batch; None for the one that JAX takes by itself."""
        from dualform.training.devices import of_each_process

        return None if self.devices is None and self.hosts is None else of_each_process(self.devices)

    def _run(self) -> int:
        from dualform.reports.terminal import Terminal
        from dualform.reports.terminal import train as prints
        from dualform.reports.training_page import write_training_page
        from dualform.tensor_file import check_writable
        from dualform.training.recipe import Recipe
        from dualform.training.samples import write_samples

        devices = self._devices()
        where = "the command" if self.config is None else repr(str(self.config))
        told = self._told()
        first = Recipe.of(told if self.seed is None else told | {"seed": self.seed}, where).seed
        seeds = 1 if self.seeds is None else self.seeds
        require(seeds >= 1, f"--seeds {seeds}: at least one seed is needed.")
        recipes = [Recipe.of(told | {"seed": seed}, where) for seed in range(first, first + seeds)]
        terminal, results = Terminal(), []
        folders = [self._folder(recipe, seeds) for recipe in recipes]
        if seeds > 1 and not self.host:
            self._check_folders(recipes, folders)
        done = self._side_by_side(terminal, recipes, folders) if self.together else []
        for i, (recipe, folder) in enumerate(zip(recipes, folders, strict=True)):
            if done:
                result = done[i]
            else:
                if not self.host:
                    check_writable(folder, folder=True)
                with prints.progress(terminal, recipe, folder) as progress:
                    result = recipe.train(folder, progress, devices=devices)
            if result["status"] == "interrupted":
                raise KeyboardInterrupt
            if self.host:  # the first one has the folder, and says what came of it
                continue
            write_samples(folder)
            prints.result(terminal, result, folder, write_training_page(folder))
            results.append(result)
        if len(results) > 1:
            prints.seeds(terminal, [recipe.seed for recipe in recipes], results)
        return 0

    def _check_folders(self, recipes: list[Any], folders: list[Path]) -> None:
        from dualform.training.seeds import check_folders

        require(
            self.out is None or not (self.out / "config.json").exists(),
            f"{str(self.out)!r} is the folder of one training, and several seeds have a folder each in it. Choose another --out.",
        )
        if not self.together:  # which looks at them itself
            check_folders(recipes, folders)

    def _side_by_side(self, terminal: Any, recipes: list[Any], folders: list[Path]) -> list[dict[str, Any]]:
        """The results of all seeds, trained in one program."""
        from dualform.reports.terminal import train as prints
        from dualform.tensor_file import check_writable
        from dualform.training.seeds import train_seeds

        require(
            self.devices is None and self.hosts is None,
            "--together trains on one device; leave --devices and --hosts out, or train the seeds one after the other.",
        )
        for folder in folders:
            check_writable(folder, folder=True)
        with prints.progress(terminal, recipes[0], folders[0].parent) as progress:
            return train_seeds(recipes, folders, lambda i, measured: progress(measured))

    def _told(self) -> dict[str, Any]:
        """What the recipe is made of: the config, then the options, then the keys."""
        from dualform.training.recipe import put, read_toml

        if self.config is None:
            steps = 1000 if self.steps is None else self.steps
            told: dict[str, Any] = {"fit": fitting(steps)}
        else:
            told = read_toml(self.config)
        options = {
            "task": self.task,
            "data": None if self.data is None else str(self.data),
            "settings.tokenizer": None if self.tokenizer is None else str(self.tokenizer),
            "model.mixers": list(self.mixer) or None,
            "model.width": self.width,
            "model.layers": self.layers,
            "settings.batch": self.batch,
            "fit.learning_rate": self.rate,
            "fit.precision": self.precision,
            "carried": self.carry,
            "fit.dropout": self.dropout,
            "fit.rematerialised": self.rematerialise,
        }
        if self.config is not None and self.steps is not None:
            options |= {f"fit.{name}": value for name, value in fitting(self.steps).items() if name != "learning_rate"}
        given = [(key, value) for key, value in options.items() if value is not None]
        for key, value in [*given, *map(key_and_value, self.set)]:
            put(told, key, value, f"--set {key}")
        return told

    def _folder(self, recipe: Any, seeds: int) -> Path:
        if self.out is None:
            name = Path(recipe.task.partition(":")[0]).stem
            return Path("runs") / f"{name}-{'-'.join(recipe.model.mixers)}-{recipe.seed}"
        return self.out / f"seed-{recipe.seed}" if seeds > 1 else self.out


def fitting(steps: int) -> dict[str, Any]:
    """How so many steps are taken: a tenth of them to reach the rate; what is held out is looked at twenty times or more."""
    return {"steps": steps, "warmup": steps // 10, "chunk": min(max(1, steps // 20), 1000), "learning_rate": 3e-3}


def key_and_value(text: str) -> tuple[str, Any]:
    """The parts of KEY=VALUE; a value is as in TOML, or a word without quotes.

    **Raises:** `InputError` where there is no = in it.
    """
    key, equals, value = text.partition("=")
    require(bool(equals) and bool(key), f"--set {text}: give KEY=VALUE, such as settings.time=128.")
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key, value
