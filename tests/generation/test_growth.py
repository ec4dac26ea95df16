"""A cache has as many places as its text needs, up to its bound: whatever its size, what is said is the same, or nothing is."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform import models
from dualform.errors import FileError, InputError
from dualform.generation import PrefixStore, Session, generate, generate_batch, growth, load_state, room, save_state
from dualform.generation.growth import state_for
from dualform.mixers import SoftmaxAttention
from dualform.tensor_file import read_tensors, write_tensors
from tests.generation.texts import CHUNK, MAKE, TEXT, VOCABULARY, check_same, model
from tests.laws import laws
from tests.tiers import tiers

BOUND = 70
SIZES: Any = {"vocabulary": VOCABULARY, "d": 8, "layers": 2, "heads": 4, "kv_heads": 2, "hidden": 12}
LONG = np.asarray(jr.randint(jr.key(5), (BOUND + 1,), 0, VOCABULARY))
GREEDY: Any = {"temperature": 0}


@functools.cache
def llama(context: int = BOUND) -> Any:
    return models.llama(key=jr.key(0), context=context, **SIZES)


@functools.cache
def expected() -> Any:
    """The logits after each token of one call on all of them."""
    return llama()(jnp.asarray(LONG))[0]


def places(session: Session) -> int:
    state: Any = session.state
    return state[0][0].places


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """States begin with 4 places here, so that short texts meet many sizes."""
    monkeypatch.setattr(growth, "LEAST", 4)


ATTENTION = {
    "a context": {"context": 12},
    "a window": {"window": 12},
    "a window within a context": {"window": 5, "context": 12},
    "a context within a window": {"window": 20, "context": 12},
}


@pytest.mark.parametrize("case", tiers(ATTENTION, "a window within a context"))
def test_any_number_of_places_is_the_same_attention(case):
    """Up to as many tokens as there are places, calls and steps with absent tokens among them are the whole pass."""
    mixer, x = SoftmaxAttention.make(4, key=jr.key(0), **ATTENTION[case]), laws.sequence(0, 12)
    whole = dataclasses.replace(mixer, context=None, window=mixer.window or 100)(x)[0]
    for size in (size for size in (1, 2, 5, 7, 12) if size <= mixer.bound):
        cache, place = mixer.init_state()
        for cut in range(size + 1):
            state, ys = (cache.of_places(size), place), [jnp.zeros((0, 4))]
            if cut:
                padded = jnp.pad(x[:cut], ((0, 3), (0, 0)), constant_values=jnp.nan)
                y, state = mixer(padded, state, mask=jnp.arange(cut + 3) < cut)
                ys.append(y[:cut])
            for t in range(cut, size):
                _, same = mixer.step(x[t] * jnp.nan, state, mask=False)
                laws.check_same_bits(same, state, "an absent token")
                y, state = mixer.step(x[t], state)
                ys.append(y[None])
            assert state[0].places == size and state[0].filled == state[1] == size
            laws.check_close(jnp.concatenate(ys), whole[:size], laws.EXACT, f"{size} places, {cut} at once")


@pytest.mark.parametrize("case", ["a window", "a window within a context"])
def test_a_window_slides_when_it_has_all_its_places(case):
    """A state that was given more places until the window's goes on as one that had them from the beginning."""
    mixer, x = SoftmaxAttention.make(4, key=jr.key(0), **ATTENTION[case]), laws.sequence(0, 12)
    whole, state = mixer(x)[0], state_for(mixer, 1)
    for t in range(12):
        state = state_for(mixer, t + 1, state)
        y, state = mixer.step(x[t], state)
        laws.check_close(y, whole[t], laws.EXACT, f"token {t}")
        assert state[0].places == min(max(4, 1 << t.bit_length()), mixer.bound)


@pytest.mark.parametrize("flags", [{}, {"start": True}])
def test_where_there_is_no_place_nothing_is_said(flags):
    """In a program a token that finds no place makes NaN of what follows, until a document begins; growth mends nothing."""
    mixer, x = SoftmaxAttention.make(4, key=jr.key(0), context=64), laws.sequence(0, 12)
    start = jnp.arange(12) == 9

    @jax.jit
    def steps(state):
        def one(state, inputs):
            x_t, begins = inputs
            y, state = mixer.step(x_t, state, start=begins if flags else None)
            return state, y

        return jax.lax.scan(one, state, (x, start))

    after, y = steps(state_for(mixer, 4))
    laws.check_close(y[:4], mixer(x[:4])[0], laws.EXACT, "up to its places")
    assert np.isnan(y[4:9]).all()
    if flags:
        laws.check_close(y[9:], mixer(x[9:])[0], laws.EXACT, "a document that begins")
        assert state_for(mixer, 30, after)[0].places == 32
    else:
        assert np.isnan(y[9:]).all()
        with pytest.raises(InputError, match="12 tokens were read into a state with places for 4: the others are lost"):
            state_for(mixer, 30, after)


def test_a_call_sees_all_that_it_is_given():
    """More tokens than there are places, read in one call, see each other; from what that leaves nothing goes on."""
    mixer, x = SoftmaxAttention.make(4, key=jr.key(0), context=64), laws.sequence(0, 9)
    y, state = mixer(x, state_for(mixer, 4))
    laws.check_close(y, mixer(x)[0], laws.EXACT, "the call")
    assert np.isnan(mixer.step(x[0], state)[0]).all()


PLACES = {1: 4, 2: 4, 4: 4, 5: 8, 8: 8, 9: 16, 63: 64, 64: 64, 65: 70, 69: 70, 70: 70}
"""Places by how many tokens were read."""


@pytest.mark.parametrize("few", tiers([True, False], True))
def test_places_at_each_count(few):
    """A session has as many places as tokens, rounded up to a power of 2, and all of its bound in the end; behind it, none."""
    one = Session(llama(), history=0, chunk=CHUNK)
    assert places(one) == 4
    for count in (4, 5, 65, 70) if few else PLACES:
        one.read(LONG[len(one) : count])
        assert places(one) == PLACES[count], count
        laws.check_close(one.logits, expected()[count - 1], laws.EXACT, f"{count} tokens")
    with pytest.raises(InputError, match="in a context of 70 tokens .*, and 71 are to be read"):
        one.read(LONG[70:])
    assert len(one) == 70 and np.isfinite(np.asarray(one.logits)).all()


@pytest.mark.parametrize("name", tiers(("llama", "griffin"), "griffin", "llama"))
def test_it_grows_whatever_is_done_in_between(name, tmp_path):
    """Across growths snapshots, forks, files, ways back and stores are those of a session that reads everything, to the bit."""
    whole = Session(model(name), chunk=CHUNK)
    whole.read(TEXT[:3])
    at_four = whole.snapshot()
    whole.read(TEXT[3:40])
    whole.write(3, key=jr.key(3))

    for history in (0, 1 << 20):
        other = Session(model(name), chunk=CHUNK, history=history)
        other.restore(at_four)
        other.read(TEXT[3:30])
        other.rollback(27)
        other.fork().read(TEXT[3:9])
        other.save(tmp_path / "state")
        other = Session.load(tmp_path / "state", model(name), history=history)
        other.read(TEXT[3:40])
        other.write(5, key=jr.key(3))
        other.rollback(2)
        check_same(other, whole)
    store = PrefixStore(1 << 20, chunk=CHUNK, folder=tmp_path / "store")
    alone = Session(model(name), chunk=CHUNK)
    alone.read(TEXT[:40])
    for kept in (store, store, PrefixStore(1 << 20, chunk=CHUNK, folder=tmp_path / "store")):
        check_same(kept.read(model(name), TEXT[:40]), alone)


def test_a_way_back_is_to_the_state_that_was():
    """Behind a growth, back before it: as many places as there were, and the same bits."""
    one, other = (Session(llama(), chunk=CHUNK, history=history) for history in (0, 1 << 20))
    before = Session(llama(), chunk=CHUNK)
    before.read(LONG[:4])
    for each in (one, other):
        each.read(LONG[:4])
        each.read(LONG[4:50])
        each.rollback(46)
        assert places(each) == 4
        check_same(each, before)


@pytest.mark.slow
def test_texts_of_different_lengths_grow_together():
    """Each of several is what it is alone; the longest says how many places all have."""
    pieces, more = [LONG[:3], LONG[5:22], LONG[30:31]], [LONG[3:9], LONG[22:24], LONG[31:60]]
    several = Session(llama(), texts=3, chunk=CHUNK)
    several.read(pieces)
    state: Any = several.state
    assert state[0][0].keys.shape == (3, 2, 32, 2) and state[0][0].filled.tolist() == [3, 17, 1]
    several.read(more)
    written = several.write(9, **GREEDY)
    for i, (piece, rest) in enumerate(zip(pieces, more, strict=True)):
        alone = Session(llama(), chunk=CHUNK)
        alone.read(piece)
        alone.read(rest)
        assert alone.write(9, **GREEDY) == written[i]
        laws.check_close(several.logits[i], alone.logits, laws.EXACT, f"text {i}")


def test_every_driver_writes_the_same():
    """`generate`, from a state too, `generate_batch` and a session, across growths."""
    one = Session(llama())
    one.read(LONG[:3])
    tokens = one.write(30, **GREEDY)
    found, state = generate(llama(), LONG[:3], 10, **GREEDY)
    rest, _ = generate(llama(), found[-1:], 20, state=state, **GREEDY)
    assert [*found.tolist(), *rest.tolist()] == tokens
    assert generate_batch(llama(), [LONG[:3], LONG[:9]], 30, **GREEDY)[0].tokens.tolist() == tokens


def test_between_growths_the_memory_is_used_again():
    """A step takes the memory of the state before it; nothing of the size of the bound is there."""
    one: Any = Session(llama(), history=0)
    one.read(LONG[:5])
    one.write(1, **GREEDY)
    before = one._state[0][0].keys
    one.write(1, **GREEDY)
    assert before.is_deleted() and one._state[0][0].places == 8
    assert one.nbytes == 2 * (2 * 2 * 8 * 2 * 8 + 4 + 4) + 8 * VOCABULARY


def test_growth_without_memory_changes_nothing(monkeypatch):
    """More places than there is memory for: told in a sentence before anything is read, and all is as it was."""
    one, other = (Session(llama(), chunk=CHUNK) for _ in range(2))
    for each in (one, other):
        each.read(LONG[:4])
    with monkeypatch.context() as patch:
        patch.setattr(room, "free_bytes", lambda: room.state_bytes(llama(), 8))
        with pytest.raises(InputError, match=r"a sequence needs .* for the states.*; .* are free"):
            one.read(LONG[4:20])
        one.read(LONG[4:6])
        with pytest.raises(InputError, match="2 sequences need"):
            generate_batch(llama(), [LONG[:3]] * 2, 3, **GREEDY)
    other.read(LONG[4:6])
    check_same(one, other)
    assert room.state_bytes(llama(), 8) < room.state_bytes(llama()) / 8


def test_a_state_of_a_mixer_may_be_short_on_disk(tmp_path):
    """What a call leaves of fewer places is written and read back to the bit; of more than the bound it is no state of it."""
    mixer = SoftmaxAttention.make(4, key=jr.key(0), context=20)
    _, state = mixer(laws.sequence(0, 3), state_for(mixer, 4))
    save_state(tmp_path / "state", mixer, state)
    laws.check_same_bits(load_state(tmp_path / "state", mixer), state, "the state")
    cache, place = state
    for wrong in ((cache.of_places(21), place), (cache._replace(values=cache.values[:, :3]), place)):
        with pytest.raises(InputError, match="the state is not one of this SoftmaxAttention"):
            save_state(tmp_path / "state", mixer, wrong)
        with pytest.raises(InputError, match="the state does not belong to this SoftmaxAttention"):
            mixer(laws.sequence(0, 3), wrong)


@pytest.mark.parametrize("name", ["llama", "mamba"])
def test_files_of_the_first_version(name, tmp_path):
    """Their caches were laid out otherwise, and are refused; states without one are read."""
    one, path = Session(MAKE[name]()), tmp_path / "state"
    one.read(TEXT[:9])
    one.save(path)
    arrays, metadata = read_tensors(path)
    write_tensors(path, arrays, metadata | {"version": "1"})
    if name == "mamba":
        check_same(Session.load(path, one.model), one)
    else:
        with pytest.raises(
            FileError, match="is of version 1 of the format, in which caches were laid out otherwise. Read"
        ):
            Session.load(path, one.model)


def test_an_eager_step_without_a_place_is_refused():
    """A model's step, where values are known, says how to give more; given them, it goes on."""
    state = state_for(llama(), 3)
    _, state = llama()(jnp.asarray(LONG[:4]), state)
    for use in (lambda: llama().step(LONG[4], state), lambda: llama()(jnp.asarray(LONG[4:6]), state)):
        with pytest.raises(
            InputError, match=r"places for 4 tokens, .* 4 were read. .*generation.state_for\(model, 8, state\)"
        ):
            use()
    logits, state = llama().step(LONG[4], state_for(llama(), 8, state))
    laws.check_close(logits, expected()[4], laws.EXACT, "the step")
    assert state_for(llama(), 8, state) is state
    fresh = llama().step(LONG[0], state_for(llama(), 1), start=True)[0]
    laws.check_close(fresh, expected()[0], laws.EXACT, "a document that begins")


BAD = {
    "no token": (lambda: state_for(llama(), 0), "tokens is 0; give room for at least 1 token"),
    "a program": (
        lambda: jax.jit(lambda state: state_for(llama(), 9, state))(state_for(llama(), 1)),
        "this state is traced, and in a program a state keeps its places",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_rooms(case):
    """What cannot be done is told in a sentence."""
    make, message = BAD[case]
    with pytest.raises(InputError, match=message):
        make()
