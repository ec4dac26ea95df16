"""Certificates are of the module's own call: each wrong call is caught by every entry that gives one, and the right one passes.

Nothing is compiled as a whole here: operations run one by one, so that the modules share them.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import pytest

from dualform import dual_form
from dualform.dual import attribute, layer_form, model_form
from dualform.models import MLP, Bidirectional, Block, GatedMLP, LanguageModel, SequenceModel, Stack
from dualform.models.mlp import ACTIVATIONS
from dualform.models.model import AbstractChain
from dualform.models.stages import Affine, Alone, ReLU
from dualform.norms import rms_norm
from tests.dual.broken import broken, ignoring, larger, part
from tests.laws import laws
from tests.models.families import TIME, D, block, language_model, sequence_model, shaken, tokens
from tests.tiers import tiers

START, MASK = jnp.arange(TIME) == 3, jnp.arange(TIME) != 1
X, WIDE = laws.sequence(0, TIME), laws.sequence(1, TIME, 3)
CAUGHT, RIGHT = 1e-3, {jnp.float64: 1e-10, jnp.float32: 1e-5, jnp.bfloat16: 2.0**-5}
"""What a wrong call exceeds by far, and what a right one keeps: rounding, in bfloat16 that of 8 bits in each part."""


@pytest.fixture(autouse=True)
def one_by_one() -> Iterator[None]:
    """Every operation by itself."""
    with jax.disable_jit():
        yield


class Chain(AbstractChain):
    """A chain as of a pretrained model: a linear map, a mixer, an open set, a linear map."""

    inside: Affine
    mixer: Any
    head: Affine

    @property
    def d_in(self) -> int:
        return self.inside.w.shape[1]

    def stages(self):
        return ("in", self.inside), ("mixer", self.mixer), ("relu", ReLU(D)), ("head", self.head)

    def encode(self, source):
        raise NotImplementedError


MIXER = laws.make("min_gru")
BLOCK = shaken(block("min_gru"))
PLAIN = shaken(block("min_gru", mlp="gelu"))
LANGUAGE = language_model("min_gru", softcap=2.0, scale=3.0)
POOLED = {pool: sequence_model("min_gru", pool=pool) for pool in ("none", "mean", "last")}
STACK = shaken(Stack.make((MIXER, laws.make("min_gru", seed=1)), 3, 2, key=jr.key(3)))
BOTH = Bidirectional(MIXER, laws.make("min_gru", seed=1), "concatenate")
CHAIN = Chain(Affine(jr.normal(jr.key(4), (D, 3))), MIXER, Affine(jr.normal(jr.key(5), (2, D)), jnp.ones(2)))
GATED = shaken(GatedMLP.make(D, key=jr.key(0), hidden=3))


def without_norm_weight(self, x, state=None, *, start=None, mask=None):
    return rms_norm(x, jnp.ones_like(self.weight), self.epsilon), ()


def without_gate(self, x, state=None, *, start=None, mask=None):
    return x @ self.w_up.T @ self.w_down.T, ()


def with_relu(self, x, state=None, *, start=None, mask=None):
    return MLP(self.w_up, self.w_down, self.b_up, self.b_down, "relu")(x, start=start, mask=mask)


def gated_by_sigmoid(self, x, state=None, *, start=None, mask=None):
    return ((ACTIVATIONS["sigmoid"](x @ self.w_gate.T) * (x @ self.w_up.T)) @ self.w_down.T).astype(x.dtype), ()


def without_residual(self, x, state=None, *, start=None, mask=None):
    y, state = Block.__call__(self, x, state, start=start, mask=mask)
    return y - x, state


def called_larger(self, x, state, segments):
    y, state = Block.called(self, x, state, segments)
    return 3.0 * y, state


def without_softcap(self, tokens, state=None, *, start=None, mask=None):
    return LanguageModel.__call__(part(self, softcap=None), tokens, state, start=start, mask=mask)


def mean_of_all(self, x, state=None, *, start=None, mask=None):
    return SequenceModel.__call__(part(self, pool="mean"), x, state, start=start, mask=mask)


def without_scale(self, tokens, state=None, *, start=None, mask=None):
    return LanguageModel.__call__(part(self, scale=1.0), tokens, state, start=start, mask=mask)


WHOLE = {
    "mixer": MIXER,
    "block": BLOCK,
    "block with an MLP": PLAIN,
    "bidirectional": BOTH,
    "norm": BLOCK.norm,
    "layer norm": shaken(block("min_gru", norm="layer").norm),
    "MLP": PLAIN.mlp,
    "gated MLP": GATED,
    "stack": STACK,
    "language model": LANGUAGE,
    "chain": CHAIN,
    "mixer alone": Alone(MIXER),
    **{f"sequence model, pool {pool}": model for pool, model in POOLED.items()},
}
"""Every kind of module that has a certificate."""

BROKEN: dict[str, tuple[Any, Any]] = {
    **{f"{name}, three times larger": (module, larger(module)) for name, module in WHOLE.items()},
    "halved logits": (LANGUAGE, larger(LANGUAGE, 0.5)),
    "norm without its weight": (BLOCK, part(BLOCK, norm=broken(BLOCK.norm, __call__=without_norm_weight))),
    "final norm without its weight": (
        LANGUAGE,
        part(LANGUAGE, norm=broken(LANGUAGE.norm, __call__=without_norm_weight)),
    ),
    "gate off": (BLOCK, part(BLOCK, mlp=broken(BLOCK.mlp, __call__=without_gate))),
    "gate of another activation": (BLOCK, part(BLOCK, mlp=broken(BLOCK.mlp, __call__=gated_by_sigmoid))),
    "activation swapped": (PLAIN, part(PLAIN, mlp=broken(PLAIN.mlp, __call__=with_relu))),
    "block, what its call is made of changed": (BLOCK, broken(BLOCK, called=called_larger)),
    "residual stream dropped": (BLOCK, broken(BLOCK, __call__=without_residual)),
    "softcap dropped": (LANGUAGE, broken(LANGUAGE, __call__=without_softcap)),
    "embedding's scale dropped": (LANGUAGE, broken(LANGUAGE, __call__=without_scale)),
    "mean instead of last": (POOLED["last"], broken(POOLED["last"], __call__=mean_of_all)),
    **{
        f"{name}, {what} ignored": (module, ignoring(module, what))
        for name, module in (("block", BLOCK), ("language model", LANGUAGE), ("pooled", POOLED["mean"]))
        for what in ("state", "start", "mask")
    },
    "a stage of the chain": (CHAIN, part(CHAIN, mixer=larger(MIXER))),
    "a block of the model": (LANGUAGE, part(LANGUAGE, blocks=(larger(LANGUAGE.blocks[0]),))),
}
"""The right module, and the same one broken."""


def given(module: Any, dtype=jnp.float64, one_document: bool = False) -> tuple[Any, Any, Any, Any]:
    """What a module reads: its input, a state that other tokens left, a document's beginning or none, and an absent token."""
    if isinstance(module, LanguageModel):
        x, other = tokens(0), tokens(7)
    else:
        wide = isinstance(module, Stack | SequenceModel | Chain)
        x, other = (a.astype(dtype) for a in ((WIDE, WIDE[::-1]) if wide else (X, X[::-1])))
    remembers = not module.tokenwise and not isinstance(module, Bidirectional)
    return x, (module(other)[1] if remembers else None), None if one_document else START, MASK


def residuals(
    module: Any, right: Any, dtype=jnp.float64, one_document: bool = False, by_all: bool = True
) -> dict[str, float]:
    """The certificate of a module by every entry that gives one, or by the first alone."""
    x, state, start, mask = given(right, dtype, one_document)
    flags = {"start": start, "mask": mask}
    found = {"layer_form": layer_form(module, x, state, **flags).residual}
    if not by_all:
        return found
    form = dual_form(module, x, state, **flags)
    found |= {"dual_form": float(form.residual), "the map": float(form.map_residual)}
    if hasattr(module, "stages"):
        found["model_form"] = model_form(module, x, state, **flags).residual
        of = lambda output: float(attribute(module, x, (TIME - 1, output), state=state, **flags).residual or 0)
        found["attribute"] = max(of(0), of(1))
    return found


WHOLLY = ("mixer, three", "chain, three")
"""Cases that every entry is asked about by the README's command; the others by one entry, and by all in the thorough tier."""
SIBLINGS = (
    *("layer norm", "gated MLP", "mixer alone", "stack", "sequence model, pool none", "block, s", "block, m"),
    *(
        "mixer, three",
        "chain, three",
        "pooled, s",
        "halved logits",
        "final norm",
        "embedding's scale",
        "a stage of the chain",
    ),
)
"""Cases that have a sibling of the same kind: for the thorough tier."""
CASES = [
    pytest.param(case, by_all, id=f"{case}{', every entry' if by_all else ''}", marks=pytest.mark.slow if slow else [])
    for case in BROKEN
    for by_all in (False, True)
    for slow in [case.startswith(SIBLINGS) or case.startswith(WHOLLY) != by_all]
    if by_all or not case.startswith((*WHOLLY, *SIBLINGS))
]


@pytest.mark.parametrize(("case", "by_all"), CASES)
def test_a_wrong_call_is_caught(case, by_all):
    """Every certificate of the broken module shows it, whichever entry it comes from."""
    right, wrong = BROKEN[case]
    # A state, and an absent token, say nothing to what comes after the next document's beginning.
    one_document = case.endswith(("state ignored", "mask ignored"))
    for entry, residual in residuals(wrong, right, one_document=one_document, by_all=by_all).items():
        assert not residual <= CAUGHT, f"{entry} certifies it: {residual:.0e}"


AGAIN = (
    *("stack", "bidirectional", "sequence model, pool none", "sequence model, pool last"),
    *("gated MLP", "mixer alone", "block with an MLP", "norm", "layer norm"),
)
"""Modules whose right call the thorough tier passes: certificates of those that they are made of are in every run."""
PASS = tiers(product(WHOLE, RIGHT), *((name, jnp.float64) for name in WHOLE if name not in AGAIN))


@pytest.mark.parametrize(("name", "dtype"), PASS)
def test_a_right_call_passes(name, dtype):
    """The module as it is has a certificate near rounding in the dtype in which it runs, with a state and both flags."""
    module = laws.cast(WHOLE[name], dtype)
    for entry, residual in residuals(module, module, dtype).items():
        assert residual <= RIGHT[dtype], f"{entry}: {residual:.0e}"
