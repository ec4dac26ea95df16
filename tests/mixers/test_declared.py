"""Fields that say their shapes: constructors take them by name, `help` shows them, and what does not fit is named."""

import dataclasses
import inspect
from dataclasses import KW_ONLY
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jaxtyping import Array, Float

from dualform.errors import InputError
from dualform.mixers import Constant, GatedRNN, SideGatedRNN
from dualform.mixers.declared import Declared, declared, forms
from dualform.mixers.registration import classes
from tests.laws import laws

MANY = 5
"""Arrays, or parts that hold some, of which so many are told apart by their names alone."""
RENAMED = {"given_decay": "decay"}


def parameters(kind: type) -> dict[str, inspect.Parameter]:
    """Those of a constructor that stand for its arrays and parts."""
    named = inspect.signature(kind).parameters
    fields = (field for field in dataclasses.fields(kind) if not field.metadata.get("static"))
    return {field.name: named[RENAMED.get(field.name, field.name)] for field in fields}


@pytest.mark.parametrize("kind", classes().values(), ids=lambda kind: kind.__name__)
def test_many_arrays_are_given_by_name(kind):
    """No two of five arrays or more can be swapped in silence: at most four are taken by position, and few only."""
    given = parameters(kind)
    by_position = [name for name, each in given.items() if each.kind is not inspect.Parameter.KEYWORD_ONLY]
    assert len(by_position) < MANY, f"{kind.__name__} takes {by_position} by position: write _: KW_ONLY"
    assert by_position or len(given) >= MANY, f"{kind.__name__} has {len(given)} arrays, which need no names"


def test_the_tallest_takes_none_by_position():
    """A swap of two queries and keys is a TypeError, not another attention."""
    mixer: Any = laws.make("gla")
    with pytest.raises(TypeError, match="takes 1 positional argument but 3 were given"):
        type(mixer)(mixer.w_k, mixer.w_q)


@pytest.mark.parametrize("kind", classes().values(), ids=lambda kind: kind.__name__)
def test_help_names_the_shapes(kind):
    """In the signature that `help` prints each array has its shape, and nothing is Any."""
    for name, parameter in parameters(kind).items():
        annotation = parameter.annotation
        assert annotation not in (Any, inspect.Parameter.empty), name
        assert bool(forms(annotation)) == (name in declared(kind)), name


def test_help_of_one_mixer():
    """The text itself, of the mixers that write a constructor of their own, too."""
    assert "w_q: jaxtyping.Float[jaxlib._jax.Array, 'head d_k d']" in str(inspect.signature(type(laws.make("gla"))))
    for kind in (GatedRNN, SideGatedRNN):
        assert "decay: jaxtyping.Float[Constant, 'n'] | None = None" in str(inspect.signature(kind))


@pytest.mark.parametrize("name", laws.registered(*laws.KINDS))
def test_an_array_with_an_axis_too_many_is_named(unchecked, name):
    """Of every mixer, every array: the message says its name, its shape, and what it must be."""
    mixer = laws.make(name)
    given = {each.name: getattr(mixer, each.name) for each in dataclasses.fields(mixer)}
    for field in declared(type(mixer)):
        if given[field] is None:
            continue
        value = given[field].value if isinstance(given[field], Constant) else given[field]
        changed = given | {field: jnp.zeros((*value.shape, 1))}
        arguments = {RENAMED.get(key, key): each for key, each in changed.items()}
        with pytest.raises(InputError, match=rf"^{type(mixer).__name__}\.{field} has shape \(.*1\); it must be \("):
            type(mixer)(**arguments)


class Heads(Declared):
    """All that a declaration may say."""

    _: KW_ONLY
    w_q: Float[Array, "head d_k d"]
    w_v: Float[Array, "head d_v d"]
    b: Float[Array, "head d_k"] | None = None
    norm: Float[Array, " d_v"] | Float[Array, "head d_v"]
    gamma: Float[Constant, " head"]
    gate: Float[Array, "d+1 2*n"]
    w_o: Float[Array, "3 head*d_v"]
    epsilon: float = eqx.field(default=1e-5, static=True)


SHAPES = {"w_q": (2, 4, 6), "w_v": (2, 5, 6), "norm": (5,), "gamma": (2,), "gate": (7, 2), "w_o": (3, 10)}


def heads(**changed: Any) -> Heads:
    given: dict[str, Any] = {name: np.zeros(shape) for name, shape in (SHAPES | changed).items()}
    return Heads(**given)


def test_dimensions():
    """Sizes are read off the arrays, through sums and products, too; what is given is made an array or a constant."""
    made = heads()
    assert made.dims("head d_k d_v d n head*d_v 2 d+1") == (2, 4, 5, 6, 1, 10, 2, 7)
    assert isinstance(made.w_q, jax.Array) and isinstance(made.gamma, Constant) and made.b is None
    assert heads(norm=(2, 5), b=(2, 4)).dim("d_k") == 4
    assert Heads.shape_of("gate", d=3, n=5) == (4, 10)
    with pytest.raises(InputError, match=r"no field of this Heads has a dimension rank; there are \['head', 'd_k',"):
        made.dim("rank")


@pytest.mark.parametrize(
    "leaf", [None, jax.ShapeDtypeStruct((2, 4, 6), jnp.float32), True], ids=["none", "a shape", "a flag"]
)
def test_dimensions_of_a_tree_that_lacks_arrays(leaf):
    """A filtered module, or one of shapes, is asked for what it still has."""
    made = eqx.tree_at(lambda m: m.w_q, heads(), leaf, is_leaf=lambda each: each is None)
    assert made.dims("head d_v d") == (2, 5, 6)
    shapes = eqx.filter_eval_shape(heads)
    assert shapes.dims("head d_k") == (2, 4)
    assert eqx.filter(heads(), lambda _: False).w_q is None


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"w_v": (2, 5, 7)},
            r"Heads.w_v has shape \(2, 5, 7\); it must be \(2, 5, 6\): \(head, d_v, d\), where head is 2 in w_q",
        ),
        (
            {"w_q": (3, 4, 6)},
            r"w_q has shape \(3, 4, 6\); it must be \(2, d_k, 6\): \(head, d_k, d\), where head is 2 in w_v",
        ),
        (
            {"b": (4,)},
            r"b has shape \(4,\); it must be \(2, 4\), or None: \(head, d_k\), where head is 2 in w_q, d_k is 4 in",
        ),
        (
            {"norm": (3, 5)},
            r"norm has shape \(3, 5\); it must be \(5,\), or \(2, 5\): \(d_v,\), or \(head, d_v\), where d_v is 5",
        ),
        ({"gamma": (3,)}, r"gamma has shape \(3,\); it must be \(2,\)"),
        ({"gate": (6, 2)}, r"gate has shape \(6, 2\); it must be \(7, 2\*n\): \(d\+1, 2\*n\), where d is 6 in w_q"),
        ({"gate": (7, 3)}, r"gate has shape \(7, 3\); it must be \(7, 2\*n\)"),
        ({"gate": (7, 0)}, r"gate has shape \(7, 0\); it must be \(d\+1, 2\*n\), n at least 1"),
        ({"w_o": (4, 10)}, r"w_o has shape \(4, 10\); it must be \(3, 10\)"),
        ({"w_o": (3, 9)}, r"w_o has shape \(3, 9\); it must be \(3, 10\): .* where head is 2 in w_q, d_v is 5 in w_v"),
        ({"w_q": (2, 0, 6)}, r"w_q has shape \(2, 0, 6\); it must be \(head, d_k, d\), d_k at least 1"),
        ({"w_q": ()}, r"w_q has shape \(\); it must be \(2, d_k, 6\)"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_named(changed, message):
    """The field that most of the others speak against, its shape, the one that it must have, and why."""
    with pytest.raises(InputError, match=message):
        heads(**changed)


def test_a_network_of_no_unit():
    """A dimension that may be 0 may; another of the same module may not."""
    rnn = GatedRNN.make(3, key=jr.key(0), n=2, m=1)
    none = {"w_m_in": (0, 4), "w_x_in": (0, 4), "w_m_out": (1, 0), "w_x_out": (1, 0), "readout": (3, 1), "nu": (0,)}
    y, _ = GatedRNN(**{name: jnp.zeros(shape) for name, shape in none.items()})(jnp.ones((2, 3)))
    assert y.tolist() == np.zeros((2, 3)).tolist()
    with pytest.raises(InputError, match=r"readout has shape \(0, 1\); it must be \(d_out, m\), d_out at least 1"):
        GatedRNN(**{name: getattr(rnn, name) for name in none} | {"readout": jnp.zeros((0, 1))})


def test_other_axes_are_not_looked_at():
    """A field whose shape is of any length, or has an axis without a name, is taken as it is; the others are still held."""

    class Open(Declared):
        any: Float[Array, "..."]
        several: Float[Array, "*shape n"]
        unnamed: Float[Array, "_ _"]
        a: Float[Array, "n m"]
        b: Float[Array, " m"]

    made: Any = Open
    given = [jnp.ones(shape) for shape in ((2, 2, 2), (4, 9), (3, 5), (2, 3))]
    assert made(*given, jnp.ones(3)).dims("n m") == (2, 3)
    with pytest.raises(InputError, match=r"Open.[ab] has shape"):
        made(*given, jnp.ones(4))
