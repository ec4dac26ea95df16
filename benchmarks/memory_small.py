"""What small trained models remember of a context that several questions share: recurrent ones, and attention under each policy.

    python -m benchmarks.memory_small --write docs/benchmarks/memory_small.md

Every model has a short convolution first, which brings a key and its value together, and then the same blocks (RMS norms, a
SwiGLU) around its mixer. It is trained on the same sequences: the token forms of
four tasks of memory (`tasks.memory.TokenMemory`), mixed in each batch. Softmax attention is trained whole, and then bounded by
each policy without training again. The answers are read by turns, in one state, with the right answers in the history; or, with
--mode requests, each question is the first one after the context. Chance is one in the number of values.
"""

import argparse
import shlex
import sys
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array

from benchmarks.alternate import keep, write
from dualform.errors import InputError
from dualform.experiments.memory import MODES, Row, Turn, contender, rows_of
from dualform.mixers import (
    GLA,
    LSTM,
    AbstractMixer,
    CausalConvolution,
    DeltaRule,
    Mamba,
    Mamba2,
    MinGRU,
    RetNet,
    SoftmaxAttention,
)
from dualform.models import Block, LanguageModel, RMSNorm
from dualform.reports.memory import SAYS, as_table
from dualform.tasks.memory import FORMS, TokenMemory
from dualform.training import FitConfig, cross_entropy, fit

WIDTH = 4
"""Tokens that the convolution sees."""
ITEMS = {"kv": 16, "prefix-suffix": 12, "variable-tracking": 8, "needle": 8}
MIXERS = {
    "softmax attention": lambda d, key, time: SoftmaxAttention.make(
        d, key=key, heads=2, window=time, dtype=jnp.float32
    ),
    "gla": lambda d, key, time: GLA.make(d, key=key, heads=2, dtype=jnp.float32),
    "retnet": lambda d, key, time: RetNet.make(d, key=key, heads=2, dtype=jnp.float32),
    "delta rule": lambda d, key, time: DeltaRule.make(d, key=key, heads=2, dtype=jnp.float32),
    "gated delta rule": lambda d, key, time: DeltaRule.make(d, key=key, heads=2, gated=True, dtype=jnp.float32),
    "mamba": lambda d, key, time: Mamba.make(d, key=key, dtype=jnp.float32),
    "mamba2": lambda d, key, time: Mamba2.make(d, key=key, dtype=jnp.float32),
    "min_gru": lambda d, key, time: MinGRU.make(d, key=key, dtype=jnp.float32),
    "lstm": lambda d, key, time: LSTM.make(d, key=key, dtype=jnp.float32),
}


def tasks_of(forms: list[str], length: int, turns: int, batch: int) -> dict[str, TokenMemory]:
    """The task of each form, with its number of items."""
    return {form: TokenMemory(form, ITEMS[form], turns, length, batch=batch) for form in forms}


def fresh(name: str, vocabulary: int, time: int, d: int, layers: int, seed: int) -> LanguageModel:
    """A block of a short convolution, then blocks of a mixer, in float32."""
    keys = jr.split(jr.key(seed), 2 * layers + 3)

    def block(mixer: AbstractMixer, key: Array) -> Block:
        return Block.make(mixer, key=key, mlp="swiglu", hidden=2 * d, dtype=jnp.float32)

    near = block(CausalConvolution.make(d, key=keys[1], width=WIDTH, dtype=jnp.float32), keys[2])
    places = range(3, 2 * layers + 3, 2)
    blocks = (near, *(block(MIXERS[name](d, keys[i], time), keys[i + 1]) for i in places))
    norm = RMSNorm.make(d, dtype=jnp.float32)
    return LanguageModel.make(blocks, vocabulary, key=keys[0], norm=norm, dtype=jnp.float32)


def trained(model: LanguageModel, tasks: dict[str, TokenMemory], steps: int, rate: float, seed: int) -> Any:
    """The model after so many steps on batches in which every task has its share."""
    longest = max(task.time for task in tasks.values())

    def sample(key: Array) -> tuple[Array, Array]:
        drawn = [task.sample(k) for task, k in zip(tasks.values(), jr.split(key, len(tasks)), strict=True)]
        filled = lambda a, value: jnp.pad(a, ((0, 0), (0, longest - a.shape[1])), constant_values=value)
        return (
            jnp.concatenate([filled(tokens, 0) for tokens, _ in drawn]),
            jnp.concatenate([filled(targets, -1) for _, targets in drawn]),
        )

    config = FitConfig(
        steps=steps, chunk=min(250, steps), warmup=min(100, steps // 10), learning_rate=rate, final_learning_rate=1e-5,
        weight_decay=0.1, b2=0.99, seed=seed,
    )  # fmt: skip
    said = lambda p: print(f"  step {p[0]} of {p[1]}: loss {p[2]:.3f}, {p[3]:.0f} s", flush=True)
    return fit(model, sample, config, loss=cross_entropy, on_chunk=said)


@eqx.filter_jit
def by_turns(model: LanguageModel, tokens: Array) -> Array:
    """The likeliest token after each one, every sequence in one state."""
    return jax.vmap(lambda row: jnp.argmax(model(row)[0], axis=-1))(tokens)


@eqx.filter_jit
def by_requests(model: LanguageModel, tokens: Array, length: int, turns: int) -> Array:
    """The same where each question comes first after the context, from the state that the context left."""

    def one(row: Array) -> Array:
        before, state = model.read(row[:length])
        asked = jax.vmap(lambda question: model(question, state)[0])(row[length:].reshape(turns, -1))
        found = jnp.concatenate([model.logits(before), asked.reshape(-1, model.vocabulary)])
        return jnp.argmax(found, axis=-1)

    return jax.vmap(one)(tokens)


def asked(model: LanguageModel, task: TokenMemory, mode: str, count: int, seed: int) -> list[Turn]:
    """Whether each answer of `count` fresh sequences is right."""
    key = jr.fold_in(jr.key(seed + 2**21), FORMS.index(task.form))
    tokens, targets = replace(task, batch=count).sample(key)
    said = by_turns(model, tokens) if mode == "turns" else by_requests(model, tokens, task.length, task.turns)
    said, targets = np.asarray(said), np.asarray(targets)
    return [
        Turn(i, turn, "right", str(said[i, place]), float(said[i, place] == targets[i, place]))
        for i in range(len(targets))
        for turn, place in enumerate(np.flatnonzero(targets[i] >= 0))
    ]


def measure(name: str, model: LanguageModel, tasks: dict[str, TokenMemory], args: argparse.Namespace) -> list[Row]:
    """The rows of a trained model: of softmax attention one for each policy and size, of others one."""
    attends, rows = name == "softmax attention", []
    policies = args.policies.split(",") if attends else ["full"]
    for form, task in tasks.items():
        for by in policies:
            for size in [int(n) for n in args.states.split(",")] if by != "full" else [0]:
                one, kept = contender(model, by, size, task.time)
                found = asked(one, task, args.mode, args.count, args.seed)
                rows += rows_of(form, f"attention, {by}" if attends else name, kept, found)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MIXERS), help="with commas between them")
    parser.add_argument("--tasks", default=",".join(FORMS))
    parser.add_argument("--policies", default="full,window,window+4,tova,tova-head,h2o,snapkv,random")
    parser.add_argument("--states", default="32", help="how many keys and values each layer of attention keeps")
    parser.add_argument("--mode", default="turns", choices=MODES)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--length", type=int, default=48, help="tokens of a context")
    parser.add_argument("--d", type=int, default=64)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--batch", type=int, default=16, help="sequences of each task in a step")
    parser.add_argument("--count", type=int, default=256, help="fresh sequences of each task that are asked")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", help="the report, as Markdown; a JSON file with every setting is put beside it")
    args = parser.parse_args()
    for name in args.models.split(","):
        if name not in MIXERS:
            raise SystemExit(f"there is no model {name!r}; there are {', '.join(MIXERS)}.")
    try:
        tasks = tasks_of(args.tasks.split(","), args.length, args.turns, args.batch)
    except (InputError, KeyError) as error:
        raise SystemExit(f"{error} See --help.") from None
    vocabulary, longest = max(t.vocabulary for t in tasks.values()), max(t.time for t in tasks.values())
    rows, record, chances = [], {}, {form: 1 / task.values for form, task in tasks.items()}
    for name in args.models.split(","):
        print(name, flush=True)
        model = fresh(name, vocabulary, longest, args.d, args.layers, args.seed)
        fitted = trained(model, tasks, args.steps, args.rate, args.seed)
        record[name] = {"parameters": fitted.model.parameters(), "seconds": fitted.seconds, "steps": fitted.steps}
        rows += measure(name, fitted.model, tasks, args)
        print(as_table([row for row in rows if row.name == name or name == "softmax attention"], chances), flush=True)
    rows.sort(key=lambda row: list(tasks).index(row.task))
    sizes = "; ".join(f"{form}: {task.items} items" for form, task in tasks.items())
    about = (
        f"{args.layers} layers, {args.d} wide, {args.steps:,} steps of {args.batch} sequences of each task; contexts of "
        f"{args.length} tokens ({sizes}), {args.turns} questions by {args.mode}, seed {args.seed}."
    )
    trained_for = "| model | parameters | seconds of training |\n|---|---|---|\n" + "\n".join(
        f"| {name} | {one['parameters']:,} | {one['seconds']:.0f} |" for name, one in record.items()
    )
    told = (__doc__ or "").split("\n\n")[2].replace("\n", " ")
    command = shlex.join(["python", "-m", "benchmarks.memory_small", *sys.argv[1:]])
    write(args.write, "Memory of small models", command, [told, about, SAYS, as_table(rows, chances), trained_for])
    keep(args.write, {"arguments": vars(args), "models": record, "rows": [row._asdict() for row in rows]})


if __name__ == "__main__":
    main()
