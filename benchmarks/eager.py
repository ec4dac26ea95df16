"""What an eager call costs: a step in a Python loop beside PyTorch's, and a dual form, the first time and again.

    python -m benchmarks.eager [--width 64] [--tokens 64] [--rounds 15] [--note TEXT] [--write FILE.md]

Batch 1, float32, no `jax.jit` around anything: each call is what a user writes. The first call of a shape compiles; those
after it do not. PyTorch's step is the same mixer's with the same weights and token, under `torch.no_grad()`, with one thread
and with two, of which the faster counts; the outputs are compared in the same run.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any, NamedTuple

import jax
import jax.random as jr
import numpy as np
import torch

from benchmarks.alternate import alternate, ratio, write
from dualform import dual_form, mixers
from dualform.mixers import registry

LOOP = 200
"""Steps of a round."""

Step = Callable[[Any, Any], tuple[Any, Any]]
"""A token and a state to an output and a state."""


class Peer(NamedTuple):
    """A mixer's step in PyTorch: its name, the step, and the state before the first token."""

    name: str
    step: Step
    state: Any


def tensor(a: Any) -> torch.Tensor:
    return torch.tensor(np.asarray(a))


def lstm_cell(mixer: mixers.LSTM) -> Peer:
    """`torch.nn.LSTMCell` with the mixer's weights."""
    cell = torch.nn.LSTMCell(mixer.d_in, mixer.d_out)
    with torch.no_grad():
        cell.weight_ih.copy_(tensor(mixer.u).reshape(-1, mixer.d_in))
        cell.weight_hh.copy_(tensor(mixer.v).reshape(-1, mixer.d_out))
        cell.bias_ih.copy_(tensor(mixer.b).reshape(-1))
        cell.bias_hh.zero_()

    def step(x, state):
        state = cell(x, state)
        return state[0], state

    return Peer("torch.nn.LSTMCell", step, (torch.zeros(mixer.d_out), torch.zeros(mixer.d_out)))


def gru_cell(mixer: mixers.GRU) -> Peer:
    """`torch.nn.GRUCell` with the mixer's weights, which are in torch's form."""
    cell, b_h = torch.nn.GRUCell(mixer.d_in, mixer.d_out), mixer.b_h
    assert b_h is not None
    with torch.no_grad():
        cell.weight_ih.copy_(tensor(mixer.u).reshape(-1, mixer.d_in))
        cell.weight_hh.copy_(tensor(mixer.v).reshape(-1, mixer.d_out))
        cell.bias_ih.copy_(tensor(mixer.b).reshape(-1))
        cell.bias_hh.zero_()
        cell.bias_hh[2 * mixer.d_out :] = tensor(b_h)

    def step(x, state):
        h = cell(x, state)
        return h, h

    return Peer("torch.nn.GRUCell", step, torch.zeros(mixer.d_out))


def gla_step(mixer: mixers.GLA) -> Peer:
    """Gated linear attention's step, its equation written in plain PyTorch."""
    w_q, w_k, w_v, w_g = (tensor(w) for w in (mixer.w_q, mixer.w_k, mixer.w_v, mixer.w_g))
    a_1, a_2, b, norm, w_o = (tensor(w) for w in (mixer.a_1, mixer.a_2, mixer.b, mixer.norm, mixer.w_o))
    scale = w_q.shape[1] ** -0.5

    def step(x, state):
        q, k, v, g = scale * (w_q @ x), w_k @ x, w_v @ x, torch.nn.functional.silu(w_g @ x)
        alpha = torch.exp(torch.nn.functional.logsigmoid(a_2 @ (a_1 @ x) + b) / 16)
        state = alpha[:, :, None] * state + k[:, :, None] * v[:, None, :]
        o = (q[:, None, :] @ state)[:, 0]
        o = norm * o * torch.rsqrt((o * o).mean(-1, keepdim=True) + mixer.epsilon)
        return w_o @ (o * g).reshape(-1), state

    return Peer("its equation in PyTorch", step, torch.zeros(len(w_q), w_q.shape[1], w_v.shape[1]))


PEERS: dict[str, Callable[[Any], Peer]] = {"lstm": lstm_cell, "gru": gru_cell, "gla": gla_step}
ALONE = ("lru", "gated_delta_rule", "mamba2", "rwkv4", "softmax_attention")
"""Mixers whose step is measured beside no peer."""


def seconds_of(call: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - begin


def loop(step: Step, x: Any, state: Any) -> Callable[[], Any]:
    """`LOOP` steps one after the other, and the last output."""

    def run():
        y, after = None, state
        for _ in range(LOOP):
            y, after = step(x, after)
        return y

    return run


def with_threads(threads: int, run: Callable[[], Any]) -> Callable[[], Any]:
    def call():
        torch.set_num_threads(threads)
        with torch.no_grad():
            return run()

    return call


def step_row(name: str, width: int, rounds: int) -> str:
    """A mixer's step: the first one, one in a loop, and the peer's."""
    mixer, x = registry()[name](width, key=jr.key(0)), jr.normal(jr.key(1), (width,))
    state = mixer.init_state()
    first = seconds_of(lambda: mixer.step(x, state))
    ours = loop(mixer.step, x, state)
    sides: dict[str, Callable[[], Any]] = {"ours": lambda: jax.block_until_ready(ours())}
    peer = PEERS[name](mixer) if name in PEERS else None
    if peer is not None:
        theirs = loop(peer.step, tensor(x), peer.state)
        sides |= {f"{threads}": with_threads(threads, theirs) for threads in (1, 2)}
    found = alternate(sides, rounds)
    of = lambda side: 1e6 * median(found[side]) / LOOP
    start = f"| {name} | {1e3 * first:.0f} | {of('ours'):.0f} |"
    if peer is None:
        return f"{start} | | | |"
    best = min(("1", "2"), key=of)
    y, y_peer = np.asarray(ours()), sides[best]().numpy()
    error = float(np.linalg.norm(y - y_peer) / np.linalg.norm(y_peer))
    return f"{start} {peer.name} | {of(best):.0f} | {ratio(found, 'ours', best):.2f} | {error:.0e} |"


def dual_row(name: str, width: int, tokens: int, rounds: int) -> str:
    """A mixer's dual form: the first one, and one of other weights and tokens."""
    make = lambda seed: (registry()[name](width, key=jr.key(seed)), jr.normal(jr.key(seed + 1), (tokens, width)))
    call = lambda given: dual_form(*given)
    first = seconds_of(lambda: call(make(0)))
    given = make(2)
    again = [seconds_of(lambda: call(given)) for _ in range(rounds)]
    return f"| {name} | {1e3 * first:.0f} | {1e3 * median(again):.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--note", default="")
    parser.add_argument("--write")
    given = parser.parse_args()
    steps = [step_row(name, given.width, given.rounds) for name in (*PEERS, *ALONE)]
    forms = [dual_row(name, given.width, given.tokens, given.rounds) for name in ("gla", "lstm", "softmax_attention")]
    command = f"python -m benchmarks.eager --width {given.width} --tokens {given.tokens} --rounds {given.rounds}"
    note = [given.note] if given.note else []
    head = "| mixer | first call, ms | step, us | peer | its step, us | times the peer | difference |"
    print(
        write(
            given.write,
            "Eager calls",
            command,
            [
                "No `jax.jit` is written around what is measured. The first call of a shape compiles a program; every later one "
                "of that shape finds it again, with other weights, tokens and states.",
                *note,
                f"## A step in a Python loop\n\nWidth {given.width}, batch 1, float32; a round is {LOOP} steps, median over "
                f"{given.rounds} rounds, sides in turn.",
                "\n".join([head, "|---|---|---|---|---|---|---|", *steps]),
                f"## A dual form\n\n{given.tokens} tokens of width {given.width}; other weights and tokens the second time.",
                "\n".join(["| mixer | first call, ms | again, ms |", "|---|---|---|", *forms]),
            ],
        )
    )


if __name__ == "__main__":
    main()
