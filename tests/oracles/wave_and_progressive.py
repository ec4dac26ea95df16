"""The oracles of the wave RNN, the parallel gated network and TPGN: their public implementations, run as they are.

Run by hand, in an environment of its own, when a peer or the shapes change:

    pip install torch==2.13.0 numpy safetensors
    git clone https://github.com/akandykeller/Wave_RNNs   (2630b88)
    git clone https://github.com/Water2sea/TPGN           (4bbe2be)
    python tests/oracles/wave_and_progressive.py FOLDER_OF_BOTH

It writes inputs, weights, outputs and gradients to `tests/oracles/data/*.safetensors`, with versions and seed as metadata. It
shares no code with dualform. Files are loaded by path, and all is float64.
"""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file

SEED, LONG, SHORT = 20230903, 37, 7
FOLDER = Path(__file__).parent / "data"
torch.set_default_dtype(torch.float64)


def load(path: str) -> Any:
    """The module in a file of a peer."""
    spec: Any = importlib.util.spec_from_file_location(Path(path).stem, Path(sys.argv[1]) / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


wave, tpgn = load("Wave_RNNs/copy/conv_rnn_model.py"), load("TPGN/models/TPGN.py")


def call(module, a, *arguments):
    """The module, called with the parameters of its own that `a` holds."""
    given = {name: a[name] for name, _ in module.named_parameters()}
    return torch.func.functional_call(module, given, arguments)


def wave_rnn(module, a):
    """Wave_RNNs' network, which reads out every step: time, batch, width."""
    return call(module, a, a["x"][:, None])[0][:, 0]


def pgn(module, a):
    """`PGN_2d` without its last layer: batch, rows, columns, series, and the token, a value beside its marks."""
    return call(module, a, a["x"][None, :, None, None, :1], a["x"][None, :, None, None, 1:])[0, :, 0, 0]


def rows(module):
    """A `PGN_2d` that returns what its gate gives, before the layer that reads all rows."""
    module.forward = lambda x, marks: module.gated_unit(x, marks, module.deal(x, marks))
    del module.fc
    return module


def forecast(module, a):
    """TPGN's `Model`: (series, marks) -> the future of every series."""
    return call(module, a, a["x"][None].double(), a["marks"][None], None, None)[0]


class Case(NamedTuple):
    """What is run: a peer, how, its module, the shapes of its inputs, scales (1 if not given), inputs in whole numbers."""

    peer: str
    run: Callable[[Any, Any], Any]
    module: Any
    inputs: dict[str, tuple[int, ...]]
    scales: dict[str, float] = {}
    whole: tuple[str, ...] = ()


WAVE, TPGN = "Wave_RNNs 2630b88", "TPGN 4bbe2be"
SERIES = ("x",)  # without a gradient, then: TPGN's normalisation writes into them, and PyTorch gives none
CALM = {"cell.Wy.weight": 0.25}  # so that 37 steps of random weights neither vanish nor overflow
OPEN = {"gate.weight": 20.0}


def model(series, norm):
    """TPGN's `Model` on 7 rows of 5: a window of 35, a future of 10; two numbers wide."""
    return tpgn.Model(
        SimpleNamespace(
            freq="d", TPGN_period=5, seq_len=35, pred_len=10, enc_in=series, c_out=series, d_model=2, norm=norm
        )
    )


CASES = {
    "wave_rnn": Case(WAVE, wave_rnn, wave.coRNN(3, 6, 4, n_ch=2), {"x": (LONG, 3)}, CALM),
    "wave_rnn_wide": Case(WAVE, wave_rnn, wave.coRNN(2, 5, 3, n_ch=3, ksize=5), {"x": (SHORT, 2)}, CALM),
    "pgn": Case(TPGN, pgn, rows(tpgn.PGN_2d(LONG, "d", 1, 3, 5)), {"x": (LONG, 4)}),
    "pgn_whole_past": Case(TPGN, pgn, rows(tpgn.PGN_2d(SHORT, "d", 1, 2, 6)), {"x": (SHORT, 4)}),
    "pgn_extreme": Case(TPGN, pgn, rows(tpgn.PGN_2d(LONG, "d", 1, 3, 5)), {"x": (LONG, 4)}, OPEN),
    "tpgn": Case(TPGN, forecast, model(1, 0), {"x": (35, 1), "marks": (35, 3)}),
    "tpgn_normalised": Case(TPGN, forecast, model(1, 1), {"x": (35, 1), "marks": (35, 3)}, whole=SERIES),
    "tpgn_two_series": Case(TPGN, forecast, model(2, 1), {"x": (35, 2), "marks": (35, 3)}, whole=SERIES),
}


def store(name: str, case: Case, arguments: dict[str, torch.Tensor], generator: torch.Generator) -> None:
    """Run the case; store inputs, weights, output, and the gradients of sum(cotangent * output)."""
    arguments = {name: value.detach().requires_grad_(name not in case.whole) for name, value in arguments.items()}
    y = case.run(case.module, arguments)
    cotangent = torch.randn(*y.shape, generator=generator)
    (cotangent * y).sum().backward()
    tensors: dict[str, Any] = {name: value.detach() for name, value in arguments.items()}
    tensors |= {f"gradient.{name}": value.grad for name, value in arguments.items() if value.requires_grad}
    tensors |= {"output.y": y.detach(), "cotangent.y": cotangent}
    metadata = {"peer": case.peer, "torch": torch.__version__, "seed": str(SEED), "dtype": "float64"}
    assert all(torch.isfinite(value).all() for value in tensors.values()), name
    save_file({k: v.contiguous() for k, v in tensors.items()}, FOLDER / f"{name}.safetensors", metadata)


def record(name: str, case: Case) -> None:
    """Store what the peer gives for random inputs and weights."""
    generator = torch.Generator().manual_seed(SEED)
    shapes = case.inputs | {name: tuple(p.shape) for name, p in case.module.named_parameters()}
    normal = lambda name, shape: case.scales.get(name, 1.0) * torch.randn(*shape, generator=generator)
    whole = lambda shape: torch.randint(-9, 10, shape, generator=generator)
    draw = lambda name, shape: whole(shape) if name in case.whole else normal(name, shape)
    store(name, case, {name: draw(name, shape) for name, shape in shapes.items()}, generator)


def record_as_published(name: str, case: Case) -> None:
    """Store what the peer gives from its own initial weights."""
    generator = torch.Generator().manual_seed(SEED)
    arguments = {name: torch.randn(*shape, generator=generator) for name, shape in case.inputs.items()}
    store(name, case, arguments | dict(case.module.named_parameters()), generator)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, case in CASES.items():
        record(name, case)
    torch.manual_seed(SEED)
    published = wave.coRNN(3, 6, 4, n_ch=2, init="fwd", solo_init="yes")
    record_as_published("wave_rnn_published", Case(WAVE, wave_rnn, published, {"x": (LONG, 3)}))
