"""What there is to say of a registered mixer in one row, all of it asked of the mixer itself."""

import inspect
import json
import re
from dataclasses import dataclass
from importlib.resources import files

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

from dualform.errors import require
from dualform.maps import CausalMap, attention_of
from dualform.mixers.mixer import AbstractMixer
from dualform.mixers.registration import class_of, registry
from dualform.recurrences.choice import watching

WIDTH = 64
"""The width at which states and costs are counted, unless another is asked for."""


@dataclass(frozen=True)
class Card:
    """A registered mixer in one row.

    - name: in the registry.  kind: its class's name.  equation: the first line of its docstring.
    - state: the shapes of what it remembers.  numbers: how many numbers these are.
    - operations: floating-point operations of one step, as XLA counts them.
    - forms: of each recurrence that it runs on, the forms that there are, as "outer: chunked, naive".
    - exact: "linear given its gates" or "frozen nonlinearity": what its dual form is.
    - closed_form: whether its attention map has a closed form.
    - text: its docstring, whole.
    - source: the paper.  oracle: what it was checked against.  error: the largest relative error found against the oracles,
      of outputs and gradients, as stored by `python -m benchmarks.oracles`; None where there is none.
    """

    name: str
    kind: str
    equation: str
    state: tuple[tuple[int, ...], ...]
    numbers: int
    operations: int
    forms: tuple[str, ...]
    exact: str
    closed_form: bool
    text: str
    source: str
    oracle: str
    error: float | None


def card(name: str, width: int = WIDTH) -> Card:
    """The card of the registered mixer `name`, its sizes at width `width`; nothing is computed, only traced.

    **Raises:** `InputError` where there is none.
    """
    require(name in registry(), f"there is no mixer {name!r}; there are {', '.join(registry())}.")
    make = registry()[name]
    kind = class_of(make)
    shapes = eqx.filter_eval_shape(make, width, key=jr.key(0))
    arrays, rest = eqx.partition(shapes, lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct))
    maps: list[CausalMap] = []

    def call(arrays, x):
        frozen = eqx.combine(arrays, rest).frozen(x)
        maps.append(frozen.map)
        return frozen.y

    step = lambda arrays, x_t, state: eqx.combine(arrays, rest).step(x_t, state)
    state = jax.eval_shape(lambda arrays: eqx.combine(arrays, rest).init_state(), arrays)
    leaves = jax.tree_util.tree_leaves(state)
    with watching() as used:
        jax.eval_shape(call, arrays, jax.ShapeDtypeStruct((16, width), jnp.float32))
    costs = jax.jit(step).lower(arrays, jax.ShapeDtypeStruct((width,), jnp.float32), state).cost_analysis() or {}
    source, oracle = provenance(kind)
    return Card(
        name=name,
        kind=kind.__name__,
        equation=(inspect.getdoc(kind) or "").splitlines()[0],
        text=inspect.getdoc(kind) or "",
        state=tuple(leaf.shape for leaf in leaves),
        numbers=sum(leaf.size for leaf in leaves),
        operations=int(costs.get("flops", 0)),
        forms=tuple(f"{recurrence}: {', '.join(forms)}" for recurrence, forms in used.items()) or ("step by step",),
        exact="linear given its gates" if kind.linear_given_gates else "frozen nonlinearity",
        closed_form=attention_of(maps[0]) is not None,
        source=source,
        oracle=oracle,
        error=stored_errors().get(name),
    )


def provenance(mixer: type[AbstractMixer]) -> tuple[str, str]:
    """What stands behind **Source:** in a mixer's docstring, and behind its "Oracle:"."""
    found = re.search(r"\*\*Source:\*\*(.*?)(\n\n|$)", inspect.getdoc(mixer) or "", flags=re.S)
    source, _, oracle = (" ".join(found.group(1).split()) if found else "").partition("Oracle:")
    return source.strip().rstrip("."), oracle.strip().rstrip(".")


def stored_errors() -> dict[str, float]:
    """The largest relative error of each registered mixer against its oracles, as the last measurement stored them."""
    stored = files("dualform.mixers") / "oracle_errors.json"
    if not stored.is_file():
        return {}
    return {name: each["error"] for name, each in json.loads(stored.read_text())["mixers"].items()}
