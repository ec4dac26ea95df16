"""The public implementations that `benchmarks.mixers` measures, each beside ours on the same weights and tokens.

A comparison is a dictionary of float32 arrays (tokens, weights, gates) and functions of it, ours and those of peers, that
give y. Peers are loaded by path from a folder where they were unzipped, so that no package's own import (Triton, CUDA)
runs; a peer that is not there raises `ImportError`, and becomes a row that says how to get it. Their scales and their gates
in logarithms are theirs; ours is given the same numbers.
"""

import importlib
import sys
import types
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from tests.mixers.test_diagonal_gates_oracles import core
from tests.mixers.test_selective_oracles import mamba, mamba2

from dualform.mixers import GRU, LSTM, MinGRU, MinLSTM, RWKV4TimeMixing
from dualform.recurrences import delta, diagonal, outer

Arrays = dict[str, Any]
TORCH = "pip install torch==2.13.0 einops"
FLA = f"{TORCH}; pip download --no-deps fla-core==0.6.0, unzipped into --peers"
GEMMA = "pip download --no-deps recurrentgemma==1.0.1, unzipped into --peers"
TRANSFORMERS = "pip install transformers==5.23.0"
PORT = "pip download --no-deps minGRU-pytorch==0.2.1, unzipped into --peers"
SCANS = "pip download --no-deps mingru-scans==0.2.0, unzipped into --peers"
RWKV = "transformers RwkvSelfAttention"
MAMBAPY = "pip download --no-deps mambapy==1.2.0, unzipped into --peers"


class Peer(NamedTuple):
    """A peer: its name, `load` that gives y of the arrays, how it is had, what it runs on.

    `loop`: it writes into its output token by token, so that its gradient copies all of it once for each token: a cost that
    is quadratic in time. Its gradient is measured on an eighth of the tokens, and ours beside it.
    """

    name: str
    load: Callable[[], Callable[[Arrays], Any]]
    how: str
    library: str = "torch"
    loop: bool = False


class Comparison(NamedTuple):
    """One mixer, or its operator: arrays, ours, peers, and how many times ahead ours is to be."""

    mixer: str
    what: str
    arrays: Arrays
    ours: Callable[[Arrays], jax.Array]
    peers: tuple[Peer, ...]
    goal: float = 1.0

    def shortened(self, times: int) -> "Comparison":
        """The same over the first part of the tokens: of "x" alone, or of every array where there is none."""
        names = ("x",) if "x" in self.arrays else tuple(self.arrays)
        short = {name: self.arrays[name][: len(self.arrays[name]) // times] for name in names}
        return self._replace(arrays=self.arrays | short)


def package(folder: Path, name: str) -> None:
    """A stand-in for a package of the folder, so that a file of it can be loaded without running its own import."""
    path = folder.joinpath(*name.split("."))
    if not path.is_dir():
        raise ImportError(f"{name} is not in {folder}")
    module: Any = types.ModuleType(name)
    module.__path__ = [str(path)]
    sys.modules[name] = module


def loader(folder: Path) -> Callable[[str], Any]:
    """Loads `package.sub.module` by path: the packages on the way are stand-ins."""
    if folder.is_dir() and str(folder) not in sys.path:
        sys.path.append(str(folder))

    def load(dotted: str) -> Any:
        parts = dotted.split(".")
        for depth in range(1, len(parts)):
            name = ".".join(parts[:depth])
            if name not in sys.modules:
                package(folder, name)
        return importlib.import_module(dotted)

    return load


def comparisons(folder: Path, time: int, width: int, heads: int) -> Iterator[Comparison]:
    """All of them, one at a time."""
    load = loader(folder)
    draw = Draw(time, width, heads)
    yield from gated_linear(load, draw)
    yield from delta_rules(load, draw)
    yield from diagonal_gates(load, draw)
    yield from selective(draw, load)
    yield from cells(draw)


class Draw:
    """Random arrays in the shapes that the comparisons need."""

    def __init__(self, time: int, width: int, heads: int):
        self.time, self.width, self.heads, self.random = time, width, heads, np.random.default_rng(0)

    def normal(self, *shape: int) -> np.ndarray:
        return self.random.standard_normal(shape, np.float32)

    def per_head(self) -> np.ndarray:
        return self.normal(self.time, self.heads, self.width // self.heads)

    def log_decay(self, *shape: int, root: float = 16) -> np.ndarray:
        """log(sigma(normal)^(1 / root)), as GLA's gates start."""
        return (-np.logaddexp(0, -self.normal(*shape)) / root).astype(np.float32)

    def of(self, module: torch.nn.Module) -> Arrays:
        """Tokens, and weights for every parameter: those it starts with, and small random ones where it has none."""
        tokens = {"x": self.normal(self.time, self.width)}
        weights = {}
        for name, parameter in module.named_parameters():
            value = parameter.detach().numpy().copy()
            broken = not np.isfinite(value).all() or not value.any() or np.abs(value).max() > 1e3
            fan = value.shape[-1] if value.ndim > 1 else 1
            weights[name] = self.normal(*value.shape) / np.float32(fan**0.5) if broken else value
        return tokens | weights


def gated_linear(load, draw: Draw) -> Iterator[Comparison]:
    """The operators with an outer-product state, on the same queries, keys, values and gates."""
    shape = (draw.time, draw.heads, draw.width // draw.heads)
    scale = shape[2] ** -0.5
    three = {name: draw.per_head() for name in "qkv"}
    gates = draw.log_decay(*shape)
    forget = draw.log_decay(*shape, root=1)
    operator = lambda folder, name: getattr(load(f"fla.ops.{folder}.naive"), name)

    def fla(folder: str, name: str, *names: str, **options: Any) -> Peer:
        def ready():
            function = operator(folder, name)

            def run(a):
                found = function(*(a[n][None] for n in names), **options)
                return (found[0] if isinstance(found, tuple) else found)[0]

            return run

        return Peer(f"fla {name}", ready, FLA, loop="recurrent" in name)

    yield Comparison(
        "gla",
        "recurrence",
        three | {"g": gates},
        lambda a: outer(scale * a["q"], a["k"], a["v"], decay=jnp.exp(a["g"]))[0],
        (fla("gla", "naive_recurrent_gla", "q", "k", "v", "g"), missing_jla()),
        goal=3,
    )

    def hgrn2():
        function = operator("gla", "naive_recurrent_gla")
        return lambda a: function(a["q"][None], (1 - a["g"].exp())[None], a["v"][None], a["g"][None])[0][0]

    yield Comparison(
        "hgrn2",
        "recurrence, k = 1 - f",
        {"q": three["q"], "v": three["v"], "g": forget},
        lambda a: outer(scale * a["q"], -jnp.expm1(a["g"]), a["v"], decay=jnp.exp(a["g"]))[0],
        (Peer("fla naive_recurrent_gla", hgrn2, FLA, loop=True),),
        goal=3,
    )
    yield Comparison(
        "linear_attention",
        "recurrence",
        three,
        lambda a: outer(scale * a["q"], a["k"], a["v"])[0],
        (
            fla("linear_attn", "naive_chunk_linear_attn", "q", "k", "v"),
            fla("linear_attn", "naive_recurrent_linear_attn", "q", "k", "v"),
        ),
    )
    yield Comparison(
        "retnet",
        "recurrence with one decay for each head",
        three | {"g": draw.log_decay(*shape[:2])},
        lambda a: outer(scale * a["q"], a["k"], a["v"], decay=jnp.exp(a["g"]))[0],
        (
            fla("simple_gla", "naive_chunk_simple_gla", "q", "k", "v", "g"),
            fla("simple_gla", "naive_recurrent_simple_gla", "q", "k", "v", "g"),
        ),
    )

    def gsa(a):
        alpha, s = jnp.exp(a["g"]), a["s"]
        slots = jax.nn.softmax(outer(scale * a["q"], a["k"], s, value_decay=alpha)[0], axis=-1)
        return outer(slots, s, a["v"], decay=alpha)[0]

    gates = draw.log_decay(*shape, root=8)
    yield Comparison(
        "gsa",
        "both recurrences",
        three | {"s": -np.expm1(gates), "g": gates},
        gsa,
        (fla("gsa", "naive_recurrent_gsa", "q", "k", "v", "s", "g"),),
    )


def missing_jla() -> Peer:
    """jax-linear-attention, which no package registry has."""

    def load():
        raise ImportError("jax-linear-attention")

    return Peer(
        "jax-linear-attention", load, "not measured: on no package registry, its sources could not be had", "jax"
    )


def delta_rules(load, draw: Draw) -> Iterator[Comparison]:
    """The delta rules, on keys of length 1."""
    scale = (draw.width // draw.heads) ** -0.5
    unit = lambda a: a / np.linalg.norm(a, axis=-1, keepdims=True)
    arrays = {"q": unit(draw.per_head()), "k": unit(draw.per_head()), "v": draw.per_head()}
    arrays["beta"] = (1 / (1 + np.exp(-draw.normal(draw.time, draw.heads)))).astype(np.float32)
    by_head = lambda a: a[None].transpose(1, 2)

    def ours(a):
        decay = jnp.exp(a["g"]) if "g" in a else None
        return delta(scale * a["q"], a["k"], a["v"], a["beta"], decay=decay)[0]

    def plain(name):
        def ready():
            function = getattr(load("fla.ops.delta_rule.naive"), name)
            names = ("q", "k", "v", "beta")
            return lambda a: function(*(by_head(a[each]) for each in names))[0][0].transpose(0, 1)

        return Peer(f"fla {name}", ready, FLA, loop="recurrence" in name)

    yield Comparison(
        "delta_rule", "recurrence", arrays, ours, (plain("delta_rule_chunkwise"), plain("delta_rule_recurrence"))
    )

    def gated(name, *order):
        def ready():
            function = getattr(load("fla.ops.gated_delta_rule.naive"), name)
            return lambda a: function(**{n: a[n][None] for n in order})[0][0]

        return Peer(f"fla {name}", ready, FLA, loop="recurrent" in name)

    yield Comparison(
        "gated_delta_rule",
        "recurrence",
        arrays | {"g": draw.log_decay(draw.time, draw.heads)},
        ours,
        tuple(
            gated(name, "q", "k", "v", "beta", "g")
            for name in ("naive_chunk_gated_delta_rule", "naive_recurrent_gated_delta_rule")
        ),
    )


def call(module: torch.nn.Module, a: Arrays, *arguments: Any, **keywords: Any) -> Any:
    """The module, with the parameters of its own that `a` holds, on one sequence; what it gives first."""
    given = {name: a[name] for name, _ in module.named_parameters()}
    found = torch.func.functional_call(module, given, (a["x"][None], *arguments), keywords)
    return (found[0] if isinstance(found, tuple) else found)[0]


def module_peers(
    draw: Draw,
    makers: dict[str, tuple[Callable[[], torch.nn.Module], Callable[..., Any], str]],
    loops: Collection[str] = (),
):
    """Arrays of the first module that can be made, and peers that all run on them; those in `loops` are loops, see `Peer`."""
    arrays, peers = None, []
    for name, (make, run, how) in makers.items():
        try:
            module = make().eval()
            arrays = draw.of(module) if arrays is None else arrays
            peers.append(Peer(name, partial(partial, run, module), how, loop=name in loops))
        except ImportError as error:
            peers.append(Peer(name, partial(_raise, error), how))
    return arrays, tuple(peers)


def _raise(error: Exception) -> Any:
    raise error


def diagonal_gates(load, draw: Draw) -> Iterator[Comparison]:
    """HGRN's operator, the RG-LRU, minGRU and minLSTM."""
    time, width = draw.time, draw.width

    def hgrn():
        function = load("fla.ops.hgrn.naive").naive_recurrent_hgrn
        return lambda a: function(a["v"][None], a["g"][None])[0][0]

    yield Comparison(
        "hgrn",
        "recurrence",
        {"v": draw.normal(time, width), "g": draw.log_decay(time, width, root=1)},
        lambda a: diagonal(jnp.exp(a["g"]), a["v"])[0],
        (Peer("fla naive_recurrent_hgrn", hgrn, FLA, loop=True),),
    )
    yield rg_lru(load, draw)

    port = lambda name: getattr(importlib.import_module(f"minGRU_pytorch.{name}"), name)
    arrays, peers = module_peers(draw, {"minGRU-pytorch": (lambda: port("minGRU")(width), call, PORT)})
    if arrays is not None:

        def scans():
            module = load("mingru.min_gru").MinGRU(width, width, bias=False).eval()
            names = ("linear_h.weight", "linear_z.weight")
            turned = lambda a: dict(zip(names, a["to_hidden_and_gate.weight"].chunk(2), strict=True))
            # It starts from g(0) = 0.5 unless it is given a state; 1e-30 is as good as our 0.
            state = torch.full((1, 1, width), 1e-30)
            return lambda a: call(module, a | turned(a), state)

        def min_gru(a):
            w_h, w_z = jnp.split(a["to_hidden_and_gate.weight"], 2)
            return MinGRU(w_z=w_z, w_h=w_h, candidate="positive")(a["x"])[0]

        peers = (*peers, Peer("mingru-scans MinGRU", scans, SCANS))
        yield Comparison("min_gru_log", "mixer", arrays, min_gru, peers, goal=3)

    arrays, peers = module_peers(draw, {"minGRU-pytorch minLSTM": (lambda: port("minLSTM")(width), call, PORT)})
    if arrays is not None:

        def min_lstm(a):
            w_h, w_f, w_i = jnp.split(a["to_hidden_and_f_i_gate.weight"], 3)
            return MinLSTM(w_f=w_f, w_i=w_i, w_h=w_h, candidate="positive")(a["x"])[0]

        yield Comparison("min_lstm_log", "mixer", arrays, min_lstm, peers)


def rg_lru(load, draw: Draw) -> Comparison:
    """recurrentgemma's layer in PyTorch and in JAX (both of its scans that run on a CPU), and transformers'."""
    time, width, heads = draw.time, draw.width, draw.heads
    block = width // heads
    arrays = {"x": draw.normal(time, width), "a_param": draw.random.uniform(-7, -1, width).astype(np.float32)}
    for gate in ("a_gate", "input_gate"):
        arrays |= {
            f"{gate}.w": draw.normal(heads, block, block) / np.float32(block**0.5),
            f"{gate}.b": draw.normal(heads, block),
        }

    def in_torch():
        module = load("recurrentgemma.torch.layers").RGLRU(width, heads)
        return lambda a: call(module, a, torch.arange(len(a["x"]))[None])

    def in_jax(scan):
        def ready():
            # Its annotations are checked by typeguard, which cannot read jaxtyping's shapes: without the checks.
            checks = sys.modules.get("typeguard")
            unchecked: Any = types.ModuleType("typeguard")
            unchecked.typechecked = lambda function: function
            sys.modules["typeguard"] = unchecked
            try:
                layers, types_of_scan = load("recurrentgemma.jax.layers"), load("recurrentgemma.common").ScanType
            finally:
                sys.modules.pop("typeguard") if checks is None else sys.modules.update(typeguard=checks)
            module = layers.RGLRU(width=width, num_heads=heads, scan_type=getattr(types_of_scan, scan))
            gates = ("a_gate", "input_gate")

            def run(a):
                places = jnp.arange(len(a["x"]), dtype=jnp.int32)[None]
                weights = {gate: {part: a[f"{gate}.{part}"] for part in "wb"} for gate in gates}
                return module.apply({"params": weights | {"a_param": a["a_param"]}}, a["x"][None], places)[0][0]

            return run

        return Peer(f"recurrentgemma JAX, {scan.lower()}", ready, f"{GEMMA}; pip install flax einops", "jax")

    def hugging_face():
        found = importlib.import_module("transformers.models.recurrent_gemma.modeling_recurrent_gemma")
        config = found.RecurrentGemmaConfig(hidden_size=width, lru_width=width, num_attention_heads=heads)
        module = found.RecurrentGemmaRglru(config)
        names = {"input_gate": "input_gate", "recurrent_gate": "a_gate"}

        def run(a):
            module.recurrent_states = None
            turned = {"recurrent_param": a["a_param"]}
            for theirs, ours in names.items():
                turned |= {f"{theirs}_weight": a[f"{ours}.w"], f"{theirs}_bias": a[f"{ours}.b"]}
            return call(module, a | turned, torch.arange(len(a["x"]))[None])

        return run

    peers = (
        in_jax("LINEAR_NATIVE"),
        in_jax("ASSOCIATIVE_NATIVE"),
        Peer("recurrentgemma PyTorch", in_torch, f"{GEMMA}; {TORCH}", loop=True),
        Peer("transformers RG-LRU", hugging_face, TRANSFORMERS, loop=True),
    )
    return Comparison("rg_lru", "mixer", arrays, lambda a: core(a)(a["x"])[0], peers, goal=3)


def selective(draw: Draw, load) -> Iterator[Comparison]:
    """Mamba, Mamba-2 and RWKV-4, whole mixers."""
    width = draw.width
    hub = lambda name: importlib.import_module(f"transformers.models.{name}.modeling_{name}")

    def of_transformers():
        config = hub("mamba").MambaConfig(
            hidden_size=width, state_size=16, expand=2, conv_kernel=4, time_step_rank=-(-width // 16)
        )
        return hub("mamba").MambaMixer(config, 0)

    def of_mambapy():
        block = importlib.import_module("mambapy.mamba")
        return block.MambaBlock(block.MambaConfig(d_model=width, n_layers=1))

    makers = {
        "mambapy (parallel scan)": (of_mambapy, call, MAMBAPY),
        "transformers MambaMixer": (of_transformers, call, TRANSFORMERS),
    }
    arrays, peers = module_peers(draw, makers, loops=makers)
    if arrays is not None:
        yield Comparison("mamba", "mixer", arrays, lambda a: mamba(a)["y"], peers, goal=3)

    def of_transformers_2():
        config = hub("mamba2").Mamba2Config(
            hidden_size=width,
            state_size=64,
            expand=2,
            conv_kernel=4,
            num_heads=2 * draw.heads,
            head_dim=width // draw.heads,
            n_groups=2,
            chunk_size=64,
        )
        return hub("mamba2").Mamba2Mixer(config, 0)

    arrays, peers = module_peers(draw, {"transformers Mamba2Mixer": (of_transformers_2, call, TRANSFORMERS)})
    if arrays is not None:
        yield Comparison("mamba2", "mixer", arrays, lambda a: mamba2(a)["y"], peers)

    def of_rwkv():
        config = hub("rwkv").RwkvConfig(hidden_size=width, attention_hidden_size=width, num_hidden_layers=1)
        return hub("rwkv").RwkvSelfAttention(config)

    arrays, peers = module_peers(draw, {RWKV: (of_rwkv, call, TRANSFORMERS)}, loops=(RWKV,))
    if arrays is not None:
        mixes = [f"time_mix_{part}" for part in ("key", "value", "receptance")]
        arrays |= {name: draw.random.random(arrays[name].shape, np.float32) for name in mixes}
        arrays |= {"time_decay": draw.normal(width), "time_first": draw.normal(width)}

        def rwkv4(a):
            mu_k, mu_v, mu_r = (a[name].reshape(-1) for name in mixes)
            w_k, w_v, w_r, w_o = (a[f"{name}.weight"] for name in ("key", "value", "receptance", "output"))
            mixer = RWKV4TimeMixing(
                mu_k=mu_k,
                mu_v=mu_v,
                mu_r=mu_r,
                w_k=w_k,
                w_v=w_v,
                w_r=w_r,
                log_rate=a["time_decay"],
                u=a["time_first"],
                w_o=w_o,
            )
            return mixer(a["x"])[0]

        yield Comparison("rwkv4", "mixer", arrays, rwkv4, peers)


def cells(draw: Draw) -> Iterator[Comparison]:
    """torch's own LSTM and GRU."""
    for name, module, ours in (("lstm", torch.nn.LSTM, LSTM), ("gru", torch.nn.GRU, GRU)):
        make = partial(module, draw.width, draw.width, batch_first=True)
        arrays, peers = module_peers(draw, {f"torch.nn.{module.__name__}": (make, call, TORCH)})
        names = [f"{kind}_l0" for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        assert arrays is not None
        run = lambda a, ours=ours, names=names: ours.from_torch(*(a[each] for each in names))(a["x"])[0]
        yield Comparison(name, "mixer", arrays, run, peers)
