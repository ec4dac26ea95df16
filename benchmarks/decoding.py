"""One token after the other: how near a step comes to what the memory's bandwidth allows, beside transformers, and in batches.

    python -m benchmarks.decoding --write docs/benchmarks/decoding.md          (every part, or --parts single,batch,length,long)

A step reads all weights and all kept states once; the limit is that many bytes by the bandwidth that a matrix-vector product of
537 MB reaches in the same run. Sides are run in turn, and medians are given. Caches are filled with random numbers: a step costs
the same, whatever they hold. The peer, transformers' eager decoding with a DynamicCache on the same weights, is measured with one
and with two threads, the faster is quoted (pip install torch==2.13.0 transformers==5.23.0).
"""

import argparse
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.alternate import alternate, ratio, write
from benchmarks.llama_peer import transformers_llama
from dualform.checkpoints.loading import load
from dualform.generation import bounded, for_decoding
from dualform.generation.calls import called, chosen, first_logits
from dualform.generation.room import free_bytes, state_bytes
from dualform.models import LanguageModel, llama

GREEDY = (0.0, None, None, None)


class Decoder:
    """Texts that are written token by token: `run(n)` writes n tokens of each in its memory, by a session's calls."""

    def __init__(self, model: LanguageModel, batch: int, seen: int):
        self.model, self.batch = for_decoding(model), batch
        states = tuple(filled(state, batch, seen) for state in model.init_state())
        self.carried = (first_logits(model, batch), states)
        if batch == 1:
            self.carried = jax.tree_util.tree_map(lambda a: a[0], self.carried)

    def run(self, tokens: int) -> None:
        """Write so many tokens, and wait for the last."""
        several, places = self.batch > 1, np.zeros(self.batch, np.int32)
        for _ in range(tokens):
            logits, states = self.carried
            following, _ = chosen(logits, None, places if several else places[0], GREEDY)
            before = (np.ones(self.batch, np.int32), logits) if several else None
            self.carried = called(self.model, states, following, before)
        jax.block_until_ready(self.carried)

    def bytes(self) -> int:
        """What a step reads: every weight once, every state once."""
        weights = sum(leaf.nbytes for leaf in jax.tree_util.tree_leaves(eqx.filter(self.model, eqx.is_array)))
        return weights + self.batch * state_bytes(self.model)


def filled(state: Any, batch: int, seen: int) -> Any:
    """The state of one layer after `seen` tokens, of which it keeps the newest, for each text; keys and values are random."""
    kv_heads, states, _ = state.keys.shape
    first = jnp.arange(states, dtype=jnp.int32) + max(seen - states, 0)
    places = jnp.where(first < seen, first, jnp.full_like(first, -1))
    draw = lambda a: jax.random.normal(jax.random.key(1), (batch, *a.shape), a.dtype)
    return state._replace(
        keys=draw(state.keys),
        values=draw(state.values),
        positions=jnp.broadcast_to(places, (batch, kv_heads, states)) + 0,
        scores=jnp.zeros((batch, kv_heads, states), state.scores.dtype),
        place=jnp.full((batch,), seen, jnp.int32),
    )


def reader() -> tuple[Callable[[], object], int]:
    """What measures the bandwidth: a product of a matrix and a vector; and how many bytes it reads."""
    matrix, vector = jnp.ones((1 << 18, 512), jnp.float32), jnp.ones(512, jnp.float32)
    product = jax.jit(lambda w, x: w @ x)
    return lambda: product(matrix, vector).block_until_ready(), matrix.nbytes


def hub_decoder(found: Any, seen: int, threads: int, tokens: int) -> Callable[[], None]:
    """transformers' decoding of `tokens` tokens after `seen` in its DynamicCache; each call goes on where the last one ended."""
    torch, hub = found
    cache = importable("transformers").DynamicCache()
    config = hub.config
    shape = (1, config.num_key_value_heads, seen, config.head_dim)
    for layer in range(config.num_hidden_layers):
        cache.update(torch.randn(shape), torch.randn(shape), layer)
    token = torch.zeros((1, 1), dtype=torch.long)

    def run() -> None:
        nonlocal token
        torch.set_num_threads(threads)
        with torch.inference_mode():
            for _ in range(tokens):
                token = hub(token, past_key_values=cache, use_cache=True).logits[:, -1].argmax(-1, keepdim=True)
        cache.crop(-tokens)

    return run


def importable(name: str) -> Any:
    """A module that may be absent."""
    import importlib

    return importlib.import_module(name)


def single(model: LanguageModel, sizes: list[int], rounds: int, tokens: int) -> list[str]:
    """One text: milliseconds of a token, share of the bandwidth's limit, and transformers' with as many tokens in its cache."""
    hub, (read, amount) = transformers_llama(model), reader()
    lines = [
        "| policy | states | ms a token | share of the limit | transformers, as many in its cache, ms | times faster |",
        "|---|---|---|---|---|---|",
    ]
    for policy, states in [("tova", k) for k in sizes] + [("full", max(sizes))]:
        seen = states - 1 - (tokens * (rounds + 2)) if policy == "full" else 8192
        decoder = Decoder(bounded(model, policy, states), 1, max(seen, 0))
        sides: dict[str, Callable[[], object]] = {"read": read, "dualform": lambda d=decoder: d.run(tokens)}
        if hub is not None:
            sides |= {f"transformers {n}": hub_decoder(hub, states, n, tokens) for n in (1, 2)}
        seconds = alternate(sides, rounds, 2)
        shares = [
            decoder.bytes() / amount * r * tokens / t for r, t in zip(seconds["read"], seconds["dualform"], strict=True)
        ]
        cells = [policy, f"{states:,}", f"{1e3 * statistics.median(seconds['dualform']) / tokens:.1f}"]
        cells.append(f"{100 * statistics.median(shares):.0f}%")
        if hub is None:
            cells += ["not installed", ""]
        else:
            best = min(("transformers 1", "transformers 2"), key=lambda name: statistics.median(seconds[name]))
            cells.append(f"{1e3 * statistics.median(seconds[best]) / tokens:.1f} ({best[-1]} threads)")
            cells.append(f"{ratio(seconds, best, 'dualform'):.2f}")
        lines.append(f"| {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return ["**One text.** " + (single.__doc__ or "").split(": ", 1)[1].capitalize(), "\n".join(lines)]


def batch(model: LanguageModel, context: int, size: int, rounds: int, tokens: int) -> list[str]:
    """A long context: the whole cache against an eighth of it, with as many texts, and with as many as the same memory holds."""
    room = tokens * (rounds + 2) + 2
    eighth, (read, amount) = context // 8, reader()
    full = Decoder(bounded(model, "full", context + room), size, context)
    more = size * (context + room) // eighth
    sides: dict[str, tuple[str, int, Decoder]] = {"full": ("full", size, full)}
    lines = [
        "| policy | states | texts | tokens a second | times full | by bandwidth alone | share of its limit |",
        "|---|---|---|---|---|---|---|",
    ]
    for policy, texts in (("tova", size), ("window", size), ("tova", more)):
        decoder = Decoder(bounded(model, policy, eighth), texts, context)
        sides[f"{policy} {texts}"] = (policy, texts, decoder)
    runs: dict[str, Callable[[], object]] = {"read": read}
    runs |= {name: lambda d=decoder: d.run(tokens) for name, (_, _, decoder) in sides.items()}
    seconds = alternate(runs, rounds, 2)
    for name, (policy, texts, decoder) in sides.items():
        rate = texts * tokens / statistics.median(seconds[name])
        times = ratio(seconds, "full", name) * texts / size
        alone = full.bytes() / decoder.bytes() * texts / size
        share = statistics.median(
            decoder.bytes() / amount * r * tokens / t for r, t in zip(seconds["read"], seconds[name], strict=True)
        )
        kept = context if policy == "full" else eighth
        lines.append(f"| {policy} | {kept:,} | {texts} | {rate:.1f} | {times:.2f} | {alone:.2f} | {100 * share:.0f}% |")
        print(lines[-1], flush=True)
    told = (
        f"**Batches after {context:,} tokens.** The whole cache against an eighth of it, for as many texts, and for as many as "
        "the same memory holds: so the paper measures, which reports 4.8 times. The weights are read in either case, and bound "
        "the first ratio."
    )
    return [told, "\n".join(lines)]


def length(model: LanguageModel, states: int, rounds: int, tokens: int) -> list[str]:
    """The time of a token by how many came before."""
    lengths = [states, 1024, 2048, 4096, 8192, 1_000_000]
    decoders = {n: Decoder(bounded(model, "tova", states), 1, n) for n in lengths}
    seconds = alternate({f"{n}": lambda d=d: d.run(tokens) for n, d in decoders.items()}, rounds, 2)
    lines = ["| tokens before | ms a token | times the first |", "|---|---|---|"]
    for n in lengths:
        took = 1e3 * statistics.median(seconds[f"{n}"]) / tokens
        lines.append(f"| {n:,} | {took:.1f} | {ratio(seconds, f'{n}', f'{states}'):.2f} |")
    return [f"**Length.** TOVA with {states} states.", "\n".join(lines)]


def long(model: LanguageModel, states: int, count: int) -> list[str]:
    """Memory over a long text: the process's, and the state's."""
    small = llama(key=jax.random.key(0), vocabulary=512, d=128, layers=4, heads=4, kv_heads=2, hidden=256)
    rows = [
        "| model | tokens written | state, bytes | memory grown in the last nine tenths, MB | ms a token, first, last tenth |"
    ]
    rows.append("|---|---|---|---|---|")
    for name, one, amount in (("the model", model, count), ("a random one of 4 layers", small, 32_000)):
        decoder, tenth, took, grown = Decoder(bounded(one, "tova", states), 1, 0), amount // 10, [], []
        before = nbytes(decoder)
        for _ in range(10):
            begin = time.perf_counter()
            decoder.run(tenth)
            took.append(1e3 * (time.perf_counter() - begin) / tenth)
            grown.append(resident())
        after = nbytes(decoder)
        assert after == before, (before, after)
        rows.append(
            f"| {name} | {10 * tenth:,} | {after:,} | {grown[-1] - grown[0]:.1f} | {took[0]:.2f}, {took[-1]:.2f} |"
        )
        print(rows[-1], flush=True)
    return [f"**Memory over a long text.** TOVA with {states} states, one text, from nothing on.", "\n".join(rows)]


def nbytes(decoder: Decoder) -> int:
    """Of all states."""
    return sum(leaf.nbytes for leaf in jax.tree_util.tree_leaves(decoder.carried[1]))


def resident() -> float:
    """The most memory that the process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--parts", default="single,batch,length,long")
    parser.add_argument("--states", default="128,512,2048", help="for one text")
    parser.add_argument("--context", type=int, default=8192, help="of the batches")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--long", type=int, default=32_000, help="tokens of the long text")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--tokens", type=int, default=8, help="of a run")
    parser.add_argument("--write", help="the report, as Markdown")
    args = parser.parse_args()
    loaded, free = load(args.model), (free_bytes() or 0) / 1e9
    sizes = [int(size) for size in args.states.split(",")]
    paragraphs = [
        (__doc__ or "").split("\n\n")[2].replace("\n", " "),
        f"**{loaded.name}** ({loaded.source}), float32; {free:.0f} GB were free. {args.rounds} rounds of {args.tokens} "
        "tokens.",
    ]
    parts = {
        "single": lambda: single(loaded.model, sizes, args.rounds, args.tokens),
        "batch": lambda: batch(loaded.model, args.context, args.batch, args.rounds, args.tokens),
        "length": lambda: length(loaded.model, 512, args.rounds, args.tokens),
        "long": lambda: long(loaded.model, 512, args.long),
    }
    said = ""
    for name in args.parts.split(","):
        paragraphs += parts[name]()
        # After every part, so that what was measured is kept if the next one is stopped.
        said = write(args.write, "Decoding", "python -m benchmarks.decoding", paragraphs)
    print(said)


if __name__ == "__main__":
    main()
