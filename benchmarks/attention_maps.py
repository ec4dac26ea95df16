"""The whole attention map of Mamba's blocks, against the published loop and against TransformerLens's tensor of decays.

Ours are a block's signed shares, convolution, gate, skip, norm, MLP and residual stream included, and the plain mean over
channels, which is what the peers give. Peers are written here in PyTorch after their formulas:

- the loop: for every output, every earlier token, the product of exp(delta A) over the tokens between, one factor at a time;
- the tensor (TransformerLens 4.3's way): all decays at once, exp(A (s_t - s_j)) of cumulative sums s, (channels, states, time,
  time), summed over states.

Both peers are slow or large, so they are run on fewer tokens or channels and one layer, and their time is scaled by the counts of
their own operations, as the table says; ours is measured whole.
"""

import argparse
import multiprocessing
import re
import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from benchmarks.alternate import write
from dualform.dual import LayerForm, layer_form
from dualform.dual.layer import share_functionals
from dualform.maps import attention_of
from dualform.mixers import Mamba
from dualform.mixers.mamba import Selective
from dualform.models import Block
from dualform.recurrences.selective_map import selective_map


def terms(mixer: Any, x: Any) -> tuple[np.ndarray, ...]:
    """delta (time, channels), A (channels, n), B and C (time, n): what the peers are given."""
    own = attention_of(mixer.frozen(x).map)
    assert own is not None and isinstance(own.memory, Selective)
    return tuple(np.asarray(getattr(own.memory, part), np.float32) for part in ("delta", "a", "b", "c"))


def published_loop(delta: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, int]:
    """The mean over channels of alpha, by three nested loops, and how many products of (channels, n) were taken."""
    import torch

    delta_t, a_t, b_t, c_t = (torch.from_numpy(np.array(part)) for part in (delta, a, b, c))
    time, count = len(delta), 0
    factors = torch.exp(delta_t[:, :, None] * a_t)
    drive = delta_t[:, :, None] * b_t[:, None]
    found = torch.zeros(len(a), time, time)
    for i in range(time):
        for j in range(i + 1):
            product = torch.ones_like(a_t)
            for k in range(j + 1, i + 1):
                product = product * factors[k]
                count += 1
            found[:, i, j] = (c_t[i] * product * drive[j]).sum(-1)
    return found.mean(0).numpy(), count


def tensor_of_decays(delta: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """The mean over channels of alpha, from one tensor of (channels, n, time, time)."""
    import torch

    delta_t, a_t, b_t, c_t = (torch.from_numpy(np.array(part)) for part in (delta, a, b, c))
    sums = torch.cumsum(delta_t, 0).T  # (channels, time)
    between = sums[:, None, :, None] - sums[:, None, None, :]
    time = len(delta)
    seen = torch.ones(time, time, dtype=torch.bool).tril()
    decay = torch.exp((a_t[:, :, None, None] * between).masked_fill(~seen, -torch.inf))
    alpha = c_t.T[None, :, :, None] * decay * b_t.T[None, :, None, :] * delta_t.T[:, None, None, :]
    return alpha.sum(1).mean(0).numpy()


@jax.jit
def mean_alpha(delta, a, b, c):
    """The same from `selective_map`."""
    ones = jnp.ones((1, *delta.shape), delta.dtype)
    return selective_map(ones / delta.shape[1], ones, delta, a, b, c)[0]


def blocks(d: int, layers: int) -> list[Block]:
    return [Block.make(Mamba.make(d, key=key), key=key) for key in jr.split(jr.key(0), layers)]


def ours(block: Block, x: Any) -> np.ndarray:
    """The whole signed map of a block, without its certificate."""
    y, _ = _call(block, x)
    r, size = share_functionals(y, 1)
    return LayerForm("block", block, x).project(r)[0] / np.asarray(size)[0, :, None]


@eqx.filter_jit
def _call(block: Block, x: Any):
    return block(x)


def high_water() -> float:
    """The most memory that this process has had, in MB (Linux); `getrusage` would tell of the parent's, too."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else float("nan")


def peak(task: str, size: tuple[int, ...], send: Any) -> None:
    """In a process of its own: how far the memory rises while one map is made, in MB."""
    d, time_, channels = size
    block, x = blocks(d, 1)[0], jr.normal(jr.key(1), (time_, d))
    parts = terms(block.mixer, x)
    cut = (parts[0][:, :channels], parts[1][:channels], *parts[2:])
    if task == "ours":
        ours(block, x[:8])  # JAX and its compiler are there before the count begins
    if task == "tensor":
        tensor_of_decays(cut[0][:4], cut[1], cut[2][:4], cut[3][:4])
    before = high_water()
    begin = time.perf_counter()
    if task == "ours":
        ours(block, x)
    else:
        tensor_of_decays(*cut)
    send.send((time.perf_counter() - begin, high_water() - before))


def in_process(task: str, *size: int) -> tuple[float, float]:
    """Seconds and MB of one map, in a fresh process."""
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=peak, args=(task, size, send))
    process.start()
    found = receive.recv()
    process.join()
    return found


def timed(run: Any) -> tuple[Any, float]:
    begin = time.perf_counter()
    found = run()
    return found, time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--d", type=int, default=768)
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--time", type=int, default=512)
    parser.add_argument("--loop-time", type=int, default=40, help="tokens for the loop")
    parser.add_argument("--tensor-channels", type=int, default=64, help="channels for the tensor of decays")
    parser.add_argument("--write", help="the report, as Markdown")
    args = parser.parse_args()
    stack, x = blocks(args.d, args.layers), jr.normal(jr.key(1), (args.time, args.d))
    form = layer_form(stack[0], x)
    parts = terms(stack[0].mixer, x)
    for run in (lambda: ours(stack[0], x), lambda: mean_alpha(*parts)):
        jax.block_until_ready(run())  # compiled
    short, few = args.loop_time, args.tensor_channels
    head = (parts[0][:short], parts[1], parts[2][:short], parts[3][:short])
    cut = (parts[0][:, :few], parts[1][:few], *parts[2:])
    (looped, count), loop_seconds = timed(lambda: published_loop(*head))
    tensor, tensor_seconds = timed(lambda: tensor_of_decays(*cut))
    _, seconds = timed(lambda: [ours(block, x) for block in stack])
    plain, plain_seconds = timed(lambda: np.asarray(mean_alpha(*parts)))
    error = lambda found, expected: float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
    agreement = error(np.asarray(mean_alpha(*head)), looped), error(np.asarray(mean_alpha(*cut)), tensor)
    products = args.time * (args.time**2 - 1) // 6
    channels = len(parts[1])
    loop_all = loop_seconds * products / count * args.layers
    tensor_all = tensor_seconds * channels / few * args.layers
    whole, gigabytes = args.layers, channels * parts[1].shape[1] * args.time**2 * 4 / 1e9
    memory = {n: in_process("ours", args.d, n, 0) for n in (args.time, 2 * args.time)}
    peer_memory = in_process("tensor", args.d, args.time, few)
    table = "\n".join(
        [
            "| side | measured | seconds | the whole: seconds | times ours |",
            "|---|---|---|---|---|",
            f"| dualform, the block's signed shares | all of it | {seconds:.1f} | {seconds:.1f} | 1 |",
            f"| dualform, mean of alpha | one layer | {plain_seconds:.2f} | {plain_seconds * whole:.1f} "
            f"| {plain_seconds * whole / seconds:.2f} |",
            f"| published loop | one layer, {short} tokens, {count} products | {loop_seconds:.1f} | {loop_all:.0f}, by its "
            f"{products} products | {loop_all / seconds:.0f} |",
            f"| tensor of decays | one layer, {few} of {channels} channels | {tensor_seconds:.1f} | {tensor_all:.0f}, by "
            f"its channels | {tensor_all / seconds:.1f} |",
        ]
    )
    paragraphs = [
        *(text.strip() for text in (__doc__ or "").split("\n\n")[1:]),
        f"{args.layers} layers, {args.time} tokens, width {args.d} ({channels} channels of {parts[1].shape[1]} states), float32.",
        table,
        f"The mean of alpha is the peers': relative error {agreement[0]:.1e} against the loop, {agreement[1]:.1e} against the "
        f"tensor. The residual of the block's form is {form.residual:.1e}.",
        f"Memory above what was there before, for one layer's map: ours {memory[args.time][1]:.0f} MB at {args.time} tokens and "
        f"{memory[2 * args.time][1]:.0f} MB at {2 * args.time}; the tensor {peer_memory[1]:.0f} MB for {few} channels, and "
        f"{gigabytes:.0f} GB for one copy of it with all {channels}.",
    ]
    command = "python -m benchmarks.attention_maps"
    print(write(args.write, "Attention maps of Mamba", command, paragraphs))


if __name__ == "__main__":
    main()
