"""What a model attends to, as an attention page shows it: the whole model first, then every layer, each with its certificate."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from dualform.checkpoints.loading import Loaded
from dualform.checkpoints.tokens import encode_within, text_of
from dualform.dual import LayerForm, ModelForm, model_form, state_shares
from dualform.dual.attribution import METHODS, attribute
from dualform.errors import InputError, require
from dualform.generation import MultiStateAttention, Survivors, bounded, by_kind, survivors
from dualform.mixers import AbstractMixer, SoftmaxAttention
from dualform.models import LanguageModel, with_context
from dualform.models.stages import Alone
from dualform.reading import whole
from dualform.reports.attention_folder import write_attention_folder
from dualform.reports.attention_page import write_attention_page
from dualform.reports.attention_view import AttentionView, KeptView, LayerView

Target: TypeAlias = Literal["logit", "token", "state"]

EXACT = "contributions"
"""The method that keeps the sum; the others are those of `dual.attribution`."""

MOST_TOKENS = 16_384
"""Tokens of a page or folder at the most: a map of these takes 1 GB."""

MOST_HEADS = 32
"""Maps of heads that are shown of a layer beside its shares."""


ROUNDING = {True: 1e-5, False: 2.0**-5}
"""Residuals up to which a sum is exact to rounding: of a model that runs in float32 or wider, and in bfloat16 or float16."""


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
            f"--output, --against and --place choose a logit; the target {self.target} has none.",
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
    first = _states(chosen) if question.target == "state" else _whole(form, loaded, x, question)
    return AttentionView(
        title=f"What {loaded.name} attends to",
        tokens=names,
        layers=(first[0], *(_layer(layer) for layer in chosen)),
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
        bound=ROUNDING[jnp.finfo(form.x.dtype).bits >= 32],
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
    windows = [block.mixer.window for block in model.blocks if isinstance(block.mixer, SoftmaxAttention)]
    if bound is not None:
        states = (time if bound.policy == "full" else 64) if bound.states is None else bound.states
        require(
            bound.policy != "full" or states >= time - 1,
            f"full drops nothing, and {states} states are too few for {time} tokens. Leave --states out, or give {time}.",
        )
        return bounded(model, bound.policy, states, rerotate=bound.rerotate)
    # A cache that no text fills would be read all the same; one more place than tokens, so that it holds them all in the end.
    return with_context(model, time + 1) if windows else model


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


def _layer(layer: LayerForm) -> LayerView:
    """Shares of the mixer's output, and its own maps where there are few."""
    inner, own = layer.inner, layer.inner.own_map()
    shares, residual = inner.certified_shares()
    maps, names, over, proofs = [shares[0]], ["share of the output"], ["tokens"], [residual]
    if own is not None and len(own[0]) <= MOST_HEADS:
        weights, what, residual = own
        maps += list(weights)
        names += [f"head {i + 1}" for i in range(len(weights))]
        over, proofs = over + [what] * len(weights), proofs + [residual] * len(weights)
    maps = np.asarray(maps, np.float32)
    return LayerView(layer.name, inner.kind, inner.residual, maps, tuple(names), tuple(over), tuple(proofs))


def _whole(form: ModelForm, loaded: Loaded, x: Any, question: Question) -> tuple[LayerView, str]:
    """The whole model's map, and what it is of, in words."""
    kind = "frozen nonlinearity"
    if question.target == "token":
        view = LayerView("whole model", kind, form.residual, form.shares()[None].astype(np.float32), ("share",))
        return view, f"the output of {form.layers[-1].name}, at each token"
    y = np.asarray(form.y)
    place = form.time - 1 if question.place is None else question.place
    require(
        -form.time <= place < form.time,
        f"--place {place}: the text has {form.time} tokens, from 0 to {form.time - 1}.",
    )
    outputs = _outputs(loaded, y, question.output)
    against = None if question.against is None else _outputs(loaded, y, question.against)
    what = "the largest logit at each token" if question.output is None else f"the logit of {question.output!r}"
    what += "" if question.against is None else f" less that of {question.against!r}"
    if question.method == EXACT:
        rows = np.arange(form.time)
        brought = form.logits(rows, outputs) - (0 if against is None else form.logits(rows, against))
        residual = _residual(form, brought, outputs, against)
        view = LayerView("whole model", kind, residual, brought[None].astype(np.float32), ("logit",))
        return view, what
    place %= form.time
    target = (place, int(outputs[place])) + (() if against is None else (int(against[place]),))
    found, row = attribute(loaded.model, x, target, question.method), np.zeros((form.time, form.time), np.float32)
    row[place] = found.scores
    view = LayerView("whole model", kind, float("nan"), row[None], (question.method,))
    return view, f"{what}, at token {place}"


def _residual(form: ModelForm, brought: Float[np.ndarray, "time source"], outputs, against) -> float:
    """Of the logits as sums over tokens and bias."""
    rows = np.arange(form.time) if form.rows is None else np.flatnonzero(np.asarray(form.rows))
    one = lambda a, outputs: np.asarray(a, np.float64)[rows, outputs[rows]]
    of = lambda a: one(a, outputs) - (0 if against is None else one(a, against))
    y, total = of(form.y), brought.astype(np.float64).sum(1)[rows] + of(form.bias)
    return float(np.linalg.norm(total - y) / (np.linalg.norm(y) or 1.0))


def _outputs(loaded: Loaded, y: Float[np.ndarray, "time output"], asked: str | None) -> np.ndarray:
    """The number of the output that is asked for, at each place."""
    if asked is None:
        return np.argmax(y, axis=1)
    number = _number(loaded, asked, y.shape[1])
    return np.full(len(y), number)


def _number(loaded: Loaded, asked: str, size: int) -> int:
    """An output by its number, or by the text of one token."""
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
    for own, layer in zip(maps, layers, strict=True):
        own[-1] = state_shares(layer)
    view = LayerView("states", "frozen nonlinearity", float("nan"), maps, tuple(layer.name for layer in layers))
    return view, "what each layer remembers in the end"
