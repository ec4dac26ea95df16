"""`dualform compile`: write a program into the weights of a recurrent network."""

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import jax
from tyro.conf import Positional

from dualform.commands import flags
from dualform.commands.flags import option
from dualform.commands.options import Options, Read
from dualform.errors import InputError, require

AUTOMATON = "automaton:"
"""What stands before the name of a finite automaton."""


@dataclass(frozen=True)
class Compile(Options):
    """Write a program into the weights of a recurrent network, and certify it against the program's interpreter."""

    program: Annotated[
        Positional[str | None],
        option(
            "[PROGRAM]",
            "A program by its name, see --list, such as automaton:parity; or a file of Python that defines one as `program`.",
        ),
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
        """Run it, and return the exit code: 1 where the network is wrong."""
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
            if self.program is not None and self.program.startswith(AUTOMATON):
                return self._automaton(Terminal())
            program = self._program()
            tokens = None if self.run is None else tokens_of(self.run, program.width_in)
            compiled = compile_program(program, self.to, self.dtype)
            terminal = Terminal()
            prints.compiled(terminal, compiled)
            if tokens is not None:
                prints.run(terminal, compiled, tokens, compiled_run(compiled, tokens))
            proved = certificates(program, self.to, inputs=self.inputs, longest=self.length, seed=self.seed)
            prints.certificates(terminal, proved)
            code = self._saved(terminal, compiled.model, proved)
            if self.report is not None:
                from dualform.reports.program_page import write_program_page

                terminal.unbroken(f"page: {write_program_page(self.report, compiled, proved)}")
            return code

    def _saved(self, terminal: Any, model: Any, proved: Any) -> int:
        """Save the network, unless its certificate says that it is wrong in the dtype in which it is asked for."""
        from dualform.checkpoints import save_weights
        from dualform.programs import fault

        wrong = fault(proved, self.dtype)
        if wrong is not None:
            terminal.unbroken(f"{wrong}{'' if self.out is None else f' Nothing was saved to {self.out}.'}")
            return 1
        if self.out is not None:
            save_weights(self.out, model)
            terminal.unbroken(f"saved: {self.out}")
        return 0

    def _automaton(self, terminal: Any) -> int:
        """The same of a finite automaton, whose tokens are symbols."""
        import numpy as np

        from dualform.programs.automata import KNOWN, automata_certificates, compile_automata, interpret
        from dualform.reports.terminal import compile as prints

        name = str(self.program).removeprefix(AUTOMATON)
        require(name in KNOWN, f"there is no automaton {name!r}; there are {', '.join(KNOWN)}.")
        require(self.report is None, "--report shows a program's graph after every pass; an automaton is a table.")
        made = made_with(KNOWN[name], name, dict(_setting(each) for each in self.options))
        compiled = compile_automata(made, self.to, self.dtype)
        first = compiled.automata[0]
        x = None if self.run is None else first.one_hot(symbols_of(self.run, first.symbols))
        prints.automata(terminal, compiled)
        if x is not None:
            y = np.asarray(compiled.model(jax.numpy.asarray(x, self.dtype))[0], np.float64)
            prints.outputs(terminal, self.dtype, np.argmax(x, axis=1)[:, None], (y, interpret(made, x)))
        proved = automata_certificates(made, self.to, inputs=self.inputs, longest=self.length, seed=self.seed)
        prints.certificates(terminal, proved)
        return self._saved(terminal, compiled.model, proved)

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


def made_with(make: Any, name: str, given: dict[str, Any]) -> Any:
    """What a function makes with options.

    **Raises:** `InputError` for an option that it has not.
    """
    known = inspect.signature(make).parameters
    wrong = [key for key in given if key not in known]
    require(not wrong, f"{name} has no option {', '.join(wrong)}; it has {', '.join(known) or 'none'}.")
    return make(**given)


def symbols_of(said: str, symbols: int) -> list[int]:
    """The symbols that were typed.

    **Raises:** `InputError` where they are none.
    """
    found = tokens_of(said, 1)[:, 0]
    wrong = [each for each in found if each != int(each) or not 0 <= each < symbols]
    require(not wrong, f"--run {said}: {wrong[0] if wrong else 0:g} is no symbol; they are 0 to {symbols - 1}.")
    return [int(each) for each in found]


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
