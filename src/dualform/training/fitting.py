"""Training from the first step to the last, or from the last good checkpoint on."""

import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import jax.tree_util as jtu
import optax
from jaxtyping import Array, PyTree

from dualform.counts import key_of
from dualform.errors import InputError, require
from dualform.training.batches import mean_squared_error
from dualform.training.carried import Carried
from dualform.training.config import FitConfig
from dualform.training.devices import check_batch, mesh_of
from dualform.training.loop import Fitted, Hooks, fitted
from dualform.training.member import Progress
from dualform.training.optimiser import adamw
from dualform.training.origin import origin
from dualform.training.parameters import decayed, trainable
from dualform.training.processes import Processes
from dualform.training.run import Run
from dualform.training.state import TrainState, initial_state
from dualform.training.step import make_chunk
from dualform.training.stream import Stream

_LOG = logging.getLogger(__name__)


def fit(
    model: Any,
    data: Callable[[Array], tuple[Any, Any]] | Iterable[tuple[Any, Any]] | Carried,
    config: FitConfig,
    *,
    loss: Callable[[Any, Any, Any], Array] = mean_squared_error,
    scale: float | int = 1.0,
    optimiser: optax.GradientTransformation | None = None,
    trainable: Callable[[PyTree], PyTree] = trainable,
    decayed: Callable[[PyTree], PyTree] = decayed,
    evaluate: Callable[[Any], Mapping[str, float]] | None = None,
    reshape: Callable[[TrainState], TrainState] | None = None,
    on_chunk: Callable[[Progress], None] | None = None,
    run: Run | None = None,
    stage: str = "train",
    save_every: float | int = 3.0,
    devices: Iterable[Any] | None = None,
) -> Fitted:
    """Train `model` on data that are made on the device inside the compiled loop, or come in batches from outside.

    With a run folder, training goes on from the stage's last good checkpoint, and ends with the same weights and the same
    metrics, to the bit, as without the interruption (on the same machine, with the same versions). When checkpoints are
    taken depends on the clock, and changes no number. A finished run goes on to more steps, by their schedules, where `config`
    has more of them and is else the same.

    **Arguments:**

    - data: key -> (x, y), pure, which is compiled; a `Carried`, which has a loss of its own, where sequences go on from step to
      step; or an iterable of batches (x, y) of arrays of one shape, which is gone through again and again. A run goes on at the
      batch where it was: an iterator with `get_state` and `set_state` (as grain's) is put there, any other is passed over up to
      there, and must give the same batches in the same order again.
    - loss: (model, x, y) -> a scalar; divided by `scale`, for which the target's power is a good choice.
    - optimiser: any optax transformation; that of `config`, `adamw(config)`, if not given. Of the config, `learning_rate` to
      `epsilon` are then not read.
    - trainable, decayed: model -> flags, of what is trained and of what weight decay acts on. By default every real array,
      and the matrices that each mixer and module names in `weight_decayed`; what is given, a `Constant`, stays.
    - evaluate: model -> numbers, measured after each chunk on what is held out; they are in the history. By its "loss" the best
      model is kept, and `config.patience` ends training.
    - reshape: called after each chunk, before its checkpoint; it may return a state with smaller arrays (see
      `select_units`), for which the loop is then compiled anew. A pure function of the state, or resuming is not exact.
    - on_chunk: told of progress after each chunk.
    - stage: names the checkpoints and metrics, where a run trains more than once.
    - save_every: seconds between checkpoints, at least; 0 for one after each chunk. One is always taken at the end.
    - devices: that share the sequences of each batch (the first axis of every array of x and y), such as `jax.devices()`. The
      weights are whole on each, the optimiser's arrays in parts; numbers are those of one device, to rounding, and a run goes
      on with any others. Of several processes (see `joined`) all must call this alike, on the same data; the first alone uses
      `run`, and evaluates.

    **Returns:** the model and how it went. Ctrl-C, and SIGTERM, end at the next chunk's end, with a checkpoint; a second one at
    once.

    **Raises:** `DivergedError` where the loss, a weight or a moment is no longer finite; `InputError` where the checkpoint
    is of another model, data, loss or config (but for more steps, where it had reached its last), or where devices cannot
    share a batch equally; `FileError` where none is whole, one cannot be written, or another process trains in the folder.
    """
    require(
        config.patience == 0 or evaluate is not None,
        f"patience is {config.patience}, and there is no evaluate that looks at what is held out; give one, or patience 0.",
    )
    mesh = mesh_of(devices)
    processes = Processes(mesh)
    require(mesh is None or reshape is None, "reshape cuts arrays on one device; give no devices with it.")
    carried = data if isinstance(data, Carried) else None
    require(carried is None or reshape is None, "reshape cuts the model's units, and not the states that are carried.")
    run = run if processes.first else None
    with contextlib.ExitStack() as stack:
        processes.of_first(lambda: None if run is None else stack.enter_context(run.alone()))
        if isinstance(data, Carried):
            stream, sample, loss = None, data.drawn, data.alone
        else:
            stream = None if callable(data) else Stream(data)
            sample = data if callable(data) else _given
        first = () if stream is None else stream.first
        if mesh is not None:
            check_batch(jax.eval_shape(sample, jr.key(0), *first), mesh)
        moved = adamw(config, decayed) if optimiser is None else optimiser
        state = initial_state(model, config, optimiser=moved, trainable=trainable, carried=carried)
        chunk = make_chunk(
            sample if carried is None else carried.sample,
            config,
            loss=loss if carried is None else carried.loss,
            scale=scale,
            optimiser=optimiser,
            trainable=trainable,
            decayed=decayed,
            mesh=mesh,
            carries=carried is not None,
        )
        others = {"trainable": trainable, "decayed": decayed, "reshape": reshape}
        told = {} if optimiser is None else {"optimiser": optimiser}
        begun = partial(origin, sample=sample, loss=loss, scale=scale, batch=first, others=others | told)
        said = partial(explain, model, sample, loss, config, first)
        tell = None if on_chunk is None else lambda _, progress: on_chunk(progress)
        hooks = Hooks(chunk, begun, said, evaluate, reshape, tell, stream, mesh, processes, optimiser is None)
        return fitted(state, config, hooks, run, stage, save_every)


def _given(key: Array, *batch: Any) -> tuple[Any, Any]:
    """The sampler of batches that come from outside."""
    del key
    x, y = batch
    return x, y


def explain(
    model: Any, sample: Callable[..., Any], loss: Callable[..., Any], config: FitConfig, batch: Any, step: int
) -> None:
    """Let the loss see the data of a step as they are, outside of a compiled loop, and say what is wrong with them."""
    try:
        key = jr.fold_in(key_of(config.seed), jnp.asarray(step, jnp.int32))
        loss(model, *sample(key, *jtu.tree_map(jnp.asarray, batch)))
    except InputError:
        raise
    except Exception as error:
        _LOG.debug("the data of step %d say nothing: %s", step, error)
