"""Which attribution finds the token that an answer came from? Methods by rank and by perturbation, with the chance line.

A model is trained on associative recall: pairs of a key and a value are shown, one a token, then a key is asked for. The true
source of an answer is the pair with that key, so a method can be right or wrong. Only questions that the model answers rightly
count. The token that asks is left out of the ranking, and stays in every perturbation.
"""

import argparse
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from benchmarks.alternate import keep, write
from dualform.dual.attribution import METHODS, attribute, perturbation_curves
from dualform.mixers import registry
from dualform.models import Block, RMSNorm, SequenceModel
from dualform.tasks import AssociativeRecall, recall_loss
from dualform.training import FitConfig, fit

AREAS = ("positive", "negative", "pruning")


class Case(NamedTuple):
    """A question: the tokens, the target as of `attribute`, and the place of the true source."""

    x: Any
    target: tuple[int, ...]
    source: int


def recall_model(mixer: str, task: AssociativeRecall, layers: int, d: int, steps: int, seed: int) -> Any:
    """Blocks of a registered mixer and a SwiGLU, trained with Adam on the answer's cross-entropy."""
    keys = jr.split(jr.key(seed), layers + 2)
    blocks = tuple(Block.make(registry()[mixer](d, key=key), key=key, mlp="swiglu") for key in keys[2:])
    model: Any = SequenceModel.make(blocks, task.d, task.vocabulary, key=keys[0], norm=RMSNorm.make(d))
    config = FitConfig(
        steps=steps,
        chunk=min(250, steps),
        warmup=steps // 20,
        learning_rate=3e-3,
        final_learning_rate=0.0,
        weight_decay=0.0,
        clip=float("inf"),
        seed=seed,
    )
    return fit(model, task.sample, config, loss=recall_loss).model


def recall_cases(model: Any, task: AssociativeRecall, count: int, seed: int) -> tuple[list[Case], float]:
    """Questions that the model answers rightly, and its accuracy."""
    x, y = AssociativeRecall(task.vocabulary, task.pairs, batch=2 * count).sample(jr.key(seed))
    answers = np.asarray(jnp.argmax(eqx.filter_jit(jax.vmap(lambda x: model(x)[0][-1]))(x), axis=1))
    asked = np.asarray(x[:, -1, : task.d // 2])
    sources = np.argmax(np.einsum("btk,bk->bt", np.asarray(x[:, :-1, : task.d // 2]), asked), axis=1)
    right = np.flatnonzero(answers == np.asarray(y))[:count]
    cases = [Case(x[i], (task.pairs, int(y[i])), int(sources[i])) for i in right]
    return cases, float(np.mean(answers == np.asarray(y)))


def measure(model: Any, cases: Sequence[Case], methods: Sequence[str], seeds: int) -> dict[str, Any]:
    """For each method, the share of cases whose true source it ranks first, and the mean areas; and those of random orders."""
    found: dict[str, Any] = {}
    for method in methods:
        begin, first, areas, residuals = time.perf_counter(), [], [], []
        for case in cases:
            got = attribute(model, case.x, case.target, method)
            others = [s for s in got.ranking() if s != case.target[0]]
            first.append(others[0] == case.source)
            areas.append([getattr(perturbation_curves(model, case.x, case.target, got.scores), a) for a in AREAS])
            residuals.append(got.residual)
        found[method] = {
            "first": float(np.mean(first)),
            **dict(zip(AREAS, np.mean(areas, axis=0).tolist(), strict=True)),
            "seconds": (time.perf_counter() - begin) / len(cases),
        }
        if residuals[0] is not None:
            found[method]["residual"] = float(max(residuals))
    draws = np.array([_random(model, cases, seed) for seed in range(seeds)])
    low, high = np.percentile(draws, [2.5, 97.5], axis=0)
    found["random order"] = dict(zip(("first", *AREAS), draws.mean(0).tolist(), strict=True)) | {
        f"{name} interval": [float(a), float(b)] for name, a, b in zip(("first", *AREAS), low, high, strict=True)
    }
    return found


def _random(model: Any, cases: Sequence[Case], seed: int) -> list[float]:
    """The same numbers of scores drawn at random, for all cases."""
    rng, rows = np.random.default_rng(seed), []
    for case in cases:
        scores = rng.permutation(len(case.x)).astype(float)
        others = [s for s in np.argsort(-scores) if s != case.target[0]]
        curves = perturbation_curves(model, case.x, case.target, scores)
        rows.append([float(others[0] == case.source), *(getattr(curves, a) for a in AREAS)])
    return np.mean(rows, axis=0).tolist()


def as_table(found: dict[str, Any]) -> str:
    """The methods as a Markdown table; the chance line with its interval."""
    lines = [
        "| method | true source ranked first | positive AUC (low) | negative AUC = AUAC (high) | AU-MSE (low) | ms a case |",
        "|---|---|---|---|---|---|",
    ]
    for method, row in found.items():
        span = lambda name, row=row: (
            f" ({row[f'{name} interval'][0]:.3f} to {row[f'{name} interval'][1]:.3f})"
            if f"{name} interval" in row
            else ""
        )
        cells = [f"{100 * row['first']:.1f}%{span('first')}", *(f"{row[a]:.3f}{span(a)}" for a in AREAS)]
        took = f"{1e3 * row['seconds']:.0f}" if "seconds" in row else ""
        lines.append(f"| {method} | {' | '.join(cells)} | {took} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mixers", default="gla", help="registered mixers, one model each")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--d", type=int, default=32)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=10, help="random orders of the chance line")
    parser.add_argument("--write", help="the report, as Markdown; a JSON file is put beside it")
    args = parser.parse_args()
    task = AssociativeRecall(vocabulary=16, pairs=8)
    paragraphs, record = [(__doc__ or "").split("\n\n")[1].replace("\n", " ")], {}
    for mixer in args.mixers.split(","):
        begin = time.perf_counter()
        model = recall_model(mixer, task, args.layers, args.d, args.steps, 0)
        cases, accuracy = recall_cases(model, task, args.cases, 1)
        trained = time.perf_counter() - begin
        print(f"{mixer}: trained in {trained:.0f} s, accuracy {accuracy:.3f}", flush=True)
        found = measure(model, cases, METHODS, args.seeds)
        record[mixer] = {"accuracy": accuracy, "cases": len(cases), "train_seconds": trained, "methods": found}
        paragraphs += [
            f"**{mixer}**: {args.layers} blocks of width {args.d}, {args.steps} steps, {trained:.0f} s; it answers "
            f"{100 * accuracy:.1f}% of the questions. {len(cases)} questions; the residual of the exact sum is at most "
            f"{found['exact']['residual']:.1e}.",
            as_table(found),
        ]
        print("\n\n".join(paragraphs[-2:]), flush=True)
        # After every model, so that what was measured is kept if the next one is stopped.
        write(args.write, "Faithfulness of attributions", "python -m benchmarks.faithfulness", paragraphs)
        keep(
            args.write, {"layers": args.layers, "d": args.d, "steps": args.steps, "seeds": args.seeds, "models": record}
        )


if __name__ == "__main__":
    main()
