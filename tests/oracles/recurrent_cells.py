"""The oracles of the nonlinear recurrent mixers and of the LRU: PyTorch's own layers, and papers' equations in PyTorch.

Run by hand, in an environment of its own, when the equations or the shapes change:

    pip install torch==2.13.0 numpy safetensors
    python tests/oracles/recurrent_cells.py

It writes inputs, weights, outputs and gradients to `tests/oracles/data/*.safetensors`, with versions and seed as metadata.
It shares no code with dualform. `torch_lstm`, `torch_gru` and `torch_rnn` are `torch.nn.LSTM`, `GRU` and `RNN` themselves;
the others are loops over tokens, and the gradients are PyTorch's own. The LRU is written in complex numbers, with the
equations of minimal-LRU: h = lam h + exp(gamma) (B_re + i B_im) x, y = Re((C_re + i C_im) h) + D x.
"""

from pathlib import Path

import torch
from safetensors.torch import save_file

SEED, TIME, D, N = 20231214, 7, 3, 4
FOLDER = Path(__file__).parent / "data"


def layer(kind, x, weight_ih, weight_hh, bias_ih, bias_hh):
    """One layer of `torch.nn.<kind>`, called with these parameters."""
    module = kind(D, N, dtype=torch.float64)
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    given: dict[str, torch.Tensor] = dict(zip(names, (weight_ih, weight_hh, bias_ih, bias_hh), strict=True))
    return torch.func.functional_call(module, given, (x[:, None],))[0][:, 0]


def torch_lstm(x, weight_ih, weight_hh, bias_ih, bias_hh):
    """`torch.nn.LSTM`."""
    return layer(torch.nn.LSTM, x, weight_ih, weight_hh, bias_ih, bias_hh)


def torch_gru(x, weight_ih, weight_hh, bias_ih, bias_hh):
    """`torch.nn.GRU`."""
    return layer(torch.nn.GRU, x, weight_ih, weight_hh, bias_ih, bias_hh)


def torch_rnn(x, weight_ih, weight_hh, bias_ih, bias_hh):
    """`torch.nn.RNN`, whose nonlinearity is tanh."""
    return layer(torch.nn.RNN, x, weight_ih, weight_hh, bias_ih, bias_hh)


def chung_lstm(x, w_i, w_f, w_c, w_o, u_i, u_f, u_c, u_o, v_i, v_f, v_o, b_i, b_f, b_c, b_o):
    """Sec. 3.1 of Chung et al. 2014, W of the token, U of h, V diagonal, of the cell; biases added."""
    h, c, outputs = torch.zeros(N, dtype=x.dtype), torch.zeros(N, dtype=x.dtype), []
    for x_t in x:
        i = torch.sigmoid(w_i @ x_t + u_i @ h + v_i * c + b_i)
        f = torch.sigmoid(w_f @ x_t + u_f @ h + v_f * c + b_f)
        c = f * c + i * torch.tanh(w_c @ x_t + u_c @ h + b_c)
        o = torch.sigmoid(w_o @ x_t + u_o @ h + v_o * c + b_o)
        h = o * torch.tanh(c)
        outputs.append(h)
    return torch.stack(outputs)


def chung_gru(x, w_r, w_z, w, u_r, u_z, u, b_r, b_z, b):
    """Sec. 3.2 of Chung et al. 2014; biases added."""
    h, outputs = torch.zeros(N, dtype=x.dtype), []
    for x_t in x:
        z = torch.sigmoid(w_z @ x_t + u_z @ h + b_z)
        r = torch.sigmoid(w_r @ x_t + u_r @ h + b_r)
        candidate = torch.tanh(w @ x_t + u @ (r * h) + b)
        h = (1 - z) * h + z * candidate
        outputs.append(h)
    return torch.stack(outputs)


def lru(x, nu, theta, gamma, b_re, b_im, c_re, c_im, skip):
    """Eqs. 6, 7 and 9 of Zucchet et al. 2023, as minimal-LRU writes them; `skip` a matrix, or a vector as published."""
    lam = torch.exp(torch.complex(-torch.exp(nu), torch.exp(theta)))
    b, c = torch.complex(b_re, b_im), torch.complex(c_re, c_im)
    h, outputs = torch.zeros(N, dtype=torch.complex128), []
    for x_t in x:
        h = lam * h + torch.exp(gamma) * (b @ x_t.to(torch.complex128))
        outputs.append((c @ h).real + (skip * x_t if skip.ndim == 1 else skip @ x_t))
    return torch.stack(outputs)


def one(x):
    """1 appended to each token: the gates' bias."""
    return torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], dim=1)


def lru_matrix_skip(x, **core):
    """The LRU with a matrix for D, so that it may be wider than its input."""
    return lru(x, **core)


def lru_out(x, w_m_out, w_x_out, **core):
    """LRU Out of App. A.1: Eq. 8, a gated linear unit of the LRU's output."""
    z = one(lru(x, **core))
    return torch.sigmoid(z @ w_m_out.T) * (z @ w_x_out.T)


def lru_in_out(x, w_m_in, w_x_in, w_m_out, w_x_out, **core):
    """LRU In-Out: a gated linear unit before the recurrence, too."""
    z = one(x)
    return lru_out(torch.sigmoid(z @ w_m_in.T) * (z @ w_x_in.T), w_m_out, w_x_out, **core)


def lru_in_skip(x, w_m_in, w_x_in, w_m_out, w_x_out, **core):
    """LRU In-Skip: the m branch of the output gate reads the token."""
    z = one(x)
    y = one(lru(torch.sigmoid(z @ w_m_in.T) * (z @ w_x_in.T), **core))
    return torch.sigmoid(z @ w_m_out.T) * (y @ w_x_out.T)


def torch_shapes(gates):
    """One layer's parameters, as `torch.nn` has them."""
    rows = gates * N
    return {"weight_ih": (rows, D), "weight_hh": (rows, N), "bias_ih": (rows,), "bias_hh": (rows,)}


def cell_shapes(**shapes):
    """One shape for several names: `cell_shapes(w_i_f=...)` is w_i and w_f."""
    return {f"{key[0]}_{gate}".rstrip("_"): shape for key, shape in shapes.items() for gate in key.split("_")[1:]}


def core_shapes(d_in, d_out, diagonal=False):
    """An LRU's."""
    matrices = {"b_re": (N, d_in), "b_im": (N, d_in), "c_re": (d_out, N), "c_im": (d_out, N)}
    return {"nu": (N,), "theta": (N,), "gamma": (N,)} | matrices | {"skip": (d_out,) if diagonal else (d_out, d_in)}


GATE_OUT = {"w_m_out": (2, 6), "w_x_out": (2, 6)}
GATE_IN = {"w_m_in": (4, D + 1), "w_x_in": (4, D + 1)}
SHAPES = {
    torch_lstm: torch_shapes(4),
    torch_gru: torch_shapes(3),
    torch_rnn: torch_shapes(1),
    chung_lstm: cell_shapes(w_i_f_c_o=(N, D), u_i_f_c_o=(N, N), v_i_f_o=(N,), b_i_f_c_o=(N,)),
    chung_gru: cell_shapes(w_r_z_=(N, D), u_r_z_=(N, N), b_r_z_=(N,)),
    lru: core_shapes(D, D, diagonal=True),
    lru_matrix_skip: core_shapes(D, 5),
    lru_out: core_shapes(D, 5) | GATE_OUT,
    lru_in_out: core_shapes(4, 5) | GATE_IN | GATE_OUT,
    lru_in_skip: core_shapes(4, 5) | GATE_IN | {"w_m_out": (2, D + 1), "w_x_out": (2, 6)},
}
"""Widths that all differ where they may, so that no two axes can be taken for one another."""


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
    own = function.__name__.startswith("torch_")
    metadata = {
        "peer": "torch 2.13.0" if own else "the paper's equations in PyTorch",
        "torch": torch.__version__,
        "seed": str(SEED),
        "source": " ".join(function.__doc__.split()),
        "dtype": "float64",
    }
    save_file({k: v.contiguous() for k, v in tensors.items()}, FOLDER / f"{function.__name__}.safetensors", metadata)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for function in SHAPES:
        record(function)
