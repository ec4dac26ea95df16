"""What a model attends to, as an attention page shows it: the whole model first, then every layer, each with its certificate."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Float

from dualform.arrays import relative_error
from dualform.checkpoints.loading import Loaded
from dualform.checkpoints.tokens import encode_within, text_of
from dualform.dual import LayerForm, ModelForm, model_form, state_shares
from dualform.dual.attribution import METHODS
from dualform.dual.layer import frozen_map
from dualform.errors import InputError, require
from dualform.generation import MultiStateAttention, Survivors, bounded, by_kind, survivors
from dualform.layer import is_causal
from dualform.maps import joint
from dualform.mixers import AbstractMixer, SoftmaxAttention
from dualform.models import LanguageModel, with_context
from dualform.models.stages import Alone
from dualform.reading import whole
from dualform.reports.attention_folder import write_attention_folder
from dualform.reports.attention_page import write_attention_page
from dualform.reports.attention_view import AttentionView, KeptView, LayerView
from dualform.reports.whole_model import Logits, of_logits, of_method, of_outputs

Target: TypeAlias = Literal["logit", "token", "state"]

EXACT = "contributions"
"""The method that keeps the sum; the others are those of `dual.attribution`."""

MOST_TOKENS = 16_384
"""Tokens of a page or folder at the most: a map of these takes 1 GB."""

MOST_HEADS = 32
"""Maps of heads that are shown of a layer beside its shares."""


ROUNDING = {64: 1e-10, 32: 1e-5, 16: 2.0**-5}
"""Residuals up to which a sum is exact to rounding, by the bits of the dtype in which the model runs: sums over thousands of
tokens and tens of layers, each step of which is rounded."""

ABOVE = 1e-6
"""What may stand above the diagonal of a causal layer's map, of its largest entry: a column is the difference of two runs of one
program, each of which rounds to 6e-8 in float32; 2e-8 was seen in g2p-en."""


@dataclass(frozen=True)
class Question:
    """What is asked of a model.

    - layer: the name of one layer, or "all".
    - target: "logit", an output's number; "token", the whole output vector of the last layer; "state", what is remembered in
      the end.
    - method: "contributions", the exact sum, or one of `dual.attribution.METHODS`, for a logit.
    - place: the token at which a logit is asked for by another method; the last if None.  output: which one, by its text or
      number; the largest at each place if None.  against: another one that is subtracted.
    """

    layer: str = "all"
    target: Target = "logit"
    method: str = EXACT
    place: int | None = None
    output: str | None = None
    against: str | None = None

    def check(self) -> None:
        """Raise `InputError` where the question makes no sense."""
        methods = (EXACT, *(name for name in METHODS if name != "exact"))
        require(self.method in methods, f"--method {self.method}: there are {', '.join(methods)}.")
        require(
            self.method == EXACT or self.target == "logit",
            f"--method {self.method} explains a logit; for the target {self.target} there is {EXACT} alone.",
        )
        require(
            self.target == "logit" or (self.output is None and self.against is None and self.place is None),
            f"--logit, --against and --place choose a logit; the target {self.target} has none.",
        )
        require(
            self.place is None or self.method != EXACT,
            f"--place {self.place} is the token at which another --method explains the logit; {EXACT} explain it at every one. "
            "Leave it out, or give --method gradient.",
        )


@dataclass(frozen=True)
class Bound:
    """What softmax attention keeps while it reads.

    - policy: its name, as of `generation.policies`.  states: how many keys and values each layer keeps; with "full" as many as
      there are tokens if None.  rerotate: positions are counted anew among them.
    """

    policy: str
    states: int | None = None
    rerotate: bool = False


def attend(
    loaded: Loaded,
    source: str | Path,
    question: Question = Question(),  # noqa: B008 - frozen
    bound: Bound | None = None,
) -> AttentionView:
    """The maps of a model on a text (or a WAV file, for one that listens), ready for a page.

    The first layer of the view is the whole model: row t is what output t takes from each input token through all layers.
    The others are the layers themselves: the share of the mixer's output that each token brings, and the mixer's own maps.
    Of a bounded model the view also says what each layer keeps after each token.

    **Arguments:** bound: of a language model's softmax attention; it reads as it is if not given.

    **Raises:** `InputError` for a question that makes no sense, or a text that is empty or too long.
    """
    question.check()
    x, names = loaded.read(source)
    require(
        len(names) <= MOST_TOKENS, f"the text has {len(names):,} tokens; maps of up to {MOST_TOKENS:,} can be shown."
    )
    loaded = loaded._replace(model=_as_asked(loaded, len(names), bound))
    form = model_form(loaded.model, x)
    chosen = form.layers if question.layer == "all" else (form.layer(question.layer),)
    causal = is_causal(loaded.model.mixer if isinstance(loaded.model, Alone) else loaded.model)
    first = _states(chosen) if question.target == "state" else _whole(form, loaded, x, question)
    return AttentionView(
        title=f"What {loaded.name} attends to",
        tokens=names,
        layers=(first[0], *(_layer(layer, causal) for layer in chosen)),
        residual=form.residual,
        method=question.method,
        target=first[1],
        details={
            "model": f"{loaded.architecture}, from {Path(loaded.source).name}",
            "tokens": str(len(names)),
            "layers": f"{len(form.layers)}; bias: what no token brought, {_bias_share(form):.1%} of the output",
            **{key: str(value) for key, value in loaded.record.items() if key in ("licence", "package")},
        },
        kept=_kept(loaded.model, x, names),
        bound=ROUNDING[jnp.finfo(form.x.dtype).bits],
    )


def _as_asked(loaded: Loaded, time: int, bound: Bound | None) -> Any:
    """A model with stages, its attention as narrow as the text allows, or bounded."""
    model = loaded.model
    if isinstance(model, AbstractMixer):
        model = Alone(model)
    if not isinstance(model, LanguageModel):
        require(
            bound is None, f"{loaded.name} is a {loaded.architecture}; --policy bounds a language model's attention."
        )
        return model
    attends = any(isinstance(block.mixer, SoftmaxAttention) for block in model.blocks)
    if bound is not None:
        states = (time if bound.policy == "full" else 64) if bound.states is None else bound.states
        require(
            bound.policy != "full" or states >= time - 1,
            f"full drops nothing, and {states} states are too few for {time} tokens. Leave --states out, or give {time}.",
        )
        return bounded(model, bound.policy, states, rerotate=bound.rerotate)
    # A cache that no text fills would be read all the same; one more place than tokens, so that it holds them all in the end.
    return with_context(model, time + 1) if attends else model


def _kept(model: Any, tokens: Any, names: tuple[str, ...]) -> KeptView | None:
    """What each layer keeps, where layers are bounded."""
    found = kept_of(model, tokens)
    if found is None:
        return None
    mixer = next(b.mixer for b in model.blocks if isinstance(b.mixer, MultiStateAttention))
    policy = f"{mixer.policy.name}, {mixer.states} states" + (", positions by rank" if mixer.rerotate else "")
    return KeptView(policy, found.layers, np.asarray(found.dropped), by_kind(found, names))


def kept_of(model: Any, tokens: Any) -> Survivors | None:
    """What survives in a bounded language model; None for any other."""
    blocks = model.blocks if isinstance(model, LanguageModel) else ()
    bound = any(isinstance(block.mixer, MultiStateAttention) for block in blocks)
    return survivors(model, tokens) if bound else None


def write_view(view: AttentionView, out: Path) -> Path:
    """A page where `out` ends in .html, else a folder for `dualform serve`."""
    return (write_attention_page if out.suffix.lower() in (".html", ".htm") else write_attention_folder)(view, out)


def strongest(view: AttentionView, count: int = 5) -> tuple[int, list[tuple[int, float]]]:
    """The last place that the first map says something of, and the tokens of which it takes most, with how much."""
    row = max(t for t, values in enumerate(view.layers[0].maps[0]) if t == 0 or values.any())
    values = view.layers[0].maps[0][row]
    order = [int(s) for s in np.argsort(-np.abs(values), kind="stable")[:count] if values[s] != 0]
    return row, [(s, float(values[s])) for s in order]


def _bias_share(form: ModelForm) -> float:
    bias, y = np.asarray(form.bias, float), np.asarray(form.y, float)
    return float(np.linalg.norm(bias) / (np.linalg.norm(y) or 1.0))


def _layer(layer: LayerForm, causal: bool) -> LayerView:
    """Shares of the mixer's output, and its own maps where there are few."""
    inner, own = layer.inner, layer.inner.own_map()
    shares, residual = inner.certified_shares()
    of = f"{layer.name}'s mixer" if inner is not layer else layer.name
    maps, names, over, proofs = [shares[0]], ["share of the output"], ["tokens"], [residual]
    says = [f"each row and the share of what no token brought sum to 1, of the output of {of}"]
    if own is not None and len(own[0]) <= MOST_HEADS:
        weights, what, residual = own
        count = len(weights)
        maps += list(weights)
        names += [f"head {i + 1}" for i in range(count)]
        over, proofs = over + [what] * count, proofs + [residual] * count
        all_heads = (
            "this map, times what its columns carry, gives" if count == 1 else f"all {count} heads together give"
        )
        says += [f"{all_heads} the output of {of}, with what no token brought"] * count
    maps = np.asarray(maps, np.float32)
    return LayerView(
        layer.name,
        inner.kind,
        inner.residual,
        past_alone(maps) if causal else maps,
        tuple(names),
        tuple(over),
        tuple(proofs),
        tuple(says),
        explains=(f"the output of {of} at this token",),
        alone=int(len(maps) > 1),
    )


def past_alone(maps: Float[np.ndarray, "head time source"]) -> Float[np.ndarray, "head time source"]:
    """The maps of a causal layer with zeros above the diagonal, where no more than rounding stands there.

    What is larger stays: then the layer is not what its class says, and the page shows it.
    """
    above = np.triu(np.ones(maps.shape[1:], bool), 1)
    left, largest = np.abs(maps * above).max(axis=(1, 2)), np.abs(maps).max(axis=(1, 2))
    return np.where(above & (left <= ABOVE * largest)[:, None, None], np.float32(0), maps)


def _whole(form: ModelForm, loaded: Loaded, x: Any, question: Question) -> tuple[LayerView, str]:
    """The whole model's map, and what it is of, in words."""
    if question.target == "token":
        return of_outputs(form), f"the output of {form.layers[-1].name}, at each token"
    y = np.asarray(form.y)
    place = form.time - 1 if question.place is None else question.place
    require(
        -form.time <= place < form.time,
        f"--place {place}: the text has {form.time} tokens, from 0 to {form.time - 1}.",
    )
    logits = _logits(loaded, y, question)
    what = "the largest logit at each token" if question.output is None else f"the logit of {question.output!r}"
    what += "" if question.against is None else f" less that of {question.against!r}"
    if question.method == EXACT:
        return of_logits(form, logits), what
    place %= form.time
    return of_method(form, x, logits, question.method, place), f"{what}, at token {place}"


def _logits(loaded: Loaded, y: Float[np.ndarray, "time output"], question: Question) -> Logits:
    """The outputs that are asked for at each token, by number and by name."""
    outputs = np.argmax(y, axis=1)
    if question.output is not None:
        outputs = np.full(len(y), _number(loaded, question.output, y.shape[1]))
    against = None
    if question.against is not None:
        against = np.full(len(y), _number(loaded, question.against, y.shape[1]))
    named = {int(number): _name(loaded, int(number)) for number in np.unique(outputs)}
    less = "" if against is None else f" less that of {_name(loaded, int(against[0]))}"
    return Logits(outputs, against, tuple(f"the logit of {named[int(number)]}{less}" for number in outputs))


def _name(loaded: Loaded, number: int) -> str:
    """What an output is called."""
    names = getattr(loaded.model, "outputs", None)
    if names is not None:
        return names[number]
    return f"output {number}" if loaded.tokens is None else repr(loaded.decode([number])[0])


def _number(loaded: Loaded, asked: str, size: int) -> int:
    """An output by its name, the text of one token, or its number."""
    names = getattr(loaded.model, "outputs", ())
    if asked in names:
        return names.index(asked)
    if loaded.tokens is not None:
        ids = encode_within(loaded.tokens, asked)
        if len(ids) != 1 and asked.startswith(" "):  # many tokenizers put a space before a text by themselves
            ids = encode_within(loaded.tokens, asked[1:])
            ids = ids if len(ids) == 1 and text_of(loaded.tokens, ids.tolist()) == asked else ()
        if len(ids) == 1 and int(ids[0]) < size:
            return int(ids[0])
    number = whole(asked)
    if number is not None and number < size:
        return number
    raise InputError(
        f"{asked!r} is not one output of {loaded.name}: give the text of a single token, or a number from 0 to {size - 1}."
    )


def _states(layers: tuple[LayerForm, ...]) -> tuple[LayerView, str]:
    """Of each layer, the share of its last state that each token brought: the last row of a map of its own."""
    maps = np.zeros((len(layers), layers[0].time, layers[0].time), np.float32)
    says, proofs = [], []
    for own, layer in zip(maps, layers, strict=True):
        shares, inner = state_shares(layer), layer.inner
        own[-1] = shares
        error = float(_state_error(inner.module, inner.x, inner.state, inner.start, inner.mask))
        proofs.append(max(error, abs(float(shares.sum(dtype=np.float64)) - 1)) if shares.any() else float("nan"))
        says.append(
            f"the last row sums to 1, and the frozen map leaves the state that {layer.name} itself has in the end"
            if shares.any()
            else f"{layer.name} remembers nothing of the text in the end"
        )
    names = tuple(layer.name for layer in layers)
    explains = ("nothing; only the end was asked about",) * (layers[0].time - 1) + ("what is remembered in the end",)
    kind, over = joint(layer.inner.kind for layer in layers), ("tokens",) * len(layers)
    residual = float("nan") if any(map(math.isnan, proofs)) else max(proofs)
    view = LayerView("states", kind, residual, maps, names, over, tuple(proofs), tuple(says), explains=explains)
    return view, "what each layer remembers in the end"


@eqx.filter_jit
def _state_error(mixer, x, state, start, mask):
    """The relative error of the state that the frozen map leaves, against that of the mixer's own call."""
    frozen, x = frozen_map(mixer, x, state, start, mask)
    left, own = (
        [leaf.ravel() for leaf in jtu.tree_leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
        for tree in (frozen.map.run(x)[1], frozen.state)
    )
    wide = jnp.result_type(*left, *own)
    return relative_error(*(jnp.concatenate([leaf.astype(wide) for leaf in part]) for part in (left, own)))
