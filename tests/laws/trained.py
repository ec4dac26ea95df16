"""Laws of training: what a class declares of its weights, and what no rule may change."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import optax

from dualform.mixers import Constant
from dualform.training import FitConfig, decayed, initial_state, trainable
from dualform.training.optimiser import adamw

is_constant = lambda leaf: isinstance(leaf, Constant)


def names(tree: Any) -> set[str]:
    """The leaves that are True, by their paths."""
    return {jtu.keystr(path).lstrip(".") for path, leaf in jtu.tree_leaves_with_path(tree) if leaf is True}


def every_class_declares(module: Any) -> None:
    """Each part of a module names the fields that weight decay acts on, and has fields of these names."""
    assert isinstance(type(module).weight_decayed, tuple), f"{type(module).__name__} does not say what is decayed"
    fields = {field.name for field in dataclasses.fields(module)}
    unknown = set(type(module).weight_decayed) - fields
    assert not unknown, f"{type(module).__name__} has no fields {unknown}"
    for name in fields:
        part = getattr(module, name)
        if isinstance(part, eqx.Module) and not is_constant(part):
            every_class_declares(part)


def weight_decay_acts_on(module: Any, expected: set[str]) -> None:
    """Weight decay acts on the leaves of these paths, and on no other."""
    assert names(decayed(module)) == expected


def constants_are(module: Any, expected: set[str]) -> None:
    """What is given is on these paths; no gradient and no optimiser is shown it, and everything else is trained."""
    assert set(_given(module)) == expected, f"constants are {set(_given(module))}"
    shown = names(jtu.tree_map(eqx.is_inexact_array, module))
    assert shown == names(trainable(module))
    leaves = {jtu.keystr(path).lstrip(".") for path, _ in jtu.tree_leaves_with_path(module)}
    assert leaves - shown == {f"{name}.bits" for name in expected}, "a weight is not trained"


def no_step_moves_a_constant(module: Any) -> None:
    """A step of AdamW with weight decay, of optax and of ours, leaves what is given to the bit, and moves all else."""
    shown = eqx.filter(module, eqx.is_inexact_array)
    gradient = jtu.tree_map(jnp.ones_like, shown)
    config, before = FitConfig(steps=2, warmup=0, learning_rate=0.1, weight_decay=0.5), _given(module)
    with jax.numpy_dtype_promotion("standard"):
        optimiser = optax.adamw(0.1, weight_decay=0.5)
        by_optax = jax.jit(lambda gradient, shown: optimiser.update(gradient, optimiser.init(shown), shown)[0])
        moved_by_optax = by_optax(gradient, shown)
        moments = initial_state(module, config).optimiser
        moved_by_us = jax.jit(adamw(config).update)(gradient, moments, shown)[0]
    for after in (eqx.apply_updates(module, moved_by_optax), eqx.apply_updates(module, moved_by_us)):
        found = _given(after)
        for name, constant in before.items():
            np.testing.assert_array_equal(np.asarray(found[name]), np.asarray(constant))
        numbers = eqx.filter(after, eqx.is_inexact_array)
        for old, new in zip(jtu.tree_leaves(shown), jtu.tree_leaves(numbers), strict=True):
            assert (old != new).all(), "a weight is not trained"


def _given(module: Any) -> dict[str, Constant]:
    """The constants of a module, by their paths."""
    paths = jtu.tree_leaves_with_path(module, is_leaf=is_constant)
    return {jtu.keystr(path).lstrip("."): leaf for path, leaf in paths if is_constant(leaf)}
