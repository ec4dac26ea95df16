"""The first map of an attention page: what a model's outputs take from its input tokens, and what proves it."""

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dualform.dual import ModelForm
from dualform.dual.attribution import attribute
from dualform.dual.model_forms import chain
from dualform.dual.shares import shares_residual
from dualform.maps import NONLINEAR, joint
from dualform.maps.frozen import Kind
from dualform.reports.attention_view import LayerView

METHOD_WORDS = {
    "raw": "the mean size of the layers' maps, each row brought to a sum of 1",
    "rollout": "the product over layers of (I + A) / 2, A the mean size of the layer's maps",
    "gradient-weighted": "the product over layers of I + (gradient times map), negative entries left out",
    "gradient": "the gradient times the token, what the model does to first order",
    "integrated gradients": "the mean gradient on the way from zeros, times the token, in 32 steps",
    "occlusion": "by how much the logit falls where that token alone is put to zeros",
}
"""What each method of attribution is, where it is no exact sum."""

SUMS = ("gradient", "integrated gradients", "occlusion")
"""Of these, those that are in the units of the logit: their sum can stand beside it."""


class Logits(NamedTuple):
    """Which logit is asked for at each token, and what is said of it.

    - outputs: (time,), its number.  against: (time,), that of the one that is subtracted, None for none.
    - names: what each is called, by token.
    """

    outputs: Int[np.ndarray, " time"]
    against: Int[np.ndarray, " time"] | None
    names: tuple[str, ...]

    def of(self, a: Any) -> Float[np.ndarray, " time"]:
        """The logit, or the difference of two, of each row of outputs."""
        a = np.asarray(a, np.float64)
        rows = np.arange(len(a))
        return a[rows, self.outputs] - (0 if self.against is None else a[rows, self.against])

    def target(self, place: int) -> tuple[int, ...]:
        """The logit at one token, as `attribute` takes it."""
        return (place, int(self.outputs[place]), *(() if self.against is None else (int(self.against[place]),)))


def of_logits(form: ModelForm, logits: Logits) -> LayerView:
    """Row t: what each input token brings to the logit that is asked for at t."""
    rows = np.arange(form.time)
    brought = form.logits(rows, logits.outputs)
    brought = brought if logits.against is None else brought - form.logits(rows, logits.against)
    value, bias = logits.of(form.y), logits.of(form.bias)
    # A model that pools gives one output: of the other rows no call of the model says what they should sum to.
    own = np.ones(form.time, bool) if form.rows is None else np.asarray(form.rows)
    total = brought.astype(np.float64).sum(1) + bias
    residual = float(np.linalg.norm((total - value)[own]) / (np.linalg.norm(value[own]) or 1.0))
    says = "each row and what no token brought sum to the logit that is named beside it"
    if not own.all():
        (last,) = np.flatnonzero(own)
        says = (
            f"the row of token {last} and what no token brought sum to the model's one output; the other rows are of what it "
            "would give if the text ended there, and no call was held against them"
        )
    explains = tuple(
        f"{name} = {value[t]:.4g}, {bias[t]:.3g} of it from no token" + ("" if own[t] else " (if the text ended here)")
        for t, name in enumerate(logits.names)
    )
    maps = brought[None].astype(np.float32)
    return LayerView(
        "whole model", kind_of(form), residual, maps, ("logit",), ("tokens",), (residual,), (says,), explains=explains
    )


def of_outputs(form: ModelForm) -> LayerView:
    """Row t: the share of the last layer's output at t that each input token brings."""
    last = form.layers[-1].name
    shares = form.shares()
    call = form.model, form.x, form.state, form.start, form.mask
    residual = float(_shares_residual(*call, form.names.index(last), jnp.asarray(shares)))
    says = f"each row and the share of what no token brought sum to 1, of the output of {last}"
    return LayerView(
        "whole model",
        kind_of(form, last),
        residual,
        shares[None].astype(np.float32),
        ("share",),
        ("tokens",),
        (residual,),
        (says,),
        explains=(f"the output of {last} at this token",),
    )


def of_method(form: ModelForm, x: Any, logits: Logits, method: str, place: int) -> LayerView:
    """Row `place`, by a method that keeps no sum, and how near it comes to the exact contributions there."""
    target = logits.target(place)
    found = attribute(form.model, x, target, method).scores
    exact = attribute(form.model, x, target).scores
    row = np.zeros((form.time, form.time), np.float32)
    row[place] = found
    a, b = (np.asarray(scores, np.float64)[: place + 1] for scores in (found, exact))
    spread = np.std(a) * np.std(b)
    near = f"correlation {np.mean((a - a.mean()) * (b - b.mean())) / spread:.2f}" if spread else "no correlation"
    sums = f", its sum {a.sum():.4g} where theirs is {b.sum():.4g}" if method in SUMS else ""
    says = f"{METHOD_WORDS[method]}. Beside the exact contributions at this token: {near}{sums}"
    explains = tuple(
        name if t == place else f"nothing; only token {place} was asked about" for t, name in enumerate(logits.names)
    )
    return LayerView(
        "whole model",
        "an approximation",
        float("nan"),
        row[None],
        (method,),
        says=(says,),
        approximate=True,
        explains=explains,
    )


def kind_of(form: ModelForm, last: str | None = None) -> Kind:
    """What freezing the stages up to `last` means, all of them taken together."""
    carrying: dict[str, Kind] = {layer.name: layer.kind for layer in form.layers}
    stages = dict(form.model.stages())
    names = form.names if last is None else form.names[: form.names.index(last) + 1]

    def of(name: str) -> Kind:
        return carrying[name] if name in carrying else getattr(stages[name], "kind", NONLINEAR)

    return joint(map(of, names))


@eqx.filter_jit
def _shares_residual(model, x, state, start, mask, last, shares) -> Array:
    """How far each row of shares, and the share of what no token brought, are from a sum of 1."""
    frozen, map, x = chain(model, x, state, start, mask, last)
    return shares_residual(shares[None], map(jnp.zeros_like(x)), frozen[-1].y.astype(shares.dtype))
