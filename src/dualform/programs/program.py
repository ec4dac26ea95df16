"""A program: what it gives at each token, and what it is tried on; and the interpreter, which is what is meant by it."""

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from dualform.errors import FileError, InputError, require
from dualform.programs.lowering import input_of, nodes
from dualform.programs.values import (
    Concat,
    Constant,
    Input,
    Linear,
    Now,
    Product,
    Register,
    ReLU,
    Slice,
    Value,
)

Draw = Callable[[np.random.Generator, int], np.ndarray]
"""(randomness, number of tokens) -> inputs (time, width)."""


@dataclass(frozen=True)
class Program:
    """What a program gives at each token, one sentence about it, and what it is tried on.

    - output: its value.  name, what: its name, and what it does.
    - draw: inputs of so many tokens, as they are meant; N(0, 1) if not given.
    - expected: inputs (time, width) -> outputs (time, outputs), written without the language: what the program should give.
    - discrete: whether outputs are whole numbers, so that a network's are rounded.
    - scored: inputs -> (time,) of bool: where outputs count; everywhere if not given.
    """

    output: Value
    name: str = "program"
    what: str = ""
    draw: Draw | None = None
    expected: Callable[[np.ndarray], np.ndarray] | None = None
    discrete: bool = False
    scored: Callable[[np.ndarray], np.ndarray] | None = None

    def __post_init__(self):
        input_of(self.output)  # there is one

    @property
    def width_in(self) -> int:
        """Width of a token."""
        return input_of(self.output).width

    @property
    def width_out(self) -> int:
        """Width of an output."""
        return self.output.width

    def inputs(self, random: np.random.Generator, time: int) -> Float[np.ndarray, "time d"]:
        """So many tokens, as it is tried on."""
        if self.draw is None:
            return random.standard_normal((time, self.width_in))
        return np.asarray(self.draw(random, time), np.float64).reshape(time, self.width_in)

    def counted(self, inputs: Float[np.ndarray, "time d"]) -> np.ndarray:
        """(time,) of bool: where outputs count."""
        return np.ones(len(inputs), bool) if self.scored is None else np.asarray(self.scored(inputs), bool)


def interpret(program: Program, inputs: Any) -> Float[np.ndarray, "*batch time d_out"]:
    """What the program gives, token by token, in float64: the specification, against which all that is compiled is held.

    **Arguments:** inputs: (time, width) or (batch, time, width).

    **Returns:** (time, outputs) or (batch, time, outputs).

    **Raises:** `InputError` for another shape, and for inputs that are not what the program's `Input` says of them.
    """
    x = np.asarray(inputs, np.float64)
    require(
        x.ndim in (2, 3) and x.shape[-1] == program.width_in,
        f"{program.name} takes tokens of {program.width_in} numbers; got an array of shape {x.shape}.",
    )
    batch = x.ndim == 3
    x = x if batch else x[None]
    for i, declared in enumerate(input_of(program.output).ranges):
        require(
            declared.holds(x[..., i]),
            f"entry {i} of an input of {program.name} is said to be {declared}, and is not. Say of the Input what is true.",
        )
    order, values = nodes(program.output), {}
    registers = [value for value in order if isinstance(value, Register)]
    floats = lambda entries: np.asarray([float(each) for each in entries])
    matrices = {id(each): _matrix(each) for each in order if isinstance(each, Linear)}
    biases = {id(each): floats(each.bias) for each in order if isinstance(each, Linear)}
    constants = {id(each): floats(each.entries) for each in order if isinstance(each, Constant)}
    held = {id(each): np.broadcast_to(floats(each.start), (len(x), each.width)) for each in registers}
    order, found = _in_turn(program.output), []
    for t in range(x.shape[1]):
        values.clear()
        for each in order:
            operands = [values[id(operand)] for operand in each.operands]
            if isinstance(each, Input):
                y = x[:, t]
            elif isinstance(each, Constant):
                y = np.broadcast_to(constants[id(each)], (len(x), each.width))
            elif isinstance(each, Linear):
                y = operands[0] @ matrices[id(each)] + biases[id(each)]
            elif isinstance(each, ReLU):
                y = np.maximum(operands[0], 0)
            elif isinstance(each, Product):
                y = operands[0] * operands[1]
            elif isinstance(each, Concat):
                y = np.concatenate(operands, axis=1)
            elif isinstance(each, Slice):
                y = operands[0][:, each.columns]
            elif isinstance(each, Register):
                y = held[id(each)]
            else:
                assert isinstance(each, Now)
                y = values[id(each.register.update)]
            values[id(each)] = y
        held = {id(each): values[id(each.update)] for each in registers}
        found.append(values[id(program.output)])
    y = np.stack(found, axis=1)
    return y if batch else y[0]


def _matrix(value: Linear) -> Float[np.ndarray, "d_in d_out"]:
    found = np.zeros((value.operands[0].width, value.width))
    for i, row in enumerate(value.rows):
        for j, entry in row.items():
            found[j, i] = float(entry)
    return found


def _in_turn(output: Value) -> list[Value]:
    """All values, each behind what it is made of; a register's present behind what it becomes.

    **Raises:** `InputError` where a value waits for itself.
    """
    done: dict[int, Value] = {}
    for root in nodes(output):
        waiting, open_ = [(root, False)], set()
        while waiting:
            value, ready = waiting.pop()
            if id(value) in done:
                continue
            if ready:
                done[id(value)] = value
                open_.discard(id(value))
                continue
            if id(value) in open_:
                raise InputError(f"{value.place}: {value.name or 'a value'} depends on itself.")
            open_.add(id(value))
            waiting.append((value, True))
            needed = list(value.operands)
            if isinstance(value, Now):
                assert value.register.update is not None
                needed.append(value.register.update)
            for operand in needed:
                if id(operand) in open_:
                    raise InputError(f"{operand.place}: {operand.name or 'a value'} depends on itself.")
                waiting.append((operand, False))
    return list(done.values())


def from_file(path: str | Path) -> Program:
    """The program that a file of Python defines as `program`: a `Program`, a value, or a function that gives one of them.

    The file is run, as any module is: give none that is not trusted.

    **Raises:** `FileError` where there is no such file, `InputError` where it does not run, or defines none.
    """
    path = Path(path)
    if not path.is_file():
        raise FileError(f"there is no file {path}.")
    spec = importlib.util.spec_from_file_location(f"dualform_program_{path.stem}", path)
    require(spec is not None and spec.loader is not None, f"{path} is no file of Python: its name must end in .py.")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
        found = getattr(module, "program", None)
        found = found() if callable(found) else found
    except InputError:
        raise
    except (Exception, SystemExit) as problem:
        raise InputError(f"{path.name} does not run: {type(problem).__name__}: {problem}") from problem
    finally:
        sys.modules.pop(spec.name, None)
    if isinstance(found, Value):
        found = Program(found, path.stem)
    require(
        isinstance(found, Program),
        f"{path.name} defines no program. Write `program = ...`: a value of dualform.programs, or a Program.",
    )
    assert isinstance(found, Program)
    return found
