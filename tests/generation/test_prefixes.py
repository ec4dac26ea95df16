"""A store reads what texts share once, keeps to its budget, and changes no bit of what is read."""

import functools
import os
import threading
from typing import Any

import jax.random as jr
import numpy as np
import pytest

from dualform.errors import InputError
from dualform.generation import PrefixStore, Session
from dualform.generation.prefixes import Counts
from tests.generation.texts import CHUNK, TEXT, check_same, llama, model, session
from tests.tiers import tiers


@functools.cache
def entry(name: str) -> int:
    """Bytes of a first chunk's state; a later one has more tokens, and calls."""
    one = session(name)
    one.read(TEXT[:CHUNK])
    return one.snapshot().nbytes


def later(name: str, chunk: int) -> int:
    """Bytes of the state after so many chunks."""
    return entry(name) + 4 * (CHUNK + 1) * (chunk - 1)


def store(budget: int = 1 << 20) -> PrefixStore:
    return PrefixStore(budget, chunk=CHUNK)


@pytest.mark.parametrize("name", tiers(["tova", "full", "mamba", "griffin"], "tova", "griffin"))
def test_a_store_changes_no_bit(name):
    """Texts that share 0 to 3 chunks, one of them a chunk's end and one shorter than a chunk, leave what a session leaves."""
    kept, last = store(), TEXT[::-1]
    texts = [TEXT[:40], TEXT[:40], np.r_[TEXT[:36], last[:9]], TEXT[:33], TEXT[:32], TEXT[:5], last[:20], TEXT[:58]]
    for text in texts:
        found, alone = kept.read(model(name), text), session(name)
        alone.read(text)
        check_same(found, alone)
        assert found.write(2, temperature=0) == alone.write(2, temperature=0)
        for each in (found, alone):
            each.rollback(len(each) - 3)
        check_same(found, alone)
    # whole chunks found: of 40: 0, then 2; of 45: 2; 33: 2; 32: 2; 5: 0; 20: 0; 58: 2
    assert kept.counts == Counts(5, 3, 5 * 32, sum(map(len, texts)) - 5 * 32) and len(kept) == 2 + 1 + 1


def test_bytes_are_counted():
    """What is kept is the sum of its states, logits, tokens and calls; a bounded state is as large after each chunk."""
    kept = store()
    kept.read(model("tova"), TEXT[:50])
    assert len(kept) == 3 and kept.nbytes == sum(later("tova", i) for i in (1, 2, 3))
    kept.read(model("mamba"), TEXT[:20])
    assert len(kept) == 4 and kept.nbytes == sum(later("tova", i) for i in (1, 2, 3)) + entry("mamba")
    kept.clear()
    assert len(kept) == kept.nbytes == 0


def starts(count: int) -> list[np.ndarray]:
    return [np.asarray(jr.randint(jr.key(100 + i), (CHUNK,), 0, 11)) for i in range(count)]


def found(kept: PrefixStore, text) -> bool:
    hits = kept.counts.hits
    kept.read(model("mamba"), text)
    return kept.counts.hits == hits + 1


def test_what_was_used_longest_ago_goes():
    """Places for three: a use renews; the fourth takes the place of the one that was used longest ago."""
    kept, (a, b, c, d, e) = store(3 * entry("mamba")), starts(5)
    assert [found(kept, each) for each in (a, b, c)] == [False] * 3 and len(kept) == 3
    assert found(kept, a) and not found(kept, d) and len(kept) == 3
    assert found(kept, a) and found(kept, c) and found(kept, d)
    assert not found(kept, e) and kept.nbytes == 3 * entry("mamba")
    assert not found(kept, b) and found(kept, d) and found(kept, e) and found(kept, b) and not found(kept, a)


def test_what_is_too_large_is_read_all_the_same():
    """An entry beyond the budget is not kept, and drives nothing out; with no budget nothing ever is."""
    kept = store(entry("tova"))
    kept.read(model("tova"), TEXT[:20])
    alone = session("mamba")
    alone.read(TEXT[:20])
    assert entry("mamba") > entry("tova")
    check_same(kept.read(model("mamba"), TEXT[:20]), alone)
    kept.read(model("tova"), TEXT[:19])
    assert len(kept) == 1 and kept.counts.hits == 1
    nothing = store(0)
    for _ in range(2):
        nothing.read(model("tova"), TEXT[:20])
    assert nothing.counts.hits == len(nothing) == 0


def test_only_what_is_shared_is_kept():
    """Of 50 tokens that share 40, the state after 32 alone; a text that shares less than a chunk leaves nothing."""
    kept = store()
    kept.read(model("mamba"), TEXT[:50], shared=40)
    assert len(kept) == 1 and kept.nbytes == later("mamba", 2)
    kept.read(model("mamba"), TEXT[::-1], shared=15)
    assert len(kept) == 1 and found(kept, TEXT[:34])


def test_models_are_told_apart():
    """Another policy, another number of states and other weights find nothing; the same model made anew does."""
    kept = store()
    for other in (llama("tova"), llama("h2o"), llama("tova", 5), llama("tova", seed=1)):
        kept.read(other, TEXT[:CHUNK])
    assert kept.counts.hits == 0
    kept.read(llama("tova"), TEXT[:CHUNK])
    assert kept.counts.hits == 1


def test_sessions_are_independent():
    """What one session reads and writes later changes neither the store nor another session."""
    kept = store()
    one, other = kept.read(model("tova"), TEXT[:32]), kept.read(model("tova"), TEXT[:32])
    one.read(TEXT[40:50])
    one.write(3, temperature=0)
    one.rollback(12)
    alone = session("tova")
    alone.read(TEXT[:32])
    check_same(other, alone)
    check_same(kept.read(model("tova"), TEXT[:32]), alone)


def together(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_many_threads_read_everything_once():
    """8 threads, 160 reads of texts that share chunks: every answer is right to the bit, and every chunk was read once."""
    kept, names = store(), ("tova", "mamba")
    base = [np.r_[TEXT[:16], a, b] for a in starts(3) for b in starts(2)]
    texts = [text[:length] for text in base for length in (20, 34, 48)]
    alone = {}
    for name in names:
        for text in texts:
            alone[name, text.tobytes()] = one = session(name)
            one.read(text)
    wrong: list[BaseException] = []
    gate = threading.Barrier(8)

    def work(number: int) -> None:
        order = np.random.default_rng(number)
        gate.wait()
        try:
            for _ in range(20):
                name, text = names[order.integers(2)], texts[order.integers(len(texts))]
                check_same(kept.read(model(name), text), alone[name, text.tobytes()])
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    together(threads)
    assert not wrong, wrong[0]
    counts = kept.counts
    asked = [np.random.default_rng(number) for number in range(8)]
    asked = [(names[order.integers(2)], texts[order.integers(len(texts))]) for order in asked for _ in range(20)]
    chunks = {(name, text[:end].tobytes(), end) for name, text in asked for end in range(CHUNK, len(text) + 1, CHUNK)}
    ends = sum(len(text) % CHUNK for _, text in asked)
    assert counts.hits + counts.misses == 160 and counts.misses == 2 and len(kept) == len(chunks)
    assert counts.tokens_read == CHUNK * len(chunks) + ends
    assert kept.nbytes == sum(later(name, end // CHUNK) for name, _, end in chunks)
    assert len(kept._turns) == 0


def test_many_threads_in_a_small_store():
    """With places for three, threads drive each other's states out all the time: the answers stay right, the bytes within."""
    budget = 3 * later("mamba", 3)
    kept = store(budget)
    texts = [np.r_[a, b, a[:3]] for a in starts(3) for b in starts(2)]
    alone = []
    for text in texts:
        alone.append(session("mamba"))
        alone[-1].read(text)
    wrong: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for i in np.random.default_rng(number).integers(len(texts), size=25):
                check_same(kept.read(model("mamba"), texts[i]), alone[i])
                assert kept.nbytes <= budget
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    together(threads)
    assert not wrong, wrong[0]
    assert kept.nbytes == sum(each.nbytes for each in kept._kept.values()) and len(kept) == 3


def on_disk(folder, budget: int = 1 << 20, memory: int = 1 << 20) -> PrefixStore:
    return PrefixStore(memory, chunk=CHUNK, folder=folder, folder_budget=budget)


def test_a_folder_outlives_a_store(tmp_path):
    """A new store finds what an older one saved, the longest there is, to the bit; another model, or another chunk, nothing."""
    on_disk(tmp_path).read(model("tova"), TEXT[:40])
    on_disk(tmp_path).read(model("tova"), TEXT[:20])
    kept, alone = on_disk(tmp_path), session("tova")
    alone.read(TEXT[:50])
    check_same(kept.read(model("tova"), TEXT[:50]), alone)
    assert kept.counts == Counts(1, 0, 32, 18) and len(list(tmp_path.iterdir())) == 3  # after 32, 16 and 48 tokens
    kept.read(llama("tova", seed=1), TEXT[:50])
    assert kept.counts.hits == 1
    other = PrefixStore(0, chunk=2 * CHUNK, folder=tmp_path)
    other.read(model("tova"), TEXT[:50])
    assert other.counts.hits == 0
    nothing = on_disk(tmp_path, memory=0)  # without a place in memory, the folder alone
    check_same(nothing.read(model("tova"), TEXT[:50]), alone)
    assert nothing.counts.hits == 1 and len(nothing) == 0


def test_a_damaged_file_is_read_anew(tmp_path, caplog):
    """A file that is truncated, or holds another text, is taken away with a warning; the answer is the same, and stored anew."""
    on_disk(tmp_path).read(model("mamba"), TEXT[:16])
    alone = session("mamba")
    alone.read(TEXT[:20])
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    wrong = session("mamba")
    wrong.read(TEXT[16:32])
    wrong.save(tmp_path / "other")
    for data, message in ((whole[:-9], "is not a whole safetensors file"), (None, "holds another text")):
        file.write_bytes((tmp_path / "other").read_bytes() if data is None else data)
        caplog.clear()
        kept = on_disk(tmp_path)
        check_same(kept.read(model("mamba"), TEXT[:20]), alone)
        assert kept.counts.misses == 1 and message in caplog.text and file.read_bytes() == whole


def test_a_folder_keeps_to_its_budget(tmp_path, monkeypatch, caplog):
    """What was used longest ago goes; what is too large, or has no place on the disk, is not stored, and answered as ever."""
    on_disk(tmp_path).read(model("mamba"), TEXT[:16])
    (file,) = tmp_path.iterdir()
    size, (a, b, c) = file.stat().st_size, starts(3)
    file.unlink()
    kept = on_disk(tmp_path, 2 * size, memory=0)
    now = iter(range(1, 99))
    for text, hits in ((a, 0), (b, 0), (a, 1), (c, 1), (a, 2), (c, 3), (b, 3)):
        before = set(tmp_path.iterdir())
        kept.read(model("mamba"), text)
        assert kept.counts.hits == hits and len(list(tmp_path.iterdir())) <= 2
        for path in set(tmp_path.iterdir()) - before:
            os.utime(
                path, (next(now), next(now))
            )  # clocks of file systems may be coarse; a use puts a file's time to now
    small = on_disk(tmp_path / "small", 99)
    small.read(model("mamba"), a)
    assert not (tmp_path / "small").exists()

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    again = on_disk(tmp_path / "full")
    for _ in range(2):
        again.read(model("mamba"), a)
    assert again.counts.hits == 1 and "no space is left on the disk" in caplog.text
    assert list((tmp_path / "full").iterdir()) == []


def wrong(value: Any) -> Any:
    """What a caller may give, whatever the annotations say."""
    return value


BAD = {
    "folder": (lambda: PrefixStore(1, folder=".", folder_budget=-1), "folder_budget is -1; give a number of bytes"),
    "budget": (lambda: PrefixStore(-1), "byte_budget is -1; give a number of bytes, 0 to keep nothing"),
    "chunk": (lambda: PrefixStore(1, chunk=0), "chunk is 0; read at least 1 token"),
    "half a chunk": (lambda: PrefixStore(1, chunk=wrong(1.5)), "chunk is 1.5; read at least 1 token"),
    "half a byte": (lambda: PrefixStore(wrong(0.5)), "byte_budget is 0.5; give a number of bytes"),
    "a flag": (lambda: PrefixStore(1, folder=".", folder_budget=True), "folder_budget is True; give a number of bytes"),
    "half a token": (
        lambda: store().read(model("mamba"), [1], shared=wrong(0.5)),
        "shared is 0.5; give a number of tokens, or None",
    ),
    "empty": (lambda: store().read(model("mamba"), []), "there are no tokens; give at least one"),
    "tokens": (lambda: store().read(model("mamba"), [11]), "token 0 is 11; this vocabulary goes from 0 to 10"),
    "shared": (lambda: store().read(model("mamba"), [1], shared=-1), "shared is -1; give a number of tokens, or None"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_reads(case):
    """What cannot be read is told in a sentence."""
    make, message = BAD[case]
    with pytest.raises(InputError, match=message):
        make()


def test_a_session_of_another_chunk_makes_other_calls():
    """What is found is of the store's own chunk: its calls are those of a session of that chunk."""
    one = store().read(model("mamba"), TEXT[:40])
    assert one.snapshot().calls.tolist() == [16, 16, 8] and isinstance(one, Session)


def test_a_file_over_the_budget_takes_no_other_away(tmp_path):
    """A state whose file is beyond the budget by its header alone is not kept, and what was there stays."""
    small, large = session("mamba"), session("mamba", chunk=2 * CHUNK)
    small.read(TEXT[:CHUNK])
    small.save(tmp_path / "size")
    size = (tmp_path / "size").stat().st_size
    (tmp_path / "size").unlink()
    kept = PrefixStore(0, chunk=CHUNK, folder=tmp_path, folder_budget=size)
    kept.read(model("mamba"), TEXT[:CHUNK])
    before = sorted(tmp_path.iterdir())
    assert len(before) == 1
    large.read(TEXT[: 2 * CHUNK])
    assert large.nbytes <= size
    kept.read(model("mamba"), TEXT[: 2 * CHUNK])
    assert sorted(tmp_path.iterdir()) == before and kept.counts.tokens_found == CHUNK
