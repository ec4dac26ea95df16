"""How much memory loading takes, of the size of the file: our own files and a published layout, beside safetensors' reader.

python -m benchmarks.loading [--layers 15] [--width 576] [--vocabulary 49152] [--write docs/benchmarks/loading.md]

A small Llama with random weights in float32 is written as `save_weights` writes it and as its library does. Each way of
loading is run in processes of its own, in turn; the peer reads the arrays of the published file by `safetensors.numpy.load_file`
and hands each to `jax.numpy.asarray`, which is what a script without a model would do, and checks nothing.
"""

import argparse
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from benchmarks.alternate import verdict, write
from benchmarks.attention_maps import high_water

GOAL = 1.3
"""Peak, in sizes of the file, that loading should stay under."""


def published(folder: Path, d: int, layers: int, vocabulary: int) -> Path:
    """A Llama as transformers writes one."""
    heads = d // 64
    hidden, random = 8 * d // 3 // 64 * 64, np.random.default_rng(0)
    normal = lambda *shape: (0.02 * random.standard_normal(shape)).astype(np.float32)
    tensors = {"model.embed_tokens.weight": normal(vocabulary, d), "model.norm.weight": normal(d)}
    shapes = {f"self_attn.{name}_proj": (d, d) for name in "qkvo"}
    shapes |= {"mlp.gate_proj": (hidden, d), "mlp.up_proj": (hidden, d), "mlp.down_proj": (d, hidden)}
    shapes |= {"input_layernorm": (d,), "post_attention_layernorm": (d,)}
    for i in range(layers):
        tensors |= {f"model.layers.{i}.{name}.weight": normal(*shape) for name, shape in shapes.items()}
    config = {"model_type": "llama", "vocab_size": vocabulary, "hidden_size": d, "num_hidden_layers": layers}
    config |= {"num_attention_heads": heads, "num_key_value_heads": heads, "intermediate_size": hidden}
    config |= {"max_position_embeddings": 512, "tie_word_embeddings": True, "rms_norm_eps": 1e-5, "hidden_act": "silu"}
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def measure(side: str, path: str, send: Any) -> None:
    """In a process of its own: seconds, and how far the memory rises, in MB."""
    import jax.numpy as jnp
    from safetensors.numpy import load_file

    from dualform import checkpoints

    checkpoints.load("characters")  # what is imported and compiled once is there before the count begins
    before, begin = high_water(), time.perf_counter()
    if side == "peer":
        found: Any = {name: jnp.asarray(array) for name, array in load_file(path).items()}
    else:
        found = checkpoints.load(path)
    send.send((time.perf_counter() - begin, high_water() - before, len(found)))


def in_process(side: str, path: Path) -> tuple[float, float]:
    """Seconds and MB of one load, in a fresh process."""
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=measure, args=(side, str(path), send))
    process.start()
    seconds, megabytes, _ = receive.recv()
    process.join()
    return seconds, megabytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=15)
    parser.add_argument("--width", type=int, default=576)
    parser.add_argument("--vocabulary", type=int, default=49152)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", metavar="FILE")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = published(Path(name) / "published", options.width, options.layers, options.vocabulary)
        own = Path(name) / "own.safetensors"
        context = multiprocessing.get_context("spawn")
        writing = context.Process(target=rewrite, args=(folder, own))
        writing.start()
        writing.join()
        file = folder / "model.safetensors"
        sides = {
            "our own file": ("ours", own),
            "a published folder": ("ours", folder),
            "safetensors and jax": ("peer", file),
        }
        runs = {name: [] for name in sides}
        for _ in range(options.rounds):
            for side, (kind, path) in sides.items():
                runs[side].append(in_process(kind, path))
        size = file.stat().st_size / 2**20
    middle = lambda side, i: statistics.median(run[i] for run in runs[side])
    peaks = {side: middle(side, 1) / size for side in runs}
    rows = [["side", "peak, of the file's size", "s", f"at most {GOAL}"], ["---"] * 4]
    rows += [
        [
            side,
            f"{peaks[side]:.2f}",
            f"{middle(side, 0):.2f}",
            "peer" if kind == "peer" else verdict(peaks[side] <= GOAL),
        ]
        for side, (kind, _) in sides.items()
    ]
    said = f"Medians of {options.rounds} processes each, in turn; a file of {size:.0f} MiB in float32; seed 0."
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    command = " ".join(["python -m benchmarks.loading", *sys.argv[1:]])
    print(write(options.write, "Loading", command, [said, table]))


def rewrite(folder: Path, own: Path) -> None:
    """The published model as our own file."""
    from dualform import checkpoints

    checkpoints.save_weights(own, checkpoints.load(folder).model)


if __name__ == "__main__":
    main()
