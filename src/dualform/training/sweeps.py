"""A sweep: many runs in one folder, one table, resumable to the run; in processes of this machine or on a Ray cluster."""

import csv
import importlib
import io
import json
import logging
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import jax

from dualform.alone import alone
from dualform.counts import count_of
from dualform.described import digest
from dualform.errors import DualformError, FileError, InputError, require
from dualform.reading import guarded, reason
from dualform.tensor_file import write_atomically
from dualform.training.run import Run

_LOG = logging.getLogger(__name__)
Backend: TypeAlias = Literal["processes", "ray", "here"]
BACKENDS = ("processes", "ray", "here")


@dataclass(frozen=True)
class Job:
    """One run of a sweep.

    - name: its folder within the sweep's, unique in it; letters, digits, `.`, `_`, `=` and `-`.
    - function: "package.module:function", called as function(config, folder) in a process of its own; it returns a mapping
      of what JSON can hold, or a list of them (one for each seed that it trained at once).
    - config: what it is told, of what JSON can hold.
    """

    name: str
    function: str
    config: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._=-")
        require(
            bool(self.name) and set(self.name) <= allowed and not self.name.startswith("."),
            f"a job cannot be called {self.name!r}: its name is a folder's; use letters, digits, '.', '_', '=' and '-'.",
        )
        require(
            self.function.count(":") == 1,
            f"the function of job {self.name!r} is {self.function!r}; it must be 'package.module:function'.",
        )


@dataclass(frozen=True)
class Row:
    """What came of one job: its results where it is done, else the reason why not."""

    name: str
    config: dict[str, Any]
    status: Literal["done", "failed"]
    results: tuple[dict[str, Any], ...] = ()
    reason: str = ""
    seconds: float = 0.0


def sweep(
    jobs: Sequence[Job],
    folder: str | os.PathLike[str],
    *,
    workers: int = 2,
    backend: Backend = "processes",
    on_row: Callable[[Row, int, int], None] | None = None,
) -> list[Row]:
    """Run every job that is not done yet, and gather all of them in `table.csv`.

    Each job has a folder of its own, a `Run`'s: config.json, result.json and what its function writes. Stopped at any
    moment, the same call runs only what is missing (a job whose function resumes goes on within itself); a job that failed
    is a row with its reason, and is tried again by the next call. A result is of the code that made it: after the function, or
    what it calls outside of installed packages, was edited, the folder is refused.

    **Arguments:**

    - workers: jobs at once. Each process computes with its share of the cores.
    - backend: "processes" of this machine; "ray", tasks on the cluster that Ray finds or starts (`pip install
      'dualform[ray]'`; `folder` must be on a disk that all its machines see); "here", one after the other.
    - on_row: called with each row as it comes, how many there are so far, and how many there will be.

    **Returns:** a row for each job, in the jobs' order.

    **Raises:** `InputError` for names used twice, an unknown backend, Ray missing, or a job whose folder was made with
    another config or by other code; `FileError` where the folder cannot be written, or another process sweeps in it.
    """
    jobs, folder = list(jobs), Path(folder)
    names = [job.name for job in jobs]
    twice = sorted({name for name in names if names.count(name) > 1})
    require(not twice, f"the sweep has more than one job called {', '.join(twice)}; each needs a name of its own.")
    require(backend in BACKENDS, f"there is no backend {backend!r}; there are {', '.join(BACKENDS)}.")
    workers = count_of("workers", workers, 1, "at least one is needed")
    rows: dict[str, Row] = {}

    def note(row: Row) -> None:
        rows[row.name] = row
        if on_row is not None:
            on_row(row, len(rows), len(jobs))

    run_all = {"processes": _in_processes, "ray": _on_ray, "here": _here}[backend]
    if jobs:
        folder.mkdir(parents=True, exist_ok=True)
    with alone(folder):
        return _swept(jobs, folder, names, rows, lambda missing: run_all(missing, folder, workers), note)


def _swept(
    jobs: Sequence[Job],
    folder: Path,
    names: Sequence[str],
    rows: dict[str, Row],
    run_all: Callable[[Sequence[Job]], Iterator[Row]],
    note: Callable[[Row], None],
) -> list[Row]:
    """The rows of all jobs, those that are done from disk."""
    missing, codes = [], {job.function: _code_of(job.function) for job in jobs}
    for job in jobs:
        config = {"function": job.function, "config": job.config}
        run = Run.create(folder / job.name, config, code=codes[job.function])
        found = run.read_json("result.json")
        if found is None:
            missing.append(job)
        else:
            note(_row_of(job, found, run.path))
    try:
        for row in run_all(missing):
            note(row)
    finally:
        ordered = [rows[name] for name in names if name in rows]
        write_atomically(folder / "table.csv", _table(ordered).encode())
    return ordered


def _row_of(job: Job, found: Any, place: Path) -> Row:
    """The row of a job that is done.

    **Raises:** `FileError` where its result.json is not what `run_job` writes.
    """
    where = repr(os.fspath(place / "result.json"))
    with guarded(
        lambda error: FileError(f"{where} is no job's result ({reason(error)}). Delete it: the job runs again.")
    ):
        return Row(job.name, job.config, "done", tuple(map(dict, found["results"])), seconds=float(found["seconds"]))


def _code_of(function: str) -> str | None:
    """A digest of a job's function and of what it calls; None where it cannot be found, which the job itself says."""
    module, name = function.split(":")
    try:
        return digest(getattr(importlib.import_module(module), name))
    except Exception as error:
        _LOG.info("%s has no code to look at: %s", function, error)
        return None


def run_job(job: Job, folder: Path) -> Row:
    """One job, from the call of its function to its result on disk; a failure is a row.

    **Arguments:** folder: the sweep's.
    """
    begin = time.monotonic()
    module, name = job.function.split(":")
    try:
        function = getattr(importlib.import_module(module), name)
        with alone(folder / job.name):
            found = function(job.config, folder / job.name)
        results = [dict(one) for one in found] if isinstance(found, list | tuple) else [dict(found)]
        json.dumps(results)  # what cannot be stored is the job's failure, not the sweep's
        seconds = time.monotonic() - begin
        run = Run(folder / job.name)
        run.write_json("result.json", {"results": results, "seconds": seconds})
        return Row(job.name, job.config, "done", tuple(run.read_json("result.json")["results"]), seconds=seconds)
    except Exception as error:
        reason = str(error) if isinstance(error, DualformError) else f"{type(error).__name__}: {error}"
        _LOG.warning("%s failed: %s", job.name, reason)
        return Row(job.name, job.config, "failed", reason=reason, seconds=time.monotonic() - begin)


def _here(jobs: Sequence[Job], folder: Path, workers: int) -> Iterator[Row]:
    del workers
    for job in jobs:
        yield run_job(job, folder)


def _in_processes(jobs: Sequence[Job], folder: Path, workers: int) -> Iterator[Row]:
    """A pool of fresh interpreters; one that dies takes its own job with it, and the others are given another pool."""
    waiting = list(jobs)
    while waiting:
        died: list[Job] = []
        pool = ProcessPoolExecutor(
            min(workers, len(waiting)),
            multiprocessing.get_context("spawn"),
            initializer=_begin_process,
            initargs=(min(workers, len(waiting)), folder),
        )
        try:
            futures: dict[Future[Row], Job] = {pool.submit(run_job, job, folder): job for job in waiting}
            while futures:
                ended, _ = wait(futures, return_when=FIRST_COMPLETED)
                for future in ended:
                    job = futures.pop(future)
                    if isinstance(future.exception(), Exception):
                        died.append(job)
                    else:
                        yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        # A broken pool fails every job in it, also those that were only waiting: one by one, the culprit is the first.
        died.sort(key=waiting.index)
        if died and workers == 1:
            yield Row(died[0].name, died[0].config, "failed", reason="its process died (killed, or out of memory).")
            died = died[1:]
        waiting, workers = died, 1


def _begin_process(workers: int, folder: Path) -> None:
    """Give this process its share of the cores, before JAX starts its threads, and the programs compiled by others."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        share = max(1, len(cores) // workers)
        # Processes of a pool are numbered from 1.
        index = (multiprocessing.current_process()._identity or (1,))[-1] - 1
        first = (index * share) % len(cores)
        os.sched_setaffinity(0, cores[first : first + share])
    _share_programs(folder)


def _share_programs(folder: Path) -> None:
    """Let jobs read what others have compiled: those of a sweep differ in little, and compiling is much of a short run."""
    jax.config.update("jax_compilation_cache_dir", str(folder / ".compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _with_programs(job: Job, folder: Path) -> Row:
    _share_programs(folder)
    return run_job(job, folder)


def _on_ray(jobs: Sequence[Job], folder: Path, workers: int) -> Iterator[Row]:
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError:
        raise InputError(
            "the backend 'ray' needs Ray, which is not installed. Install it with pip install 'dualform[ray]', or use the "
            "backend 'processes'."
        ) from None
    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=False)
    task = ray.remote(num_cpus=1, max_retries=0)(_with_programs)
    waiting, running = list(jobs), {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                job = waiting.pop(0)
                running[task.remote(job, folder.resolve())] = job
            ended, _ = ray.wait(list(running), num_returns=1)
            job = running.pop(ended[0])
            try:
                yield ray.get(ended[0])
            except ray.exceptions.RayError as error:
                yield Row(job.name, job.config, "failed", reason=f"its worker died: {str(error).splitlines()[0]}")
    finally:
        for reference in running:
            ray.cancel(reference, force=True)


def _table(rows: Sequence[Row]) -> str:
    """One line for each result, one for each failure: name, status, reason, seconds, the config's and the result's fields."""
    lines = [
        {"name": row.name, "status": row.status, "reason": row.reason, "seconds": round(row.seconds, 3)}
        | _scalars(row.config, "config.")
        | _scalars(result, "")
        for row in rows
        for result in (row.results or ({},))
    ]
    columns = list(dict.fromkeys(column for line in lines for column in line))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _scalars(mapping: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {prefix + key: value for key, value in mapping.items() if not isinstance(value, dict | list | tuple)}
