"""The oracles of HGRN, minGRU, minLSTM, RG-LRU and Griffin's recurrent block: their public implementations, run as they are.

Run by hand, in an environment of its own, when a peer or the shapes change:

    pip install torch==2.13.0 numpy safetensors einops jaxtyping minGRU-pytorch==0.2.1
    pip download --no-deps fla-core==0.6.0 recurrentgemma==1.0.1 mingru-scans==0.2.0   (and unzip them into PEERS)
    git clone https://github.com/Doraemonzzz/hgru-pytorch   (09f4ed2c78; copy its folder hgru into PEERS)
    python tests/oracles/diagonal_gates.py PEERS

It writes inputs, weights, outputs, final states and gradients to `tests/oracles/data/*.safetensors`, with versions and seed
as metadata. It shares no code with dualform. Files are loaded by path, so that no package's own import (Triton, CUDA, JAX)
runs. All is float64 but fla's operator, which computes in float32 whatever it is given; recurrentgemma's scan takes its
accumulation dtype as an argument.
"""

import functools
import importlib
import sys
import types
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from minGRU_pytorch import minGRU
from minGRU_pytorch.minLSTM import minLSTM
from safetensors.torch import save_file
from torch.nn.functional import linear, logsigmoid, rms_norm, silu

SEED, LONG, SHORT, D = 20241002, 37, 7, 4
FOLDER = Path(__file__).parent / "data"
PEERS = Path(sys.argv[1])
torch.set_default_dtype(torch.float64)


def package(name: str, **members: Any) -> None:
    """A stand-in for a package, so that a file of it can be loaded without running the package's own import."""
    module: Any = types.ModuleType(name)
    module.__path__ = [str(PEERS.joinpath(*name.split(".")))]
    vars(module).update(members)
    sys.modules[name] = module


for name in ("fla", "fla.ops", "fla.ops.hgrn", "mingru", "recurrentgemma", "recurrentgemma.torch", "hgru"):
    package(name)
package("hgru.hgru_cuda", HgruFunction=types.SimpleNamespace(apply=None))
package("hgru.hgru_real_cuda", HgruRealFunction=types.SimpleNamespace(apply=None))
load = importlib.import_module
hgrn_op = load("fla.ops.hgrn.naive").naive_recurrent_hgrn
mingru, hgru, hgru_real = load("mingru.min_gru"), load("hgru.hgru1d"), load("hgru.hgrureal1d")
griffin_layers: Any = load("recurrentgemma.torch.layers")
griffin_layers.rnn_scan = functools.partial(griffin_layers.rnn_scan, acc_dtype=torch.float64)
griffin = load("recurrentgemma.torch.modules")


def call(module, a, *arguments, **keywords):
    """The module, called with the parameters of its own that `a` holds."""
    given = {name: a[name] for name, _ in module.named_parameters()}
    return torch.func.functional_call(module, given, arguments, keywords)


def hgru_pytorch(module):
    """Its `forward_naive`: time, batch, width."""
    module.forward = module.forward_naive
    return lambda a: {"y": call(module, a, a["x"][:, None], a["gamma"])[:, 0]}


def fla_hgrn(a):
    """fla's gates and readout as its layer writes them, around its naive operator."""
    f = logsigmoid(linear(a["x"], a["w_f"]))
    f = torch.logaddexp(a["gamma"].log(), torch.log1p(-a["gamma"]) + f)
    drive = silu(linear(a["x"], a["w_c"])) * (1 - f.exp())
    o, final = hgrn_op(drive[None], f[None], a["h_0"][None], output_final_state=True)
    o = rms_norm(o[0], (D,), a["norm_weight"], 1e-5) * silu(linear(a["x"], a["w_g"]))
    return {"y": linear(o, a["w_o"]), "final": final[0].double()}


def port(module):
    """A module of minGRU-pytorch, in its parallel form."""
    return lambda a: {"y": call(module, a, a["x"][None])[0]}


def mingru_log(module):
    """mingru-scans's `MinGRU` in its log-space form, from a state."""
    return lambda a: {"y": call(module, a, a["x"][None], a["h_0"][None, None])[0]}


def mingru_signed(module):
    """mingru-scans's `SignedMinGRU`, its eigenvalue (1 - z) tanh(s) with s = 40: tanh is 1 there."""

    def run(a):
        sign = {"linear_s.weight": torch.zeros(D, D), "linear_s.bias": torch.full((D,), 40.0)}
        return {"y": call(module, a | sign, a["x"][None], a["h_0"][None, None])[0]}

    return run


def min_lstm(a):
    """Sec. 3.2.3 of Feng et al. 2024, token by token, as printed."""
    h, outputs = a["h_0"], []
    for x_t in a["x"]:
        f, i = torch.sigmoid(a["w_f"] @ x_t + a["b_f"]), torch.sigmoid(a["w_i"] @ x_t + a["b_i"])
        h = f / (f + i) * h + i / (f + i) * (a["w_h"] @ x_t + a["b_h"])
        outputs.append(h)
    return {"y": torch.stack(outputs)}


def rg_lru(module):
    """recurrentgemma's `RGLRU`, from its state where there is one."""

    def run(a):
        cache = a["h_0"][None] if "h_0" in a else None
        y, final = call(module, a, a["x"][None], a["segment_pos"][None], cache)
        return {"y": y[0], "final": final[0]}

    return run


def griffin_whole(module):
    """recurrentgemma's `RecurrentBlock` over packed documents."""

    def run(a):
        y, cache = call(module, a, a["x"][None], a["segment_pos"][None])
        return {"y": y[0], "final": cache.rg_lru_state[0]}

    return run


def griffin_split(module):
    """recurrentgemma's `RecurrentBlock`: a prompt of 4 tokens, then token by token with its cache."""

    def run(a):
        x, position = a["x"][None], a["segment_pos"][None]
        y, cache = call(module, a, x[:, :4], position[:, :4])
        outputs = [y]
        for t in range(4, x.shape[1]):
            y, cache = call(module, a, x[:, t : t + 1], position[:, t : t + 1], cache)
            outputs.append(y)
        return {"y": torch.cat(outputs, dim=1)[0], "final": cache.rg_lru_state[0]}

    return run


class Case(NamedTuple):
    """What is run: a peer, its module (parameters are drawn for it), tokens, further inputs, scales, packed documents."""

    peer: str
    run: Callable[[Any], Any]
    module: Any = None
    time: int = LONG
    shapes: dict[str, tuple[int, ...]] = {}
    scales: dict[str, float] = {}
    documents: Iterable[int] | None = None


HGRU, MINGRU = "hgru-pytorch 09f4ed2c78", "mingru-scans 0.2.0"
PORT, GEMMA = "minGRU-pytorch 0.2.1", "recurrentgemma 1.0.1"
WEIGHTS, STATE = (D, D), {"h_0": (D,)}
FLA = dict.fromkeys(("w_f", "w_c", "w_g", "w_o"), WEIGHTS) | {"norm_weight": (D,), "gamma": (D,)} | STATE
LSTM = {f"w_{gate}": WEIGHTS for gate in "fih"} | {f"b_{gate}": (D,) for gate in "fih"} | STATE
PACKED = (*range(9), *range(1), *range(14), *range(13))
CARRIED = (*range(5, 14), *range(14), *range(14))
OPEN = {"a_gate.w": 20.0, "input_gate.w": 20.0, "a_param": 6.0}


def with_module(peer, run, module, **rest):
    """A case whose module is called by `run(module)`."""
    return Case(peer, run(module), module, **rest)


CASES = {
    "hgrn": with_module(HGRU, hgru_pytorch, hgru_real.HgruRealV6(D), shapes={"gamma": (D,)}),
    "hgrn_extreme": with_module(
        HGRU, hgru_pytorch, hgru_real.HgruRealV6(D), shapes={"gamma": (D,)}, scales={"lambda_proj.weight": 20.0}
    ),
    "hgrn_fla": Case("fla-core 0.6.0", fla_hgrn, time=SHORT, shapes=FLA),
    "hgrn_complex": with_module(HGRU, hgru_pytorch, hgru.Hgru1d(D), shapes={"gamma": (D,)}),
    "min_gru": with_module(MINGRU, mingru_signed, mingru.SignedMinGRU(D, D, coupled=True), shapes=STATE),
    "min_gru_log": with_module(PORT, port, minGRU(D, expansion_factor=1.5)),
    "min_gru_log_state": with_module(MINGRU, mingru_log, mingru.MinGRU(D, D), time=SHORT, shapes=STATE),
    "min_gru_log_extreme": with_module(
        PORT, port, minGRU(D, expansion_factor=1.5), scales={"to_hidden_and_gate.weight": 10.0}
    ),
    "min_lstm": Case("the paper's equations in PyTorch", min_lstm, shapes=LSTM),
    "min_lstm_log": with_module(PORT, port, minLSTM(D, expansion_factor=1.5)),
    "min_lstm_log_extreme": with_module(
        PORT, port, minLSTM(D, expansion_factor=1.5), time=SHORT, scales={"to_hidden_and_f_i_gate.weight": 10.0}
    ),
    "rg_lru": with_module(GEMMA, rg_lru, griffin_layers.RGLRU(D, 2), documents=PACKED),
    "rg_lru_carried": with_module(GEMMA, rg_lru, griffin_layers.RGLRU(D, 2), documents=CARRIED, shapes=STATE),
    "rg_lru_extreme": with_module(GEMMA, rg_lru, griffin_layers.RGLRU(D, 2), documents=PACKED, scales=OPEN),
    "griffin_recurrent": with_module(GEMMA, griffin_whole, griffin.RecurrentBlock(D, 3, 6), documents=PACKED),
    "griffin_recurrent_split": with_module(
        GEMMA, griffin_split, griffin.RecurrentBlock(D, 3, 6), time=SHORT, documents=range(SHORT)
    ),
}


def record(name: str, case: Case) -> None:
    """Store what the peer gives for random inputs and weights, and the gradients of sum(cotangent * output)."""
    generator = torch.Generator().manual_seed(SEED)
    normal = lambda shape: torch.randn(*shape, generator=generator)
    signed = lambda name: not name.startswith("linear_s.")  # the sign head is held, see `mingru_signed`
    parameters = case.module.named_parameters() if case.module is not None else ()
    shapes = {name: tuple(p.shape) for name, p in parameters if signed(name)} | case.shapes
    arguments = {"x": normal((case.time, D))}
    arguments |= {name: case.scales.get(name, 1.0) * normal(shape) for name, shape in shapes.items()}
    for between in [name for name in ("gamma", "h_0") if name in shapes]:
        arguments[between] = torch.rand(*shapes[between], generator=generator)
    arguments = {name: value.detach().requires_grad_() for name, value in arguments.items()}
    fixed = {} if case.documents is None else {"segment_pos": torch.tensor([*case.documents])}
    outputs = case.run(arguments | fixed)
    cotangents = {name: normal(value.shape) for name, value in outputs.items()}
    torch.stack([(cotangents[name] * value).sum() for name, value in outputs.items()]).sum().backward()
    tensors: dict[str, Any] = fixed | {name: value.detach() for name, value in arguments.items()}
    tensors |= {f"gradient.{name}": value.grad for name, value in arguments.items()}
    tensors |= {f"output.{name}": value.detach() for name, value in outputs.items()}
    tensors |= {f"cotangent.{name}": value for name, value in cotangents.items()}
    metadata = {"peer": case.peer, "torch": torch.__version__, "seed": str(SEED), "dtype": "float64"}
    assert all(torch.isfinite(value).all() for value in tensors.values()), name
    save_file({k: v.contiguous() for k, v in tensors.items()}, FOLDER / f"{name}.safetensors", metadata)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, case in CASES.items():
        record(name, case)
