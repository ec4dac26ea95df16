"""Programs in a small language, compiled into the weights of recurrent networks.

The language is that of LSRL (Petrov et al. 2024, arXiv 2406.01424): one graph of linear maps, ReLUs, products and linear states,
run for each token. `compile_program` writes it into a network of this package, `certify` holds that against `interpret`.
"""

from dualform.programs.compiled import Certificate, Compiled, certificates, certify, compile_program, compiled_run
from dualform.programs.emit import targets
from dualform.programs.program import Program, from_file, interpret
from dualform.programs.sugar import (
    both,
    bump,
    counter,
    cycle,
    delay,
    differ,
    either,
    equal,
    first_token,
    if_else,
    invert,
    larger,
    look_up,
    modulo,
    one_hot,
    running_maximum,
    select,
    shift_register,
    smaller,
    step,
)
from dualform.programs.values import Constant, Input, Linear, Register, Value, concat, relu, state, summed

__all__ = [
    "Certificate",
    "Compiled",
    "Constant",
    "Input",
    "Linear",
    "Program",
    "Register",
    "Value",
    "both",
    "bump",
    "certificates",
    "certify",
    "compile_program",
    "compiled_run",
    "concat",
    "counter",
    "cycle",
    "delay",
    "differ",
    "either",
    "equal",
    "first_token",
    "from_file",
    "if_else",
    "interpret",
    "invert",
    "larger",
    "look_up",
    "modulo",
    "one_hot",
    "relu",
    "running_maximum",
    "select",
    "shift_register",
    "smaller",
    "state",
    "step",
    "summed",
    "targets",
]
