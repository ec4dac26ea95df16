"""A second call of the same shapes compiles nothing: of every public entry, with new arrays, new weights and a new state.

Each entry is a function of a seed. It makes all that it needs from that seed and calls what is public as its users do, with no
`jax.jit` of their own; run for one seed it compiles, run for another it must not.
"""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform import construct, dual, generation, lenses, mixers, models, recurrences, tasks
from dualform.mixers import registry
from dualform.recurrences.selective_map import selective_map
from tests.tiers import tiers

D, TIME = 4, 6
_compiled = [0]


def _count(event: str, duration_secs: float, **kwargs: Any) -> None:
    del duration_secs, kwargs
    _compiled[0] += event == "/jax/core/compile/backend_compile_duration"


jax.monitoring.register_event_duration_secs_listener(_count)


def compilations(call: Callable[[], Any]) -> int:
    """How many programs are compiled, or fetched from the cache on disk, while `call` runs."""
    before = _compiled[0]
    jax.block_until_ready(jax.tree_util.tree_leaves(eqx.filter(call(), eqx.is_array)))
    return _compiled[0] - before


def compiles_once(entry: Callable[[int], Any]) -> None:
    """Run an entry for one seed, then for another: nothing is compiled for the second."""
    assert compilations(lambda: entry(1)) >= 0
    again = compilations(lambda: entry(2))
    assert again == 0, f"the second call compiles {again} programs"


def normal(seed: int, *shape: int) -> jax.Array:
    """Numbers that no other seed gives."""
    return jr.normal(jr.key(seed), shape)


def flags(seed: int, time: int = TIME) -> tuple[jax.Array, jax.Array]:
    """A start and an absent token."""
    places = jnp.arange(time)
    return places == 1 + seed % 2, places != 3 + seed % 2


def test_a_compilation_is_counted():
    """The counter sees what is compiled: a loop made anew at each call, which JAX cannot find again."""
    x = normal(0, 3)

    def loop(seed):
        return jax.lax.scan(lambda h, x_t: (seed * h + x_t, h), jnp.zeros(()), x)

    assert compilations(lambda: loop(1)) > 0
    assert compilations(lambda: loop(2)) > 0
    with pytest.raises(AssertionError, match="the second call compiles"):
        compiles_once(loop)


@pytest.mark.parametrize("name", tiers(registry(), "gla", "lstm", "softmax_attention"))
def test_calls_and_steps_of_mixers(name):
    """A loop of steps, and a call whose documents begin and whose tokens are absent anywhere."""

    def entry(seed):
        mixer, x = registry()[name](D, key=jr.key(seed)), normal(seed, TIME, D)
        start, mask = flags(seed)
        y, state = mixer(x, mixer.init_state(), start=start, mask=mask)
        outputs = [y]
        for t in range(2):
            y_t, state = mixer.step(x[t], state)
            outputs.append(y_t)
        return outputs, state

    compiles_once(entry)


@pytest.mark.slow
@pytest.mark.parametrize("name", registry())
def test_all_else_of_mixers(name):
    """A call without a state, steps with flags, an eager batch and gradient, the dual form, and a frozen mixer."""

    def entry(seed):
        mixer, x = registry()[name](D, key=jr.key(seed)), normal(seed, TIME, D)
        state = mixer.init_state()
        power = lambda mixer: jnp.sum(mixer(x)[0] ** 2)
        frozen = dual.freeze(mixer, x)
        return (
            mixer(x),
            mixer.step(x[0], state, start=True),
            mixer.step(x[0], state, start=False, mask=jnp.asarray(True)),
            jax.vmap(mixer)(jnp.stack([x, 2 * x])),
            eqx.filter_grad(power)(mixer),
            dual.dual_form(mixer, x),
            dual.dual_form(mixer, x, state, start=flags(seed)[0], mask=flags(seed)[1]),
            frozen.y,
            frozen.map(2 * x),
        )

    compiles_once(entry)


def _of_heads(recurrence, seed, form, **more):
    parts = [normal(seed + i, TIME, 2, D) for i in range(3)]
    start, mask = flags(seed)
    return recurrence(*parts, *more.pop("rest", ()), start=start, mask=mask, form=form, **more)


def _decays(seed, *shape):
    return jax.nn.sigmoid(normal(seed + 7, *shape))


def _diagonal(form):
    given = lambda seed: dict(zip(("start", "mask"), flags(seed), strict=True))
    return lambda seed: recurrences.diagonal(_decays(seed, TIME, D), normal(seed, TIME, D), form=form, **given(seed))


def _added(state, inputs):
    return state + inputs, state * inputs


RECURRENCES: dict[str, Callable[[int], Any]] = {
    **{f"diagonal, {form}": _diagonal(form) for form in ("scan", "associative", "naive")},
    "diagonal, constant": lambda seed: recurrences.diagonal(_decays(seed, D), normal(seed, TIME, D), reverse=True),
    **{
        f"outer, {form}": lambda seed, form=form: _of_heads(
            recurrences.outer, seed, form, decay=_decays(seed, TIME, 2, D)
        )
        for form in ("chunked", "parallel", "naive")
    },
    "outer, without decay": lambda seed: recurrences.outer(*(normal(seed + i, TIME, D) for i in range(3))),
    **{
        f"delta, {form}": lambda seed, form=form: _of_heads(
            recurrences.delta, seed, form, rest=(_decays(seed, TIME, 2),), decay=_decays(seed + 1, TIME, 2)
        )
        for form in ("chunked", "parallel", "naive")
    },
    "dense": lambda seed: recurrences.dense(normal(seed, D, D), normal(seed + 1, TIME, D), start=flags(seed)[0]),
    "cell": lambda seed: recurrences.cell(_added, normal(seed, TIME, D), jnp.zeros(D), start=flags(seed)[0]),
    "cell, without flags": lambda seed: recurrences.cell(_added, normal(seed, TIME, D), jnp.zeros(D)),
    "attend": lambda seed: recurrences.attend(
        normal(seed, TIME, 2, D),
        normal(seed + 1, TIME, 2, D),
        normal(seed + 2, TIME, 2, D),
        jnp.zeros(TIME, jnp.int32),
        jnp.arange(TIME, dtype=jnp.int32),
        span=TIME,
    ),
    **{
        f"many to one, {form}": lambda seed, form=form: recurrences.many_to_one(
            normal(seed, TIME, 2), normal(seed + 1, TIME, 2, D), mask=flags(seed)[1], form=form
        )
        for form in ("blocks", "associative", "naive")
    },
    "convolution": lambda seed: recurrences.convolution(
        normal(seed, TIME, D), normal(seed + 1, 3, D), start=flags(seed)[0], mask=flags(seed)[1], reverse=True
    ),
    **{
        f"selective, {form}": lambda seed, form=form: recurrences.selective(
            normal(seed, TIME, D),
            _decays(seed, TIME, D),
            -_decays(seed, D, 2),
            normal(seed + 1, TIME, 2),
            normal(seed + 2, TIME, 2),
            form=form,
        )
        for form in ("fused", "naive")
    },
    "selective map": lambda seed: selective_map(
        normal(seed, 2, TIME, D),
        normal(seed + 1, 3, TIME, D),
        _decays(seed, TIME, D),
        -_decays(seed, D, 2),
        normal(seed + 2, TIME, 2),
        normal(seed + 3, TIME, 2),
    ),
    **{
        f"softmax scan, {form}": lambda seed, form=form: recurrences.softmax_scan(
            normal(seed, TIME, 2), normal(seed + 1, TIME, 2, D), start=flags(seed)[0], mask=flags(seed)[1], form=form
        )
        for form in ("associative", "naive")
    },
    "window": lambda seed: recurrences.window(normal(seed, TIME, D), 2, start=flags(seed)[0], mask=flags(seed)[1]),
    **{
        f"wkv, {form}": lambda seed, form=form: recurrences.wkv(
            -_decays(seed, D), normal(seed, D), normal(seed + 1, TIME, D), normal(seed + 2, TIME, D), form=form
        )
        for form in ("associative", "naive")
    },
}


def _short(name: str) -> bool:
    return not any(form in name for form in ("associative", "parallel", "fused", "blocks", "map", "delta, chunked"))


@pytest.mark.parametrize("name", tiers(RECURRENCES, *filter(_short, RECURRENCES)))
def test_recurrences(name):
    """Every recurrence in each of its forms."""
    compiles_once(RECURRENCES[name])


def language_model(seed: int) -> models.LanguageModel:
    """Two blocks, of a memory and of a cell."""
    keys = jr.split(jr.key(seed), 5)
    blocks = (
        models.Block.make(mixers.GLA.make(D, key=keys[0]), key=keys[1], mlp="swiglu"),
        models.Block.make(mixers.LSTM.make(D, key=keys[2]), key=keys[3]),
    )
    return models.LanguageModel.make(blocks, 7, key=keys[4], norm=models.RMSNorm.make(D))


def sequence_model(seed: int, pool: str) -> models.SequenceModel:
    """One block between two maps."""
    block = models.Block.make(mixers.MinGRU.make(D, key=jr.key(seed)), key=jr.key(seed + 1), mlp="gelu", norm="layer")
    return models.SequenceModel.make((block,), 3, 2, key=jr.key(seed + 2), pool=pool)


def tokens(seed: int, time: int = TIME) -> jax.Array:
    """Tokens of `language_model`."""
    return jr.randint(jr.key(seed), (time,), 0, 7)


def _block(seed):
    block, x = language_model(seed).blocks[0], normal(seed, TIME, D)
    y, state = block(x, block.init_state(), start=flags(seed)[0], mask=flags(seed)[1])
    return y, block.step(x[0], state), block.step(x[0], state, start=bool(seed % 2))


def _language_model(seed):
    model = language_model(seed)
    y, state = model(tokens(seed), mask=flags(seed)[1])
    return (
        y,
        model.read(tokens(seed)),
        model.step(seed, state),
        model.step(tokens(seed)[0], state),
        model.logits(y[:, :D]),
    )


def _sequence_models(seed):
    found = []
    for pool in ("none", "mean"):
        model, x = sequence_model(seed, pool), normal(seed, TIME, 3)
        y, state = model(x)
        found += [y, model.step(x[0], state)]
    return found


def _stack(seed):
    stack = models.Stack.make((mixers.LSTM.make(D, key=jr.key(seed)),), 3, 2, key=jr.key(seed + 1))
    y, state = stack(normal(seed, TIME, 3))
    return y, stack.step(normal(seed, 3), state)


def _bidirectional(seed):
    pair = models.Bidirectional(mixers.GRU.make(D, key=jr.key(seed)), mixers.GRU.make(D, key=jr.key(seed + 1)))
    return pair(normal(seed, TIME, D), start=flags(seed)[0], mask=flags(seed)[1])


def _tpgn(seed):
    return models.TPGN.make(past=6, future=3, period=3, marks=0, key=jr.key(seed))(normal(seed, 6))


MODELS = {
    "block": _block,
    "language model": _language_model,
    "sequence models": _sequence_models,
    "stack": _stack,
    "bidirectional": _bidirectional,
    "tpgn": _tpgn,
}


@pytest.mark.parametrize("name", tiers(MODELS, "language model", "stack", "bidirectional"))
def test_models(name):
    """Calls and steps of every kind of model."""
    compiles_once(MODELS[name])


def _dual_form(seed):
    return [
        dual.dual_form(mixer(D, key=jr.key(seed)), normal(seed, TIME, D))
        for mixer in (mixers.GLA.make, mixers.LSTM.make)
    ]


def _frozen(seed):
    block, x = language_model(seed).blocks[1], normal(seed, TIME, D)
    frozen = dual.freeze(block, x)
    return frozen.y, frozen.map(2 * x)


def _layer_form(seed):
    form = dual.layer_form(language_model(seed).blocks[0], normal(seed, TIME, D))
    found = form.residual, form.contributions(), form.contributions([1]), form.shares(), form.norms([2]), form.weights
    return *found, form.check(), dual.state_shares(form)


def _model_form(seed):
    form = dual.model_form(language_model(seed), tokens(seed))
    found = form.layers[0].weights, form.logit(TIME - 1, 1), form.layers[1].residual
    return *found, lenses.edge_effects(form, "block 1", TIME - 1, 2)


def _attribution(seed):
    from dualform.dual.attribution import METHODS

    model, read = language_model(seed), tokens(seed)
    found = [dual.attribute(model, read, (TIME - 1, seed), method).scores for method in METHODS]
    return *found, dual.perturbation_curves(model, read, (TIME - 1, seed), found[0])


def _attention_as_rnn(seed):
    return dual.attention_as_rnn(mixers.SoftmaxAttention.make(D, key=jr.key(seed)), normal(seed, TIME, D))


def _doubled(y):
    return 2 * y


def _knock_outs(seed):
    model, read = language_model(seed), tokens(seed)
    whole = lenses.knock_out(model, read, "block 1", 1, seed)
    return whole, lenses.knock_out(model, read, "block 1", 1, 4, frozen=True, head=0)


def _trace(seed):
    edits = {"block 1.mixer.out": _doubled}
    return lenses.trace(language_model(seed), tokens(seed), edits, record=["block 2.out", "block 1.state@3"])


DUAL = {
    "dual form": _dual_form,
    "frozen": _frozen,
    "layer form": _layer_form,
    "model form": _model_form,
    "attribution": _attribution,
    "attention as a recurrent network": _attention_as_rnn,
    "knock-outs": _knock_outs,
    "trace": _trace,
}


@pytest.mark.parametrize("name", tiers(DUAL, "dual form", "frozen", "attention as a recurrent network", "trace"))
def test_dual_forms_and_lenses(name):
    """Dual forms of mixers, blocks and models, what is read from them, attribution and interventions."""
    compiles_once(DUAL[name])


def bounded(seed: int) -> models.LanguageModel:
    """A transformer that keeps three states."""
    sizes: dict[str, Any] = {
        "vocabulary": 7,
        "d": 8,
        "layers": 1,
        "heads": 2,
        "kv_heads": 1,
        "hidden": 8,
        "context": 64,
    }
    return generation.bounded(models.llama(key=jr.key(seed), **sizes), "tova", 3)


def _generate(seed):
    model = language_model(seed)
    found, state = generation.generate(model, tokens(seed), 3, key=jr.key(seed), top_k=2)
    return found, generation.generate(model, found[-1:], 3, state=state, temperature=0)


def _stream(seed):
    ids = generation.stream(language_model(seed), tokens(seed), key=jr.key(seed), temperature=0.5)
    return [next(ids) for _ in range(3)]


def _session(seed):
    session = generation.Session(language_model(seed))
    session.read(tokens(seed))
    other = session.fork()
    found = session.write(3, key=jr.key(seed))
    session.rollback(TIME)
    return found, other.write(2, temperature=0), session.logits


def _batch(seed):
    prompts = [tokens(seed), tokens(seed + 1, TIME - 2)]
    return [text.tokens for text in generation.generate_batch(language_model(seed), prompts, 3, key=jr.key(seed))]


def _perplexity(seed):
    return generation.perplexity(language_model(seed), np.asarray(tokens(seed, 12)).reshape(2, 6)).losses


def _bounded(seed):
    model = bounded(seed)
    logits, state = generation.read_prompt(model, tokens(seed))
    kept = generation.survivors(model, tokens(seed)).dropped
    return logits, kept, model.step(seed, state), generation.for_decoding(model).step(seed, state)


GENERATION = {
    "generate": _generate,
    "stream": _stream,
    "session": _session,
    "batch": _batch,
    "perplexity": _perplexity,
    "bounded": _bounded,
}


@pytest.mark.parametrize("name", tiers(GENERATION, "stream"))
def test_generation(name):
    """Text, sessions, perplexity and bounded models."""
    compiles_once(GENERATION[name])


def _teacher_student(seed):
    task = tasks.TeacherStudent(tasks.Teacher.gaussian(D, key=jr.key(seed)), time=TIME, batch=2)
    return task.sample(jr.key(seed)), task.target_power(jr.key(seed), 2)


def _samplers(seed):
    made = tasks.InContextRegression(batch=2), tasks.AssociativeRecall(batch=2), tasks.TokenRecall(batch=2)
    return [task.sample(jr.key(seed)) for task in made]


def _construct(seed):
    attention = mixers.LinearAttention.make(3, heads=1, key=jr.key(seed))
    return construct.build(attention, "compact").certificate.error


OTHERS = {"teacher and student": _teacher_student, "samplers": _samplers, "construct": _construct}


@pytest.mark.parametrize("name", tiers(OTHERS, "teacher and student", "construct"))
def test_tasks_and_constructions(name):
    """What tasks draw, and what a construction's certificate measures."""
    compiles_once(OTHERS[name])


@pytest.mark.slow
def test_a_long_loop_of_steps_needs_no_more_memory():
    """3,000 eager steps add no map of memory to the process, of which Linux gives it 65,530."""
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("this system does not list a process's maps of memory in /proc")
    mixer, x = mixers.LSTM.make(D, key=jr.key(0)), normal(0, D)
    y, state = mixer.step(x, mixer.init_state())
    gc.collect()
    before = maps.read_bytes().count(b"\n")
    for _ in range(3000):
        y, state = mixer.step(x, state)
    assert maps.read_bytes().count(b"\n") - before < 100
    assert bool(jnp.all(jnp.isfinite(y)))
