"""The oracle of the causal convolution: PyTorch's own `conv1d`, depthwise, padded on the left.

Run by hand, in an environment of its own, when the shapes change:

    pip install torch==2.13.0 numpy safetensors
    python tests/oracles/causal_convolution.py

It writes inputs, weights, outputs and gradients to `tests/oracles/data/causal_convolution.safetensors`, with versions and
seed as metadata. It shares no code with dualform.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

SEED, TIME, D, WIDTH = 20240229, 37, 3, 4

if __name__ == "__main__":
    random = torch.Generator().manual_seed(SEED)
    draw = lambda *shape: torch.randn(*shape, generator=random, dtype=torch.float64)
    given = {"x": draw(TIME, D), "kernel": draw(WIDTH, D), "bias": draw(D)}
    leaves = {name: a.clone().requires_grad_() for name, a in given.items()}
    padded = torch.nn.functional.pad(leaves["x"].T[None], (WIDTH - 1, 0))
    y = torch.nn.functional.conv1d(padded, leaves["kernel"].T[:, None], leaves["bias"], groups=D)[0].T
    cotangent = draw(*y.shape)
    y.backward(cotangent)
    stored: dict[str, Any] = given | {"output.y": y.detach(), "cotangent.y": cotangent}
    stored |= {f"gradient.{name}": leaf.grad for name, leaf in leaves.items()}
    save_file(
        {name: a.contiguous() for name, a in stored.items()},
        Path(__file__).parent / "data" / "causal_convolution.safetensors",
        {"torch": torch.__version__, "seed": str(SEED), "peer": f"torch {torch.__version__.split('+')[0]}"},
    )
