"""The oracles of RWKV-4's two mixers: transformers' attention and feed-forward themselves, in PyTorch's own operations.

Run by hand, in an environment of its own, when the shapes change:

    pip install torch==2.13.0 transformers==5.23.0 numpy safetensors
    python tests/oracles/rwkv4.py

It writes inputs, states, weights, outputs and gradients to `tests/oracles/data/rwkv4*.safetensors`, with versions and seed as
metadata. It shares no code with dualform. The attention casts keys to float32; while it runs, they go to float64.
"""

from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from transformers.models.rwkv.modeling_rwkv import RwkvConfig, RwkvFeedForward, RwkvSelfAttention

SEED, D = 20251126, 4
FOLDER = Path(__file__).parent / "data"
CONFIG = RwkvConfig(hidden_size=D, attention_hidden_size=6, intermediate_size=7, num_hidden_layers=1)


@contextmanager
def in_float64():
    """What is cast to float32 goes to float64."""
    kept = torch.Tensor.float
    torch.Tensor.float = torch.Tensor.double
    try:
        yield
    finally:
        torch.Tensor.float = kept


class Slot:
    """One layer's part of a state, whatever layer is asked for: written anew, where the module would write in place.

    What is written in place has no gradient.
    """

    def __init__(self, value: torch.Tensor):
        self.value = value

    def __getitem__(self, place):
        return self.value[None]

    def __setitem__(self, place, value):
        self.value = value[0]


def record(name: str, kind: type[torch.nn.Module], time: int, scale: float, state: tuple[str, ...] = ()) -> None:
    """Store what the mixer gives for random inputs and weights, and the gradients of sum(cotangent * output).

    state: the names of the parts of a state that is carried in and out: the last token, and the attention's sums.
    """
    generator = torch.Generator().manual_seed(SEED)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)
    module = kind(CONFIG).double().eval()
    arguments = {"x": draw(time, D)}
    arguments |= {n: 0.5 * draw(*p.shape) for n, p in module.named_parameters()}
    # Extreme rates: decays of 0 and of 1, and weights that no exponential holds without a reference.
    for extreme in [n for n in arguments if n in ("time_decay", "time_first", "key.weight")]:
        arguments[extreme] = arguments[extreme] * scale
    for part in state:
        arguments[f"{part}_0"] = draw(D if part == "last" else 6)
        if part == "denominator":
            arguments[f"{part}_0"] = arguments[f"{part}_0"].abs() + 1
    arguments = {n: value.requires_grad_() for n, value in arguments.items()}
    weights = {n: value for n, value in arguments.items() if n != "x" and not n.endswith("_0")}
    # A layer's state begins with feed-forward's last token, which attention passes by.
    parts = [Slot(arguments[f"{part}_0"]) for part in state]
    carried = None if not state else parts if kind is RwkvFeedForward else [Slot(torch.zeros(D)), *parts]
    with in_float64():
        y, _ = torch.func.functional_call(module, weights, (arguments["x"][None], carried))
    outputs = {"y": y[0]} | {part: slot.value for part, slot in zip(state, parts, strict=True)}
    assert all(value.dtype == torch.float64 and torch.isfinite(value).all() for value in outputs.values())
    cotangents = {n: draw(*value.shape) for n, value in outputs.items()}
    torch.stack([(cotangents[n] * value).sum() for n, value in outputs.items()]).sum().backward()
    tensors: dict[str, Any] = {f"output.{n}": value.detach() for n, value in outputs.items()}
    tensors |= {f"cotangent.{n}": value for n, value in cotangents.items()}
    # "output." begins the name of an output.
    arguments = {n.replace("output.weight", "readout.weight"): value for n, value in arguments.items()}
    tensors |= {n: value.detach() for n, value in arguments.items()}
    tensors |= {f"gradient.{n}": value.grad for n, value in arguments.items()}
    metadata = {
        "peer": f"transformers {transformers.__version__}",
        "torch": torch.__version__,
        "seed": str(SEED),
        "dtype": "float64",
    }
    save_file({k: v.clone().contiguous() for k, v in tensors.items()}, FOLDER / f"{name}.safetensors", metadata)


if __name__ == "__main__":
    record("rwkv4", RwkvSelfAttention, 37, 1.0)
    record("rwkv4_extreme", RwkvSelfAttention, 7, 12.0)
    record("rwkv4_carried", RwkvSelfAttention, 5, 1.0, ("last", "numerator", "denominator", "largest"))
    record("rwkv4_channel", RwkvFeedForward, 37, 1.0)
    record("rwkv4_channel_carried", RwkvFeedForward, 5, 40.0, ("last",))
