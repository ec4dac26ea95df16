"""The oracle of linear attention and the gated RNNs: the equations of Zucchet et al. 2023 written plainly in PyTorch.

Run by hand, in an environment of its own, when the equations or the shapes change:

    pip install torch==2.13.0 numpy safetensors
    python tests/oracles/zucchet2023.py

It writes inputs, weights, outputs and gradients to `tests/oracles/data/*.safetensors`, with versions and seed as metadata.
It shares no code with dualform: attention is the masked double sum over (t, s), an RNN a loop over tokens, and the
gradients are PyTorch's own.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

SEED, TIME, D = 20230905, 9, 4
FOLDER = Path(__file__).parent / "data"


def linear_attention(x, w_v, w_k, w_q, w_o):
    """Eq. 1, for each head, heads joined by w_o."""
    v, k, q = (torch.einsum("td,hrd->htr", x, w) for w in (w_v, w_k, w_q))
    scores = torch.tril(torch.einsum("htr,hsr->hts", q, k))
    y = torch.einsum("hts,hsr->thr", scores, v).reshape(len(x), -1)
    return y @ w_o.T


def gated_rnn(x, w_m_in, w_x_in, w_m_out, w_x_out, readout, nu):
    """Eq. 2, with h updated by x_t before it is read."""
    lam, h, outputs = torch.exp(-torch.exp(nu)), torch.zeros(len(nu), dtype=x.dtype), []
    for x_t in x:
        z = torch.cat([x_t, torch.ones(1, dtype=x.dtype)])
        h = lam * h + (w_m_in @ z) * (w_x_in @ z)
        outputs.append(readout @ ((w_m_out @ h) * (w_x_out @ h)))
    return torch.stack(outputs)


def dense_gated_rnn(x, transition, w_m_in, w_x_in, w_m_out, w_x_out, readout):
    """Sec. 3.3: Eq. 2 with a matrix where the decays are."""
    h, outputs = torch.zeros(len(transition), dtype=x.dtype), []
    for x_t in x:
        z = torch.cat([x_t, torch.ones(1, dtype=x.dtype)])
        h = transition @ h + (w_m_in @ z) * (w_x_in @ z)
        outputs.append(readout @ ((w_m_out @ h) * (w_x_out @ h)))
    return torch.stack(outputs)


def side_gated_rnn(x, w_m_in, w_x_in, w_side, readout, nu):
    """Fig. 5: the memory is read through a gate of the present token."""
    lam, h, outputs = torch.exp(-torch.exp(nu)), torch.zeros(len(nu), dtype=x.dtype), []
    for x_t in x:
        h = lam * h + (w_m_in @ x_t) * (w_x_in @ x_t)
        outputs.append(readout @ (h * (w_side @ x_t)))
    return torch.stack(outputs)


SHAPES: dict[Any, dict[str, tuple[int, ...]]] = {
    linear_attention: {"w_v": (2, 3, D), "w_k": (2, 5, D), "w_q": (2, 5, D), "w_o": (3, 6)},
    gated_rnn: {
        "w_m_in": (7, D + 1),
        "w_x_in": (7, D + 1),
        "w_m_out": (5, 7),
        "w_x_out": (5, 7),
        "readout": (3, 5),
        "nu": (7,),
    },
    dense_gated_rnn: {
        "transition": (7, 7),
        "w_m_in": (7, D + 1),
        "w_x_in": (7, D + 1),
        "w_m_out": (5, 7),
        "w_x_out": (5, 7),
        "readout": (3, 5),
    },
    side_gated_rnn: {"w_m_in": (7, D), "w_x_in": (7, D), "w_side": (7, D), "readout": (3, 7), "nu": (7,)},
}


def record(function) -> None:
    """Store what `function` gives for random inputs and weights, and the gradients of sum(cotangent * y)."""
    generator = torch.Generator().manual_seed(SEED)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)
    arguments = {"x": draw(TIME, D)} | {name: draw(*shape) for name, shape in SHAPES[function].items()}
    arguments = {name: value.requires_grad_() for name, value in arguments.items()}
    y = function(**arguments)
    cotangent = draw(*y.shape)
    (cotangent * y).sum().backward()
    tensors = {"output.y": y.detach(), "cotangent.y": cotangent}
    tensors |= {name: value.detach() for name, value in arguments.items()}
    tensors |= {f"gradient.{name}": value.grad for name, value in arguments.items()}
    metadata = {
        "peer": "the paper's equations in PyTorch",
        "torch": torch.__version__,
        "seed": str(SEED),
        "source": "arXiv 2309.01775",
        "dtype": "float64",
    }
    save_file({k: v.contiguous() for k, v in tensors.items()}, FOLDER / f"{function.__name__}.safetensors", metadata)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for function in SHAPES:
        record(function)
