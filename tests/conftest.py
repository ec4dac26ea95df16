"""Every test runs in float64, with strict dtypes and ranks, warnings as errors, and compilations kept on disk.

The thorough tier also checks, at run time, the types and shapes that every function of the package declares.
"""

import ctypes
import functools
import gc
import itertools
import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.xla import share_contexts, share_draws, xla_flags

# Most programs of the suite are compiled to run a few times on a few numbers: compiled as they are written, and by the plainer
# of XLA's two emitters, they are there in a fifth of the time. Set before jax is imported; what is set already stays.
os.environ.setdefault("XLA_FLAGS", xla_flags())

import hypothesis
import jax
import jax.random as jr
import jaxtyping
import pytest

ROOT = Path(__file__).resolve().parents[1]

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
# Compilation is most of a run's time; a second run finds the longest programs here. Writing the others costs what it saves.
jax.config.update("jax_compilation_cache_dir", os.environ.get("DUALFORM_TEST_CACHE", str(ROOT / ".cache" / "jax")))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

# The Python frames that every operation of a program carries are read only by a profiler.
jax.config.update("jax_include_full_tracebacks_in_locations", False)
jax.config.update("jax_traceback_in_locations_limit", 0)
share_contexts()
share_draws()

# Collecting and tracing make many objects, nearly all of which go without a collector of garbage.
gc.set_threshold(200_000, 20, 100)

# No deadline: the first example of a shape compiles. In CI the examples are the same on every run.
hypothesis.settings.register_profile("local", deadline=None, max_examples=8, print_blob=True)
hypothesis.settings.register_profile("ci", parent=hypothesis.settings.get_profile("local"), derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")


def pytest_configure(config: pytest.Config) -> None:
    """Make every warning an error, but for the cache's own when two processes meet at one of its files."""
    # A shell's background jobs are started with Ctrl-C ignored, and the tests of Ctrl-C would wait for it in vain.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Checks of every argument's shape and dtype cost a seventh of the time: the thorough tier has them.
    if config.option.markexpr != "not slow":
        jaxtyping.install_import_hook("dualform", "beartype.beartype")
    config.addinivalue_line("filterwarnings", "error")
    # Orbax's threads may report a read of a damaged file to an event loop that Orbax itself has closed already.
    config.addinivalue_line(
        "filterwarnings",
        "ignore:(?s)Exception ignored in.*Event loop is closed:pytest.PytestUnraisableExceptionWarning",
    )
    # A check of a list looks at a random item of it, also where hypothesis draws what is made of lists.
    config.addinivalue_line("filterwarnings", "ignore:Do not use the `random` module inside strategies")
    config.addinivalue_line("filterwarnings", "ignore:Error (reading|writing) persistent compilation cache:UserWarning")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave real models, which are not there until they are got, to the thorough tier."""
    for item in items:
        if "real_model" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish() -> None:
    """Leave what is there for good out of every collection of garbage."""
    gc.collect()
    gc.freeze()


MAPS = Path("/proc/self/maps")
MOST_MAPS = 20_000
"""Linux gives a process 65,530 maps of memory; each compiled program takes some, and without the next one jax crashes."""
STATM = Path("/proc/self/statm")
MOST_PAGES = 450_000
"""Of 4 KiB, 1.8 GB: what is compiled stays, and a process should not take more than 3 GB at its worst moment."""
most_pages = MOST_PAGES
ended = itertools.count()
"""Tests that have ended. The maps are counted at every sixteenth: that takes milliseconds, and no test takes thousands."""


def pytest_runtest_teardown() -> None:
    """Let compiled programs go before they take all the maps of memory that a process may have, or too much memory."""
    global most_pages
    if not MAPS.exists():
        return
    pages = lambda: int(STATM.read_bytes().split()[1])
    many = next(ended) % 16 == 0 and MAPS.read_bytes().count(b"\n") > MOST_MAPS
    if many or pages() > most_pages:
        jax.clear_caches()
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        most_pages = max(MOST_PAGES, pages() + MOST_PAGES // 3)  # not at every test, where it does not help


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give a file's tests, and all the laws of a mixer, to one process: what they share is compiled once."""
    from xdist.scheduler import LoadScopeScheduling

    class ByProgram(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file, _, test = nodeid.partition("::")
            of_mixer = file.startswith("tests/laws/") and not file.endswith("test_broken.py")
            mixer = re.search(r"\[(\w+)", test) if of_mixer or file.endswith("mixers/test_registry.py") else None
            return f"laws of {mixer.group(1)}" if mixer else file

    return ByProgram(config, log)


@pytest.fixture
def getkey() -> Callable[[], jax.Array]:
    """A function that gives a new random key at each call, the same ones in every run."""
    seeds = itertools.count()
    return lambda: jr.key(next(seeds))


@pytest.fixture
def unchecked() -> Iterator[None]:
    """The package as its users have it: without the runtime type checks, so that bad input meets the library's messages."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder `shared` beside the repository: papers' numbers and real data that the tests may read."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"no folder {folder.name!r} beside the repository: it holds the real data that this test reads")
    return folder


@pytest.fixture(scope="session")
def real_model() -> Callable[[str], Any]:
    """A function that gives a known model from the user's cache, in float32; where it is not there, the test skips."""
    from dualform.checkpoints.cache import is_there
    from dualform.checkpoints.catalogue import known
    from dualform.checkpoints.pretrained import load_known

    @functools.cache
    def load(name: str) -> Any:
        return load_known(name)

    def model(name: str) -> Any:
        if not is_there(known(name)):
            pytest.skip(f"{name} is not in the cache; `dualform models get {name}` brings it")
        return load(name)

    return model
