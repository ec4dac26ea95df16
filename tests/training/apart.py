"""A small training in processes of its own, whose devices are set before jax starts: `python -m tests.training.apart '{...}'`.

It prints one line of JSON; what it is told is in `Told`.
"""

import dataclasses
import json
import os
import signal
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from dualform.commands.exit import ended
from dualform.errors import DualformError
from dualform.mixers import TanhRNN
from dualform.models import LanguageModel, Recurrent
from dualform.models.architecture import Architecture
from dualform.tasks import Text
from dualform.training import Carried, FitConfig, Run, fit, make_chunk, mean_squared_error
from dualform.training.devices import mesh_of, of_each_process
from dualform.training.hosts import joined
from dualform.training.state import arrays_of, initial_state, placed


@dataclasses.dataclass(frozen=True)
class Told:
    """What a process is told.

    - simulated: devices of its CPU.  devices: how many train, None for jax's own way.
    - hosts, host, coordinator: as of `joined`, where there is a coordinator.
    - accumulate, rate, dropout: of the config; with dropout, of a recurrent network.
    - carried: whether text is read on.  stream: whether batches come from outside.
    - folder: of the run.  at, what: after this step, what happens: "stop" (as Ctrl-C), "kill", "mistake", "terminate".
    """

    simulated: int = 1
    devices: int | None = None
    hosts: int = 1
    host: int = 0
    coordinator: str | None = None
    accumulate: int = 1
    rate: float = 0.02
    dropout: float = 0.0
    carried: bool = False
    stream: bool = False
    folder: str | None = None
    at: int = -1
    what: str = "stop"


class Net(eqx.Module):
    """y = v tanh(W x + b), with numbers of units that eight devices divide, and some that they do not."""

    w: jax.Array
    b: jax.Array
    v: jax.Array
    weight_decayed = ("w", "v")


def net() -> Net:
    w, v = jr.normal(jr.key(1), (16, 3)), jr.normal(jr.key(2), (3, 16))
    return Net(w / 2, jnp.zeros(16), v / 4)


def recurrent() -> Recurrent:
    return Recurrent.make((TanhRNN.make(3, key=jr.key(1), n=16),), 3, key=jr.key(2))


def language_model() -> LanguageModel:
    return Architecture(("tanh_rnn",), 4, 1, "none").language_model(3, key=jr.key(1))


def text() -> Carried:
    parts = jr.randint(jr.key(0), (3, 100), 0, 3).astype(jnp.int32)
    told = {"bytes_of": None, "count": 3, "characters": "abc", "tokenizer_json": "", "time": 4, "batch": 8}
    return Carried(Text(*parts, **told))


def draw(key):
    x = jr.normal(key, (16, 3))
    return x, jnp.sin(2 * x)


seen: list[Any] = []
"""How the inputs lie on the devices, as the loss sees them."""


def loss(model, x, y):
    jax.debug.inspect_array_sharding(x, callback=seen.append)  # once for each time that it is compiled
    return jnp.mean(jnp.square(jnp.tanh(x @ model.w.T + model.b[None]) @ model.v.T - y))


def batches() -> Any:
    return [tuple(np.asarray(each) for each in draw(jr.key(i))) for i in range(5)]


def train(told: Told) -> dict[str, Any]:
    config = FitConfig(
        steps=40, chunk=10, warmup=5, learning_rate=told.rate, accumulate=told.accumulate, dropout=told.dropout, seed=3
    )
    devices = None if told.devices is None else of_each_process(told.devices)

    def on_chunk(progress):
        if progress.step != told.at:
            return
        if told.what == "mistake":
            raise DualformError("a mistake of this host's")
        if told.what == "stop":
            raise KeyboardInterrupt
        os.kill(os.getpid(), signal.SIGKILL if told.what == "kill" else signal.SIGTERM)

    run = None
    if told.folder is not None:
        run = Run.create(told.folder, {"rate": 1}) if told.host == 0 else Run(Path(told.folder) / "none")
    fitted = fit(
        language_model() if told.carried else recurrent() if told.dropout else net(),
        text() if told.carried else batches() if told.stream else draw,
        config,
        loss=(lambda model, x, y: mean_squared_error(model, x[:, None], y[:, None])) if told.dropout else loss,
        evaluate=lambda model: {"loss": abs(float(jnp.sum(jax.tree.leaves(model)[-1])) + 1.85)},
        on_chunk=on_chunk,
        run=run,
        save_every=0,
        devices=devices,
    )
    return {
        "status": fitted.status,
        "steps": fitted.steps,
        "losses": [record["loss"] for record in fitted.history],
        "held_out": [record["held_out"]["loss"] for record in fitted.history],
        "best_step": fitted.best_step,
        "weights": np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves((fitted.model, fitted.best))]).tolist(),
        "inputs": sorted({str(getattr(each, "spec", each)) for each in seen}),
    }


def layout(count: int) -> dict[str, Any]:
    """How a state lies on so many devices after a chunk, each array and its part on one; if a second compiles anew."""
    mesh, config = mesh_of(jax.devices()[:count]), FitConfig(steps=40, chunk=10, warmup=5)
    chunk = make_chunk(draw, config, loss=loss, mesh=mesh)
    state, _ = chunk(placed(initial_state(net(), config), mesh))
    part = lambda leaf: [list(leaf.shape), list(leaf.addressable_shards[0].data.shape)]
    parts = {
        "model": [part(leaf) for leaf in jax.tree.leaves(state.model)],
        "optimiser": [part(leaf) for leaf in jax.tree.leaves(state.optimiser)],
    }
    before = len(seen)
    whole = {name: list(array.shape) for name, array in arrays_of(state).items()}
    chunk(state)
    return parts | {"compiled_again": len(seen) - before, "whole": whole}


def main() -> int:
    told = Told(**json.loads(sys.argv[1]))
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")
    jax.config.update("jax_num_cpu_devices", told.simulated)
    alone = told.coordinator is None
    try:
        with nullcontext() if alone else joined(told.coordinator or "", told.hosts, told.host, heartbeat=5):
            if told.what == "all":  # eight devices, at once: nothing is compiled in another process
                every = [(n, a, s) for a in (1, 2) for n in (None, 8) for s in (False, True)]
                found = [train(dataclasses.replace(told, devices=n, accumulate=a, stream=s)) for n, a, s in every]
                others = [train(dataclasses.replace(told, devices=n, dropout=0.5)) for n in (None, 8)]
                others += [train(dataclasses.replace(told, devices=n, carried=True)) for n in (None, 8)]
                print(json.dumps({"found": found, "others": others, "layout": layout(8)}))
            else:
                print(json.dumps(train(told)), flush=True)
    except BaseException as error:
        return ended(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
