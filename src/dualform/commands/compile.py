"""`dualform compile`: write a program into the weights of a recurrent network."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import jax
from tyro.conf import Positional

from dualform.commands import flags
from dualform.commands.flags import option
from dualform.commands.options import Options, Read
from dualform.errors import InputError, require


@dataclass(frozen=True)
class Compile(Options):
    """Write a program into the weights of a recurrent network, and certify it against the program's interpreter."""

    program: Annotated[
        Positional[str | None],
        option("[PROGRAM]", "A program by its name, see --list, or a file of Python that defines one as `program`."),
    ] = None
    list: Annotated[bool, option(None, "List the programs that come with the package, and the architectures.")] = False
    to: Annotated[
        Literal[
            "linear-rnn",
            "gated-linear-rnn",
            "gated-rnn",
            "rnn",
            "gru",
            "lstm",
            "hawk",
            "griffin",
            "mamba",
            "delta",
        ],
        option(None, "The architecture of the network."),
    ] = "gated-linear-rnn"
    options: Annotated[
        tuple[str, ...],
        option("KEY=VALUE [KEY=VALUE ...]", "What a program of the package is made with, such as form=direct."),
    ] = ()
    dtype: Annotated[
        Literal["float64", "float32", "bfloat16"],
        option(None, "In what the weights are saved, and --run is run; the certificate has all three."),
    ] = "float32"
    run: Annotated[
        str | None,
        option("TOKENS", "Tokens to run it on: 1,0,1, or, of several numbers each, '1 0.5, 0 2'."),
    ] = None
    inputs: Annotated[int, option("N", "Inputs of the certificate, each drawn anew.")] = 200
    length: Annotated[int, flags.length("Here of the certificate's longest, a few of which show the drift.")] = 4096
    seed: Annotated[int, flags.seed()] = 0
    out: Annotated[Path | None, flags.out("The network's weights, as safetensors.", "nowhere")] = None
    report: Annotated[
        Path | None, option("FILE", "A page: the program's graph after every pass, the network, the certificate.")
    ] = None
    RULES: ClassVar = (
        Read(
            ("options", "to", "dtype", "run", "inputs", "length", "seed", "out", "report"),
            lambda given: not given.list,
            "of a program that is compiled; --list compiles none.",
        ),
    )

    def __call__(self) -> int:
        """Run it, and return the exit code."""
        from dualform.checkpoints import save_weights
        from dualform.programs import certificates, compile_program, compiled_run
        from dualform.reports.terminal import Terminal
        from dualform.reports.terminal import compile as prints
        from dualform.tensor_file import check_writable

        self.check_options()
        if self.list:
            require(self.program is None, f"--list lists all programs; {self.program} is compiled without it.")
            prints.listed(Terminal())
            return 0
        for name in ("inputs", "length"):
            require(getattr(self, name) >= 1, f"--{name} {getattr(self, name)}: give a whole number, at least 1.")
        for path in (self.out, self.report):
            if path is not None:
                check_writable(path)
        with jax.enable_x64(True):
            program = self._program()
            tokens = None if self.run is None else tokens_of(self.run, program.width_in)
            compiled = compile_program(program, self.to, self.dtype)
            terminal = Terminal()
            prints.compiled(terminal, compiled)
            if self.out is not None:
                save_weights(self.out, compiled.model)
                terminal.unbroken(f"saved: {self.out}")
            if tokens is not None:
                prints.run(terminal, compiled, tokens, compiled_run(compiled, tokens))
            proved = certificates(program, self.to, inputs=self.inputs, longest=self.length, seed=self.seed)
            prints.certificates(terminal, program, proved)
            if self.report is not None:
                from dualform.reports.program_page import write_program_page

                terminal.unbroken(f"page: {write_program_page(self.report, compiled, proved)}")
        return 0

    def _program(self) -> Any:
        """The program that is asked for."""
        from dualform.programs import from_file
        from dualform.programs.library import library, program

        require(self.program is not None, "name a program, or a file that defines one; `--list` shows what there is.")
        assert self.program is not None
        given = dict(_setting(each) for each in self.options)
        if self.program in library():
            return program(self.program, **given)
        path = Path(self.program)
        if path.suffix == ".py" or path.exists():
            require(not given, "--options are of a program of the package; a file says itself what it is made with.")
            return from_file(path)
        raise InputError(
            f"there is no program {self.program!r}; there are {', '.join(library())}, and any file of Python that defines one."
        )


def _setting(said: str) -> tuple[str, Any]:
    """key=value, a whole number, a number, or a word."""
    key, sign, value = said.partition("=")
    require(bool(sign and key and value), f"--options {said}: write KEY=VALUE, such as length=3.")
    for kind in (int, float):
        try:
            return key, kind(value)
        except ValueError:
            continue
    return key, value


def tokens_of(said: str, width: int) -> Any:
    """The tokens that were typed, (time, width).

    **Raises:** `InputError` where they are none.
    """
    import numpy as np

    try:
        rows = [[float(number) for number in token.split()] for token in said.split(",")]
    except ValueError as error:
        raise InputError(f"--run {said}: {error}; write numbers, tokens apart by commas: 1,0,1.") from None
    for i, row in enumerate(rows):
        require(
            len(row) == width,
            f"--run {said}: token {i + 1} has {len(row)} numbers; the program takes {width}, apart by spaces, tokens by commas.",
        )
    found = np.asarray(rows)
    require(bool(np.all(np.isfinite(found))), f"--run {said}: give finite numbers.")
    return found
