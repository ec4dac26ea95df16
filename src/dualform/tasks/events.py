"""Events: of what kind the next one is, and when it comes."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dualform.arrays import accumulator
from dualform.errors import FileError, InputError, require
from dualform.reading import shown
from dualform.tasks.registration import register
from dualform.tasks.scores import NO_TARGET, Score, Scores
from dualform.tasks.table import Table, read_table
from dualform.tasks.task import StoredTask, checked_settings, setting

COLUMNS = ("sequence", "time", "type")
SOONEST = 1e-4
"""The least gap between two events, in mean gaps: events at one time have a likelihood, too."""


def of_events(outputs: Float[Array, "batch time d_out"], targets: Float[Array, "batch time 2"]) -> Scores:
    """Of a logit for each kind, then m and s of the gap g before the next event, which is log-normal.

    log g has mean m and deviation 0.001 + softplus(s).

    **Arguments:** targets: log g and the number of the kind, `NO_TARGET` where there is no next event.

    **Returns:** over events, in nats, loss: -log p(kind) - log p(g); kind and gap: its two parts; accuracy: whether the kind has
    the largest logit.

    **Raises:** `InputError` where the shapes do not fit.
    """
    require(
        outputs.shape[:-1] == targets.shape[:-1] and outputs.shape[-1] >= 3,
        f"the outputs have shape {outputs.shape} and the targets {targets.shape}; there must be as many events, and a logit for "
        "each kind and two numbers more.",
    )
    wide = accumulator(outputs.dtype, targets.dtype)
    logits, (mean, spread) = outputs[..., :-2].astype(wide), jnp.moveaxis(outputs[..., -2:].astype(wide), -1, 0)
    log_gap, there = targets[..., 0].astype(wide), targets[..., 1] >= 0
    kind = jnp.where(there, targets[..., 1], 0).astype(jnp.int32)
    of_kind = -jnp.take_along_axis(jax.nn.log_softmax(logits), kind[..., None], axis=-1)[..., 0]
    spread = jax.nn.softplus(spread) + 1e-3
    of_gap = log_gap + jnp.log(spread) + math.log(2 * math.pi) / 2 + jnp.square((log_gap - mean) / spread) / 2
    right = jnp.argmax(logits, axis=-1).astype(jnp.int32) == kind
    over = jnp.sum(there).astype(wide)
    total = lambda values: Score(jnp.sum(jnp.where(there, values, jnp.zeros_like(values))), over)
    return {
        "loss": total(of_kind + of_gap),
        "kind": total(of_kind),
        "gap": total(of_gap),
        "accuracy": total(right.astype(wide)),
    }


@register("events")
class Events(StoredTask):
    """Sequences of events, each with its time and its kind: the kind of the next one, and how long it takes until then.

    What is read of an event is the logarithm of the gap before it and its kind, as one of so many flags; gaps are in units of
    training's mean one, and at least 0.0001 of these. The gap before the first event is one unit. The sequences of a file are for
    training, validation and test in its order: 60%, 20% and 20% of them.

    - kinds: their names.

    **Source:** Shchur, Bilos and Guennemann 2020 (arXiv 1909.12127), of which this is the case of one log-normal; the split is
    theirs in size.
    """

    kinds: tuple[str, ...] = eqx.field(static=True, kw_only=True)
    batch: int = setting(default=32)
    judge = staticmethod(of_events)
    source = "Shchur et al. 2020 (arXiv 1909.12127)"
    data = "a table with the columns sequence, time and type, an event in a row"
    licence = "that of the file"

    @classmethod
    def open(cls, data: Any = None, **settings: Any) -> "Events":
        """The events of a table.

        **Arguments:** data: the path of a file of comma-separated values with the columns sequence, time and type; the events of
        a sequence in the order of their times.

        **Raises:** `InputError` for another setting, or a table without these columns; `FileError` where it cannot be read, a
        time is no number or earlier than the one before, or a kind is not in the first 60% of the sequences.
        """
        settings = checked_settings(cls, settings)
        if data is None:
            raise InputError(f"this task reads events; give them by --data: {cls.data}.")
        table = read_table(data)
        sequences = _sequences(table)
        first, second = int(0.6 * len(sequences)), int(0.8 * len(sequences))
        require(
            1 <= first < second < len(sequences),
            f"{table.where} has {len(sequences)} sequences of two events or more; there must be 3 at the least.",
        )
        kinds = tuple(sorted({kind for _, some in sequences[:first] for kind in some}))
        number = {kind: i for i, kind in enumerate(kinds)}
        unknown = sorted({kind for _, some in sequences[first:] for kind in some} - set(kinds))
        if unknown:
            raise FileError(
                f"events of the type {shown(unknown[0])!r} are in {table.where}, but not in the first 60% of its sequences, by "
                "which types are known. Change their order."
            )
        unit = np.concatenate([np.diff(times) for times, _ in sequences[:first]]).mean()
        require(
            bool(unit > 0), f"all events of a sequence of {table.where} are at one time; there is nothing to foretell."
        )
        longest = max(len(some) for _, some in sequences) - 1

        def part(some: list[tuple[Float[np.ndarray, " _"], list[str]]]) -> tuple[Array, Array]:
            x = np.zeros((len(some), longest, 1 + len(kinds)), np.float32)
            y = np.full((len(some), longest, 2), (0, NO_TARGET), np.float32)
            for i, (times, names) in enumerate(some):
                gaps = np.log(np.maximum(np.diff(times, prepend=times[0] - unit) / unit, SOONEST))
                at, of_kind = np.arange(len(gaps) - 1), np.array([number[name] for name in names])
                x[i, at, 0], x[i, at, 1 + of_kind[:-1]] = gaps[:-1], 1
                y[i, at, 0], y[i, at, 1] = gaps[1:], of_kind[1:]
            return jnp.asarray(x), jnp.asarray(y)

        parts = part(sequences[:first]), part(sequences[first:second]), part(sequences[second:])
        return cls(*parts, kinds=kinds, **settings)

    @property
    def d_in(self) -> int:
        """A gap, and a flag for each kind."""
        return 1 + len(self.kinds)

    @property
    def d_out(self) -> int:
        """A logit for each kind, and two numbers for the gap."""
        return len(self.kinds) + 2


def _sequences(table: Table) -> list[tuple[Float[np.ndarray, " _"], list[str]]]:
    """Times and kinds of each sequence of two events or more, in the order in which they begin in the table."""
    name, time, kind = COLUMNS
    times, kinds, rows = table.numbers(time), table.texts(kind), {}
    for i, sequence in enumerate(table.texts(name)):
        rows.setdefault(sequence, []).append(i)
    for sequence, places in rows.items():
        early = np.flatnonzero(np.diff(times[places]) < 0)
        if len(early):
            raise FileError(
                f"row {places[early[0] + 1] + 1} of {table.where} is earlier than the event before it in sequence "
                f"{shown(sequence)}. Sort the events by their times."
            )
    return [(times[places], [kinds[i] for i in places]) for places in rows.values() if len(places) >= 2]
