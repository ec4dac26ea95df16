"""The oracles of Mamba and Mamba-2: transformers' mixers themselves, in PyTorch's own operations.

Run by hand, in an environment of its own, when the shapes change:

    pip install torch==2.13.0 transformers==5.23.0 numpy safetensors
    python tests/oracles/selective.py

It writes inputs, weights, outputs and gradients to `tests/oracles/data/*.safetensors`, with versions and seed as metadata.
It shares no code with dualform. The mixers cast to float32 here and there; while they run, such casts go to float64.
"""

from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from transformers.models.mamba.modeling_mamba import MambaConfig, MambaMixer
from transformers.models.mamba2.modeling_mamba2 import Mamba2Config, Mamba2Mixer

SEED, D = 20251124, 4
FOLDER = Path(__file__).parent / "data"


@contextmanager
def in_float64():
    """Casts to float32 go to float64."""
    to: Any = torch.Tensor.to
    kept = torch.Tensor.float
    wider = lambda a: torch.float64 if a is torch.float32 else a
    torch.Tensor.float = torch.Tensor.double
    torch.Tensor.to = lambda self, *a, **k: to(self, *map(wider, a), **{n: wider(v) for n, v in k.items()})
    try:
        yield
    finally:
        torch.Tensor.float, torch.Tensor.to = kept, to


def mamba():
    """Eight channels of three states, rank 2."""
    return MambaMixer(MambaConfig(hidden_size=D, state_size=3, expand=2, conv_kernel=4, time_step_rank=2), 0)


def mamba2():
    """Four heads of two channels, five states, two groups, chunks of 16 tokens."""
    config = Mamba2Config(
        hidden_size=D, state_size=5, expand=2, conv_kernel=4, num_heads=4, head_dim=2, n_groups=2, chunk_size=16
    )
    return Mamba2Mixer(config, 0)


def record(name: str, module: torch.nn.Module, time: int, scale: float) -> None:
    """Store what the mixer gives for random inputs and weights, and the gradients of sum(cotangent * y)."""
    generator = torch.Generator().manual_seed(SEED)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)
    module = module.double().eval()
    arguments = {"x": draw(time, D)}
    arguments |= {n: 0.5 * draw(*p.shape) for n, p in module.named_parameters()}
    # Extreme steps: some so short that nothing is forgotten, some so long that everything is.
    for bias in [n for n in arguments if n in ("dt_proj.bias", "dt_bias")]:
        arguments[bias] = arguments[bias] * scale
    arguments = {n: value.requires_grad_() for n, value in arguments.items()}
    weights = {n: value for n, value in arguments.items() if n != "x"}
    with in_float64():
        y = torch.func.functional_call(module, weights, (arguments["x"][None],))[0]
    assert y.dtype == torch.float64 and torch.isfinite(y).all()
    cotangent = draw(*y.shape)
    (cotangent * y).sum().backward()
    tensors = {"output.y": y.detach(), "cotangent.y": cotangent}
    tensors |= {n: value.detach() for n, value in arguments.items()}
    tensors |= {f"gradient.{n}": value.grad for n, value in arguments.items()}
    metadata = {
        "peer": f"transformers {transformers.__version__}",
        "torch": torch.__version__,
        "seed": str(SEED),
        "dtype": "float64",
    }
    save_file({k: v.contiguous() for k, v in tensors.items()}, FOLDER / f"{name}.safetensors", metadata)


if __name__ == "__main__":
    for name, make in (("mamba", mamba), ("mamba2", mamba2)):
        record(name, make(), 37, 1.0)
        record(f"{name}_extreme", make(), 7, 40.0)
