"""Finite automata from a table, as the weights of networks that are exact at any length."""

from dualform.programs.automata.automaton import Automata, Automaton, interpret
from dualform.programs.automata.compiled import (
    HOLDERS,
    CompiledAutomata,
    Holder,
    automata_certificates,
    certify_automata,
    compile_automata,
)
from dualform.programs.automata.known import KNOWN
from dualform.programs.automata.spelling import Spelling, spelled
from dualform.programs.automata.turning import as_program

__all__ = [
    "HOLDERS",
    "KNOWN",
    "Automata",
    "Automaton",
    "CompiledAutomata",
    "Holder",
    "Spelling",
    "as_program",
    "automata_certificates",
    "certify_automata",
    "compile_automata",
    "interpret",
    "spelled",
]
