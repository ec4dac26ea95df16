"""States and sessions on disk: to the bit, whole or not at all, and of the model that they are of."""

import dataclasses
import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import beartype
import equinox as eqx
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from dualform.described import described, digest
from dualform.errors import FileError, InputError
from dualform.generation import Session, fingerprint, load_state, save_state
from dualform.generation.policy_table import Policy, policy
from dualform.tensor_file import read_tensors, write_tensors
from tests.generation.going_on import go_on
from tests.generation.texts import TEXT, check_same, llama, model, session
from tests.laws import laws

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", laws.registered(*laws.KINDS))
def test_a_mixers_state_survives_the_disk(name, tmp_path):
    """The state of every registered mixer, with any numbers in it: what a call leaves is of these shapes and dtypes."""
    mixer, draw = laws.make(name), np.random.default_rng(0)
    numbers = lambda leaf: jnp.asarray((9 * draw.normal(size=leaf.shape)).astype(leaf.dtype))
    state = jax.tree.map(numbers, mixer.init_state())
    save_state(tmp_path / "state", mixer, state)
    laws.check_same_bits(load_state(tmp_path / "state", mixer), state, "the state read back")
    _, after = eqx.filter_eval_shape(mixer, jnp.zeros((2, laws.D)), state)
    shapes = lambda tree: jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)
    assert shapes(after) == shapes(state)


@pytest.mark.slow
def test_another_process_goes_on_and_a_kill_leaves_the_old_file(tmp_path):
    """A new process goes on to the bit as this one does; killed while it saves, the file is whole, and the old one."""
    names = ("tova", "griffin")
    for name in names:
        one = session(name)
        one.read(TEXT[:20])
        one.save(tmp_path / name)
    before = (tmp_path / "tova").read_bytes()
    environment = os.environ | {
        "JAX_ENABLE_X64": "1",
        "JAX_COMPILATION_CACHE_DIR": os.environ.get("DUALFORM_TEST_CACHE", str(ROOT / ".cache" / "jax")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.05",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.generation.going_on", str(tmp_path), *names],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 300
    while not (tmp_path / "reached").exists():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[1].decode()
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (tmp_path / "tova").read_bytes() == before and len(list(tmp_path.glob(".tova*.tmp"))) == 1
    for name in names:
        one = Session.load(tmp_path / name, model(name))
        go_on(one)
        one.save(tmp_path / f"{name}.new")
        check_same(Session.load(tmp_path / f"{name}.new", model(name)), one)
        with np.load(tmp_path / f"{name}.npz") as found:
            leaves = [found[each] for each in found.files]
        laws.check_same_bits(leaves, jax.tree.leaves((one.logits, one.state)), "the other process")


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    """The old file stays, nothing else is left, and a sentence says what to do."""
    one = session("tova")
    one.read(TEXT[:20])
    one.save(tmp_path / "state")
    before = (tmp_path / "state").read_bytes()
    one.read(TEXT[:2])

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match="no space is left on the disk for '.*state'; what was there before is whole"):
        one.save(tmp_path / "state")
    assert (tmp_path / "state").read_bytes() == before and os.listdir(tmp_path) == ["state"]


def test_an_empty_session_has_a_file(tmp_path):
    """Nothing was read: the file says so, and the session goes on from nothing."""
    session("tova").save(tmp_path / "state")
    one, other = Session.load(tmp_path / "state", model("tova")), session("tova")
    for each in (one, other):
        each.read(TEXT[:20])
    check_same(one, other)


def test_a_state_alone(tmp_path):
    """A session's file gives the state to whom wants that alone."""
    one = session("tova")
    one.read(TEXT[:20])
    one.save(tmp_path / "state")
    laws.check_same_bits(load_state(tmp_path / "state", model("tova")), one.state, "the state")


def test_a_fingerprint_is_of_all_that_matters():
    """The same weights made again are the same model; one number, one setting or one dtype makes another one."""
    own = fingerprint(llama("tova"))
    assert own == fingerprint(llama("tova")) != fingerprint(llama("tova-head"))
    moved = eqx.tree_at(lambda m: m.embedding, llama("tova"), replace_fn=lambda e: e.at[10, 7].add(1e-9))
    assert fingerprint(moved).structure == own.structure and fingerprint(moved).weights != own.weights
    softer = llama("tova")
    softer = type(softer)(softer.embedding, softer.blocks, softer.norm, softcap=9.0)
    assert fingerprint(softer).structure != own.structure and fingerprint(softer).weights == own.weights
    narrow = jax.tree.map(lambda a: a.astype(jnp.float32) if a.dtype == jnp.float64 else a, llama("tova"))
    assert fingerprint(narrow).structure != own.structure


def rewritten(path: Path, change) -> None:
    """The file with its arrays and its metadata changed, and with the digest of what is in it now."""
    from dualform.generation.state_file import _digest

    arrays, metadata = read_tensors(path)
    arrays = {name: np.array(array) for name, array in arrays.items()}
    change(arrays, metadata)
    write_tensors(path, arrays, metadata | {"digest": _digest(arrays)})


def put(name, place, value):
    def change(arrays, metadata):
        arrays[name][place] = value

    return change


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    path.write_bytes(bytes(data))


NOTE = lambda name, value: lambda path: rewritten(path, lambda _, metadata: metadata.update({name: value}))
WITHOUT = lambda *names: lambda path: rewritten(path, lambda arrays, _: [arrays.pop(name) for name in names])
KEYS = "state[0].keys"
BAD_FILES = {
    "missing": (lambda path: path.unlink(), "there is no file '.*'. Check the path"),
    "truncated": (cut, "is not a whole safetensors file .* It is truncated, damaged or of another format; copy"),
    "one bit": (flip, "is damaged: its numbers are not those that were written. Copy it again"),
    "text": (lambda path: path.write_text("hello" * 9), "is not a whole safetensors file"),
    "foreign": (
        lambda path: write_tensors(path, {"w": np.eye(2)}),
        "is no state: dualform did not write it as one. Give a file that save made of a session",
    ),
    "later": (NOTE("version", "3"), "is of version 3 of the format; this dualform reads 2. Update dualform"),
    "no version": (NOTE("version", ""), "is of version unknown of the format; .* Read the tokens anew"),
    "nan": (lambda path: rewritten(path, put(KEYS, (0, 0, 0), np.nan)), r"state\[0\].keys in '.*' holds NaN"),
    "no fingerprint": (
        lambda path: rewritten(path, lambda _, metadata: metadata.pop("weights")),
        "does not say which model it is of: it lacks 'weights'",
    ),
    "a part": (WITHOUT(KEYS), r"state\[0\].keys in '.*' is not what this model has. The file is damaged"),
    "a shape": (
        lambda path: rewritten(path, lambda arrays, _: arrays.update({KEYS: arrays[KEYS][:1]})),
        r"state\[0\].keys in '.*' is not what this model has",
    ),
    "no text": (
        WITHOUT("tokens", "calls"),
        "holds a state, but not the text that was read. load_state gives the state",
    ),
    "token": (
        lambda path: rewritten(path, put("tokens", 3, 11)),
        "tokens, calls and logits in '.*' do not fit together",
    ),
    "calls": (lambda path: rewritten(path, put("calls", 1, 3)), "tokens, calls and logits in '.*' do not fit together"),
    "no logits": (WITHOUT("logits"), "tokens, calls and logits in '.*' do not fit together"),
    "chunk": (NOTE("chunk", "0"), "tokens, calls and logits in '.*' do not fit together"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files(case, tmp_path):
    """A file that cannot be gone on from is told in a sentence: what is wrong and what to do."""
    change, message = BAD_FILES[case]
    one = session("tova")
    one.read(TEXT[:20])
    one.save(tmp_path / "state")
    change(tmp_path / "state")
    with pytest.raises(FileError, match=message):
        Session.load(tmp_path / "state", model("tova"))


OTHER = {
    "policy": (
        lambda: llama("h2o"),
        r"the state in '.*' is of another model: of a LanguageModel with 2 times .*\(tova, 6",
    ),
    "states": (
        lambda: llama("tova", 7),
        r"This one is a LanguageModel with 2 times MultiStateAttention \(tova, 7 states\)",
    ),
    "weights": (lambda: llama("tova", seed=1), "the state in '.*' is of a model with other weights"),
    "architecture": (lambda: model("mamba"), "This one is a LanguageModel with Mamba. Take the model, the policy"),
}


@pytest.mark.parametrize("case", OTHER)
def test_a_state_of_another_model(case, tmp_path):
    """It is not gone on from, and the message says which one it is of."""
    make, message = OTHER[case]
    session("tova").save(tmp_path / "state")
    with pytest.raises(InputError, match=message):
        Session.load(tmp_path / "state", make())


def test_what_cannot_be_saved(tmp_path):
    """NaN, and a state of something else, are not written, and the old file stays."""
    one = session("full")
    one.read(TEXT[:4])
    state = one.state
    save_state(tmp_path / "state", one.model, state)
    before = (tmp_path / "state").read_bytes()
    broken = eqx.tree_at(lambda s: s[1].values, state, replace_fn=lambda a: a.at[0, 0, 0].set(jnp.nan))
    with pytest.raises(InputError, match=r"state\[1\].values holds NaN, .* Was more read than the model has place for"):
        save_state(tmp_path / "state", one.model, broken)
    with pytest.raises(InputError, match="the state is not one of this LanguageModel: its init_state"):
        save_state(tmp_path / "state", model("mamba"), state)
    assert (tmp_path / "state").read_bytes() == before


def test_the_format_is_told(tmp_path):
    """Format, version and fingerprint are metadata; arrays are named by their paths; nothing else is in the file."""
    one = session("mamba")
    one.read(TEXT[:20])
    one.save(tmp_path / "state")
    arrays, metadata = read_tensors(tmp_path / "state")
    own = fingerprint(one.model)
    assert metadata == own._asdict() | {
        **{"format": "dualform-state", "version": "2", "chunk": "16"},
        "digest": metadata["digest"],
    }
    assert {name.split("[")[0] for name in arrays} == {"tokens", "calls", "logits", "state"}
    assert arrays["tokens"].tolist() == TEXT[:20].tolist() and arrays["calls"].tolist() == [16, 4]


def weighing(sign: float) -> Policy:
    """A policy made by a closure: it keeps the oldest, or the newest."""

    def step(seen):
        return sign * seen.positions.astype(seen.scores.dtype), seen.scores

    return Policy("weighing", step)


class Weigher:
    """A policy's step that holds its parameter."""

    def __init__(self, sign: float):
        self.sign = sign

    def __call__(self, seen):
        """As of `weighing`."""
        return self.sign * seen.positions.astype(seen.scores.dtype), seen.scores


@pytest.mark.parametrize(
    "make",
    [
        weighing,
        lambda sign: Policy("weighing", Weigher(sign)),
        lambda sign: Policy("weighing", Weigher(sign).__call__),
        lambda sign: Policy("weighing", jax.jit(weighing(sign).step)),
        lambda sign: Policy("weighing", functools.partial(lambda sign, seen: (sign * seen.scores, seen.scores), sign)),
        lambda sign: Policy("weighing", lambda seen, sign=sign: (sign * seen.scores, seen.scores)),
        lambda sign: Policy("weighing", one_of_two(sign > 0)),
        lambda sign: Policy("weighing", weighing(1.0).step, observed=None if sign > 0 else 1),
    ],
)
def test_a_policy_is_its_parameters(make):
    """Of two policies of one function that hold other numbers, neither takes the other's state; of equal ones each does."""
    one, same, other = (Session(llama(make(sign))) for sign in (1.0, 1.0, -1.0))
    assert fingerprint(one.model) == fingerprint(same.model) != fingerprint(other.model)
    same.restore(one.snapshot())
    with pytest.raises(InputError, match="the snapshot is of another model"):
        other.restore(one.snapshot())


def one_of_two(first: bool):
    """One of two functions of one name."""
    if first:
        return lambda seen: (seen.scores, seen.scores)
    return lambda seen: (-seen.scores, seen.scores)


def test_a_state_of_another_closure(tmp_path):
    """A file of one policy is not read for another one that the same function made."""
    one, same, other = (Session(llama(weighing(sign))) for sign in (1.0, 1.0, -1.0))
    one.read(TEXT[:9])
    one.save(tmp_path / "state")
    Session.load(tmp_path / "state", same.model)
    with pytest.raises(InputError, match="is of another model"):
        Session.load(tmp_path / "state", other.model)


CODE = {
    "a module": "class F(eqx.Module):\n    def __call__(self, x): return x + {}\nf = F()",
    "a field's default": "class F(eqx.Module):\n    k: int = {}\n    def __call__(self, x): return x * self.k\nf = F()",
    "a setting of a class": "class F:\n    k = {}\n    def __call__(self, x): return x * self.k\nf = F()",
    "a setting of another": "class C:\n    k = {}\ndef f(x): return x * C.k",
    "a static method": "class F:\n    @staticmethod\n    def g(): return {}\n    def __call__(self, x): return self.g()\nf = F()",
    "a property": "class F:\n    @property\n    def g(self): return {}\n    def __call__(self, x): return self.g\nf = F()",
    "a base": "class B:\n    def g(self): return {}\nclass F(B):\n    def __call__(self, x): return self.g()\nf = F()",
    "what is called": "def h(): return {}\nclass F:\n    def __call__(self, x): return h()\nf = F()",
    "slots": (
        "class F:\n    __slots__ = 'k'\n    def __init__(self): self.k = {}\n"
        "    def __call__(self, x): return self.k\nf = F()"
    ),
    "a slot of another": "class S:\n    __slots__ = ('k',)\ns = S()\ns.k = {}\nf = lambda x: s.k",
    "a class in a function": (
        "def m(k):\n    class F(eqx.Module):\n        def __call__(self, x): return x * k\n    return F()\nf = m({})"
    ),
    "a decorator": (
        "import functools\ndef by(k):\n    def around(f):\n        @functools.wraps(f)\n        def g(x): return k * f(x)\n"
        "        return g\n    return around\n@by({})\ndef f(x): return x"
    ),
    "a decorated function": "import jax\n@jax.vmap\ndef f(x): return x + {}",
    "a compiled decorated function": "import jax\n@jax.jit\n@jax.vmap\ndef f(x): return x + {}",
    "itself": "class F:\n    def __init__(self): self.me = self\n    def __call__(self, x): return F, {}\nf = F()",
}


@pytest.mark.parametrize("case", CODE)
def test_an_edited_class_is_another(case):
    """What an object that is called is made of tells it apart: its class's code and settings, bases, and what it holds."""

    def made(number: int) -> str:
        names: dict = {"eqx": eqx, "__name__": "edited"}
        exec(CODE[case].format(number), names)  # noqa: S102 - an edited file
        return digest(names["f"])

    assert made(1) == made(1) != made(2)


def test_a_policy_whose_types_are_checked_is_the_same_one():
    """What checks arguments and changes nothing, as the thorough tier's and some users' import hooks do, is looked through."""
    checked = lambda own: jaxtyping.jaxtyped(own, typechecker=beartype.beartype)
    own = policy("tova")
    parts = {each.name: getattr(own, each.name) for each in dataclasses.fields(own)}
    wrapped = dataclasses.replace(own, **{name: checked(part) for name, part in parts.items() if callable(part)})
    assert wrapped != own and digest(wrapped) == digest(own)


def test_a_built_in_policy_keeps_its_name():
    """What dualform has is known by its name, so that its states outlive versions of Python."""
    assert digest(policy("window+3")) != digest(policy("window+4")) and digest(policy("tova")) != digest(policy("h2o"))
    assert "code" not in repr(described(policy("snapkv")))
    assert fingerprint(llama("tova", np.int64(6))) == fingerprint(llama("tova", 6))
