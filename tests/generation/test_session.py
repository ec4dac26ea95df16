"""Whatever is kept, copied, taken back or put on disk in between, a session goes on to the bit as if it had not been."""

import copy
import itertools
import pickle
import threading
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from dualform.errors import InputError
from dualform.generation import Session, generate, text_keys
from dualform.generation import session as module
from dualform.generation.history import History, Mark
from tests.generation.texts import CHUNK, MAKE, TEXT, VOCABULARY, check_same, llama, model, session
from tests.laws import laws
from tests.tiers import tiers

KEY = jr.key(3)
OTHERWISE = TEXT[::-1]


@pytest.mark.parametrize("name", tiers(MAKE, "tova", "llama", "griffin"))
def test_nothing_in_between_changes_a_bit(name, tmp_path):
    """Snapshots, forks, a file, ways back inside and outside of a call: the same calls give the same bits for every model."""
    whole = session(name)
    whole.read(TEXT[:20])
    whole.write(4, key=KEY)
    whole.read(TEXT[20:25])

    broken = session(name)
    broken.read(TEXT[:20])
    snapshot = broken.snapshot()
    broken.write(3, key=jr.key(4))
    broken.read(OTHERWISE[:9])
    broken.restore(snapshot)
    broken.write(2, key=KEY)
    fork = broken.fork()
    broken.read(OTHERWISE[:3])
    fork.read(OTHERWISE[:6])
    fork.rollback(6)
    fork.save(tmp_path / "state")
    fork.write(3, temperature=0)
    loaded = Session.load(tmp_path / "state", model(name))
    loaded.write(5, key=KEY)
    loaded.rollback(3)
    loaded.read(TEXT[20:31])
    loaded.rollback(6)
    check_same(loaded, whole)


def test_what_is_remembered_is_that_of_the_model():
    """Logits and state are those of one call on all tokens, and what is written at temperature 0 is what `generate` writes."""
    one = session("tova")
    one.read(TEXT[:20])
    logits, state = jax.jit(lambda tokens: model("tova")(tokens))(jnp.asarray(TEXT[:20]))
    laws.check_close((one.logits, one.state), (logits[-1], state), laws.EXACT, "the session")
    expected, _ = generate(model("tova"), TEXT[:20], 5, temperature=0)
    assert one.write(5, temperature=0) == expected.tolist() == one.tokens[20:].tolist()


def test_a_snapshot_stays_as_it_is():
    """The session gives its state's memory away at each call; no snapshot, and nothing that was handed out, is in it."""
    one = session("full")
    kept = []
    for tokens in ([], TEXT[:16], TEXT[16:17], TEXT[17:20]):
        one.read(tokens)
        snapshot, state = one.snapshot(), one.state
        kept.append((snapshot, state, snapshot.tokens.copy(), jax.tree.map(np.array, (state, snapshot.logits))))
    one.write(3, temperature=0)
    one.rollback(5)
    for snapshot, state, tokens, (expected, logits) in kept:
        laws.check_same_bits((snapshot.state, state), (expected, expected), "the states")
        laws.check_same_bits(snapshot.logits, logits, "the logits")
        np.testing.assert_array_equal(snapshot.tokens, tokens)
    own: Any = one.model.blocks[0].mixer
    assert not own.attention.w_k.is_deleted()


def test_the_memory_is_used_again():
    """Between steps of which nothing was kept, the state is not copied: the old one is gone."""
    one: Any = session("full")
    one.read(TEXT[:4])
    one.write(1, temperature=0)
    before = one._state[0].keys
    one.write(1, temperature=0)
    assert before.is_deleted()
    small: Any = session("full", history=99)  # where no state has place in the history, none is copied for it
    small.read(TEXT[:4])
    before = small._state[0].keys
    small.write(1, temperature=0)
    assert before.is_deleted()


def test_a_way_back_ends_where_the_call_had_ended():
    """Back to any place, through chunks, single tokens and written ones, with a history and without one, and after a file."""
    for history in (0, 4_000, 1 << 20):
        for place in (0, 1, 7, 16, 17, 31, 36, 37, 39, 41):
            one = session("tova", history=history)
            one.read(TEXT[:37])
            one.write(3, key=KEY)
            one.read(TEXT[40:42])
            one.rollback(42 - place)
            other = session("tova", history=0)
            other.read(TEXT[: min(place, 37)])
            if place > 37:
                other.write(min(place - 37, 3), key=KEY)
            other.read(TEXT[40:place])
            if place == 0:
                assert len(one) == 0
                for each in (one, other):
                    each.read(TEXT[:3])
            check_same(one, other)


def test_a_way_back_uses_the_history(monkeypatch):
    """To the end of what was read no token is read again, and from there on none but those behind the nearest mark."""
    from dualform.generation import session as module

    one, seen = session("tova"), []
    one.read(TEXT[:40])
    one.write(4, temperature=0)
    called = module.called
    monkeypatch.setattr(module, "called", lambda *given: seen.append(len(given[2])) or called(*given))
    one.rollback(4)
    assert seen == []
    one.rollback(5)
    assert seen == [3]


def test_a_draw_is_of_the_key_and_the_place():
    """Written in two pieces, after a way back, or by a fork: the same key draws the same; another one others."""
    one = session("mamba")
    one.read(TEXT[:5])
    draw = lambda key, *lengths: list(itertools.chain(*(fork.write(n, key=key, top_k=9) for n in lengths)))
    for key in (KEY, jr.key(4)):
        found = []
        for lengths in ((12,), (5, 7)):
            fork = one.fork()
            found.append(draw(key, *lengths))
        fork.rollback(12)
        assert found[0] == found[1] == draw(key, 12)
    assert found[0] != one.fork().write(12, key=KEY, top_k=9)


def test_a_text_may_end():
    """The first token of `ends` is the last one written, and it is read."""
    one = session("mamba")
    one.read(TEXT[:5])
    free = one.fork().write(9, key=KEY)
    found = one.write(9, key=KEY, ends={free[3]})
    assert found == free[: free.index(free[3]) + 1] == one.tokens[5:].tolist()
    assert one.write(0, key=KEY) == [] and one.write(0, key=KEY, ends={1}) == []


def test_a_session_that_was_broken_off_heals():
    """Ctrl-C in the middle of a call: what was read before it is there, to the bit."""
    from dualform.generation import session as module

    one, other = session("tova"), session("tova")
    for each in (one, other):
        each.read(TEXT[:20])
        each.write(2, key=KEY)
    called = module.called

    def broken(*given):
        called(*given)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "called", broken)
        with pytest.raises(KeyboardInterrupt):
            one.read(TEXT[22:24])
    check_same(one, other)


def test_a_history_keeps_to_its_budget():
    """Marks are dropped so that the nearer to the end the closer they are; their bytes are never more than the budget."""
    history = History(8 * 100)
    for place in range(1, 201):
        history.add(Mark(place, place, jnp.zeros(8, jnp.float32), jnp.zeros(17, jnp.float32)))
        assert sum(mark.nbytes for mark in history.marks) == 100 * min(place, 8)
    places = [mark.place for mark in history.marks]
    ways = 200 - np.array([0, *places[:-1]])
    assert places[-1] == 200 and np.all(np.diff([0, *places])[:-1] <= 0.75 * ways[:-1])
    mark = history.back_to(places[2])
    assert mark is not None and mark.place == history.last == places[2] and len(history.marks) == 3
    small = History(99)
    small.add(Mark(1, 1, jnp.zeros(8, jnp.float32), jnp.zeros(17, jnp.float32)))
    assert small.marks == [] and small.last == 0


def test_bytes_are_counted():
    """A bounded state is as large after 5 tokens as after 50."""
    one = session("tova")
    one.read(TEXT[:5])
    few = one.nbytes
    one.read(TEXT[5:50])
    # 2 layers of 6 keys and values, 2 heads of 2 channels, with their scores and positions; and the logits
    assert one.nbytes == few == 2 * (2 * 6 * (2 * 2 * 8 + 8 + 4) + 4) + 8 * VOCABULARY
    assert one.snapshot().nbytes == few + 4 * 50 + 4 * len(one.snapshot().calls)


def read_one():
    one = session("mamba")
    one.read(TEXT[:2])
    return one


def wrong(value: Any) -> Any:
    """What a caller may give, whatever the annotations say."""
    return value


BAD = {
    "chunk": (lambda: Session(model("mamba"), chunk=0), "chunk is 0; read at least 1 token"),
    "history": (lambda: Session(model("mamba"), history=-1), "history is -1; give a number of bytes, 0 for none"),
    "nothing read": (lambda: session("mamba").write(1, temperature=0), "nothing was read yet, so nothing follows"),
    "tokens": (lambda: read_one().read([3, 11]), "token 1 is 11; this vocabulary goes from 0 to 10"),
    "floats": (lambda: read_one().read([0.5]), "tokens must be integers; got float64"),
    "length": (lambda: read_one().write(-1, temperature=0), "length is -1; give a whole number of tokens, 0 or more"),
    "no key": (lambda: read_one().write(1), "at temperature 1.0, and no key is given"),
    "top_k": (lambda: read_one().write(1, key=KEY, top_k=12), "top_k is 12; the vocabulary has 11 tokens"),
    "back": (lambda: read_one().rollback(3), "3 tokens back: 2 were read. Give a number from 0 to 2"),
    "forward": (lambda: read_one().rollback(-1), "count is -1; give a number of tokens to go back, 0 or more"),
    "half a token back": (lambda: read_one().rollback(wrong(0.5)), "count is 0.5; give a number of tokens to go back"),
    "half a chunk": (lambda: Session(model("mamba"), chunk=wrong(1.5)), "chunk is 1.5; read at least 1 token"),
    "a chunk that is none": (lambda: Session(model("mamba"), chunk=True), "chunk is True; read at least 1 token"),
    "a history that is none": (
        lambda: Session(model("mamba"), history=wrong(None)),
        "history is None; give a number of bytes",
    ),
    "ends": (lambda: read_one().write(1, temperature=0, ends=wrong(3)), "ends are 3; give a list of whole numbers"),
    "a text as an end": (
        lambda: read_one().write(1, temperature=0, ends=wrong(["a"])),
        r"ends are \['a'\]; give a list of whole",
    ),
    "a seed as a key": (
        lambda: read_one().write(1, key=wrong(0)),
        r"the key is 0, which is not one PRNG key. Pass key=jax.random",
    ),
    "another policy": (
        lambda: Session(llama("h2o")).restore(session("tova").snapshot()),
        r"is of another model: of a LanguageModel with 2 times MultiStateAttention \(tova, 6 states\). This one is a "
        r"LanguageModel with 2 times MultiStateAttention \(h2o, 6 states\). Take the model",
    ),
    "another size": (
        lambda: Session(llama("tova", 5)).restore(session("tova").snapshot()),
        r"\(tova, 6 states\). This",
    ),
    "other weights": (
        lambda: Session(llama("tova", seed=1)).restore(session("tova").snapshot()),
        "is of a model with other weights, as of another training",
    ),
    "another kind": (lambda: session("gla").restore(session("tova").snapshot()), "with GLA. Take the model"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_sessions(case):
    """What cannot be done is told in a sentence."""
    make, message = BAD[case]
    with pytest.raises(InputError, match=message):
        make()


def test_bad_input_changes_nothing():
    """After a refusal the session is where it was."""
    one, other = read_one(), read_one()
    for wrong in (lambda: one.read([3, 99]), lambda: one.rollback(9), lambda: one.restore(session("tova").snapshot())):
        with pytest.raises(InputError):
            wrong()
    check_same(one, other)


def test_chunks_are_calls():
    """A text read at once is read in calls of a chunk each; read in those pieces, it leaves the same bits."""
    one, other = session("h2o"), session("h2o")
    one.read(TEXT[:40])
    for begin in range(0, 40, CHUNK):
        other.read(TEXT[begin : min(begin + CHUNK, 40)])
    check_same(one, other)


def test_two_threads_are_not_one_text(monkeypatch):
    """A session that one thread is in refuses another one; nothing of what the first one reads changes, and turns are taken."""
    one, alone, inside, go = session("mamba"), session("mamba"), threading.Event(), threading.Event()
    alone.read(TEXT[:5])
    call = module.called

    def slow(*given):
        inside.set()
        assert go.wait(60)
        return call(*given)

    monkeypatch.setattr(module, "called", slow)
    thread = threading.Thread(target=lambda: one.read(TEXT[:5]))
    thread.start()
    assert inside.wait(60)
    uses = (lambda: one.read([1]), lambda: one.write(1, temperature=0), one.fork, one.snapshot, lambda: one.rollback(1))
    other = alone.snapshot()
    for use in (*uses, lambda: one.logits, lambda: one.state, lambda: one.save("nowhere"), lambda: one.restore(other)):
        with pytest.raises(InputError, match="another thread is at work in this session: .* by session.fork"):
            use()
    go.set()
    thread.join()
    monkeypatch.undo()
    check_same(one, alone)
    later = []
    thread = threading.Thread(target=lambda: later.append(one.write(2, temperature=0)))
    thread.start()
    thread.join()
    assert later == [alone.write(2, temperature=0)]


def test_counts_may_be_numpys():
    """A whole number of NumPy is one."""
    one, other = read_one(), read_one()
    settings = {"key": KEY, "temperature": np.float32(0.5), "top_k": np.int64(3)}
    assert one.write(np.int32(2), **settings) == other.write(2, key=KEY, temperature=0.5, top_k=3)
    one.rollback(np.int8(2))
    other.rollback(2)
    check_same(one, other)
    assert Session(model("mamba"), chunk=np.int64(4), history=np.int32(0)).chunk == 4


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_copies_are_forks(copied):
    """A session that Python copies, or keeps as bytes, goes on by itself, to the bit, and the first as if there were no other."""
    one, alone = read_one(), read_one()
    other = copied(one)
    assert other.write(3, temperature=0) == one.write(3, temperature=0) == alone.write(3, temperature=0)
    other.read([1])
    check_same(one, alone)


PIECES = (TEXT[:20], TEXT[5:8], TEXT[9:19])
MORE = (TEXT[20:22], [], TEXT[30:47])


def several(name: str, *steps: Any, **options: Any) -> Session:
    one = Session(model(name), texts=3, chunk=CHUNK, **options)
    one.read(PIECES)
    for step in steps:
        step(one)
    return one


@pytest.mark.parametrize("name", tiers(MAKE, "griffin"))
def test_several_texts_are_each_alone(name):
    """Pieces of different lengths, none among them, and what is written up to an end: each as it is alone."""
    one = several(name)
    free = one.fork().write(4, key=KEY)
    ends = {free[1][1]}
    written = one.write(4, key=KEY, ends=ends)
    one.read(MORE)
    tokens = one.tokens
    one.read([[1]] * 3)
    logits = one.logits
    for i, (piece, more) in enumerate(zip(PIECES, MORE, strict=True)):
        alone = session(name)
        alone.read(piece)
        keys = text_keys(KEY, 3)
        assert keys is not None
        assert written[i] == alone.write(4, key=keys[i] if i else KEY, ends=ends)
        alone.read(more)
        np.testing.assert_array_equal(tokens[i], alone.tokens)
        alone.read([1])  # keys and values are kept in any order: what follows shows that they are the same
        laws.check_close(logits[i], alone.logits, laws.EXACT, "a text")


@pytest.mark.parametrize("name", tiers(MAKE, "h2o", "gla"))
def test_nothing_in_between_changes_a_bit_of_several(name, tmp_path):
    """Snapshots, forks, a file and ways back of several texts, which have ended or not."""
    ends = {several(name).write(2, key=KEY)[1][1]}
    go_on = (lambda one: one.write(4, key=KEY, ends=ends), lambda one: one.read(MORE))
    whole = several(name, *go_on)
    broken = several(name)
    snapshot = broken.snapshot()
    broken.write(3, key=jr.key(4))
    broken.restore(snapshot)
    broken.read(([1], [], [2, 3]))
    broken.restore(snapshot)
    go_on[0](broken)
    fork = broken.fork()
    broken.read(MORE)
    fork.read((TEXT[:2], TEXT[:2], TEXT[:2]))
    fork.rollback(2)
    fork.save(tmp_path / "state")
    loaded = Session.load(tmp_path / "state", model(name), history=0)
    loaded.read(MORE)
    small = several(name, *go_on, lambda one: one.read([[1, 2]] * 3), lambda one: one.rollback(2), history=0)
    for other in (broken, loaded, small):
        assert [each.tolist() for each in other.tokens] == [each.tolist() for each in whole.tokens]
        laws.check_same_bits((other.logits, other.state), (whole.logits, whole.state), "the session")


SEVERAL = {
    "no texts": (lambda: Session(model("mamba"), texts=0), "texts is 0; give at least 1, or None for one alone"),
    "another number": (
        lambda: several("mamba").read([[1], [2]]),
        "there are 3 texts, and tokens of 2. Give some for each",
    ),
    "one is empty": (
        lambda: several_of([[1], []]).write(1, temperature=0),
        "nothing follows. Read at least one token first, of each text",
    ),
    "back": (lambda: several("mamba").rollback(4), "4 tokens back: 3 were read"),
    "a snapshot of one": (
        lambda: several("mamba").restore(read_one().snapshot()),
        "the snapshot is of one text alone, this session of 3 texts. Restore it in a session of as many",
    ),
}


def several_of(tokens: Any) -> Session:
    one = Session(model("mamba"), texts=len(tokens))
    one.read(tokens)
    return one


@pytest.mark.parametrize("case", SEVERAL)
def test_bad_sessions_of_several(case):
    """What cannot be done with several texts is told in a sentence."""
    make, message = SEVERAL[case]
    with pytest.raises(InputError, match=message):
        make()
