"""The oracles of cross-attention: PyTorch's attention under the mask of frames over the text before them, and its GRU.

Run by hand, in an environment of its own, when the shapes change:

    pip install torch==2.13.0 numpy safetensors
    python tests/oracles/cross_attention.py

It writes inputs, weights, outputs and gradients to `tests/oracles/data/*.safetensors`, with versions and seed as metadata.
It shares no code with dualform.
"""

from pathlib import Path

import torch
from safetensors.torch import save_file

SEED, TEXT, FRAMES, D, WIDTH = 20261201, 9, 21, 6, 4
FOLDER = Path(__file__).parent / "data"
ATTENTION = torch.nn.functional.scaled_dot_product_attention


def heads(x, w, count):
    """W x, (1, head, time, rows)."""
    return (x @ w.T).reshape(1, len(x), count, -1).transpose(1, 2)


def joined(o, w_o):
    """The heads' output at each frame, and 0 at the text, which is before them."""
    y = o.transpose(1, 2).reshape(FRAMES, -1) @ w_o.T
    return torch.cat([torch.zeros(TEXT, y.shape[1], dtype=y.dtype), y])


def plain(x, w_q, w_k, w_v, w_o):
    """`scaled_dot_product_attention` of frames over the text, two heads."""
    text, frames = x[:TEXT], x[TEXT:]
    o = ATTENTION(heads(frames, w_q, 2), heads(text, w_k, 2), heads(text, w_v, 2))
    return joined(o, w_o)


def position_aware(x, w_q, w_k, w_v, w_o, **recurrence):
    """The same, of positions, through `torch.nn.GRU` over the frames, and again, of the values."""
    text, frames = x[:TEXT], x[TEXT:]
    frequency = 10000.0 ** (-torch.arange(0, WIDTH, 2, dtype=torch.float64) / WIDTH)
    angle = torch.arange(TEXT, dtype=torch.float64)[:, None] * frequency[None]
    positions = torch.cat([angle.cos(), angle.sin()], -1).expand(1, 2, TEXT, WIDTH)
    p = ATTENTION(heads(frames, w_q, 2), heads(text, w_k, 2), positions)
    gru = torch.nn.GRU(2 * WIDTH, 2 * WIDTH, batch_first=True).double()
    read, _ = torch.func.functional_call(gru, recurrence, (p.transpose(1, 2).reshape(1, FRAMES, -1),))
    read = read.reshape(1, FRAMES, 2, WIDTH).transpose(1, 2)
    return joined(ATTENTION(read, positions, heads(text, w_v, 2), scale=1.0), w_o)


WEIGHTS = {"w_q": (6, D), "w_k": (6, D), "w_v": (8, D), "w_o": (5, 8)}
ROWS = 3 * 2 * WIDTH
GRU = {"weight_ih_l0": (ROWS, 8), "weight_hh_l0": (ROWS, 8), "bias_ih_l0": (ROWS,), "bias_hh_l0": (ROWS,)}
CASES = {"cross_attention": (plain, WEIGHTS), "position_aware_cross_attention": (position_aware, WEIGHTS | GRU)}


def record(name: str) -> None:
    """Store what the peer gives for random inputs and weights, and the gradients of sum(cotangent * y)."""
    run, shapes = CASES[name]
    generator = torch.Generator().manual_seed(SEED)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)
    x = draw(TEXT + FRAMES, D)
    x[:, -1] = (torch.arange(TEXT + FRAMES) >= TEXT).double()  # which tokens are frames
    arguments = {"x": x} | {name: draw(*shape) for name, shape in shapes.items()}
    arguments = {name: value.requires_grad_() for name, value in arguments.items()}
    y = run(**arguments)
    assert y.dtype == torch.float64 and torch.isfinite(y).all()
    cotangent = draw(*y.shape)
    (cotangent * y).sum().backward()
    tensors = {"output.y": y.detach(), "cotangent.y": cotangent}
    tensors |= {name: value.detach() for name, value in arguments.items()}
    tensors |= {f"gradient.{name}": value.grad for name, value in arguments.items()}
    peer = f"torch {torch.__version__.split('+')[0]}"
    metadata = {"peer": peer, "torch": torch.__version__, "seed": str(SEED), "dtype": "float64"}
    save_file({k: v.contiguous() for k, v in tensors.items()}, FOLDER / f"{name}.safetensors", metadata)


if __name__ == "__main__":
    for name in CASES:
        record(name)
