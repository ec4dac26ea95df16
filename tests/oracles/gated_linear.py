"""The oracles of GLA, HGRN2, RetNet, GSA, the delta rules and linear attention: the layers and operators of fla, as they are.

Run by hand, in an environment of its own, when a peer or the shapes change:

    pip install torch==2.13.0 numpy safetensors einops transformers
    pip download --no-deps fla-core==0.6.0 flash-linear-attention==0.6.0   (and unzip both into PEERS)
    python tests/oracles/gated_linear.py PEERS

It writes inputs, weights, outputs, final states and gradients to `tests/oracles/data/*.safetensors`, with versions and seed
as metadata. It shares no code with dualform. fla's kernels want a GPU: its layers' classes are run as they are, on its own
naive operators, with the modules that it has as kernels alone (norms, rotary embedding, short convolution) in plain PyTorch.
What its code calls float32 is float64 here (`Wide`). Where a layer norms over all heads at once, it is run with one; two
heads, each with a norm of its own, are then the paper's equations around fla's operator.
"""

import importlib
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from torch.nn.functional import conv1d, linear, logsigmoid, normalize, pad, silu, softplus
from torch.overrides import TorchFunctionMode

SEED, LONG, SHORT, D, HEADS = 20241003, 37, 7, 8, 2
FOLDER = Path(__file__).parent / "data"
PEERS = Path(sys.argv[1])
torch.set_default_dtype(torch.float64)


class Wide(TorchFunctionMode):
    """Where PyTorch is asked for float32, it gives float64."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Each call of a function of PyTorch."""
        turn = lambda a: torch.float64 if a is torch.float32 else a
        wide: Any = torch.Tensor.double if func is torch.Tensor.float else func
        return wide(*(turn(a) for a in args), **{name: turn(a) for name, a in (kwargs or {}).items()})


def rms(x, weight, eps):
    """x / sqrt(mean(x^2) + eps) * weight."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight


class RMSNorm(torch.nn.Module):
    """fla's `RMSNorm`, and with a gate its `FusedRMSNormGated`."""

    def __init__(self, hidden_size, elementwise_affine=True, eps=1e-5, dtype=None, activation="swish"):
        super().__init__()
        assert elementwise_affine and activation == "swish"
        self.weight, self.bias, self.eps = torch.nn.Parameter(torch.ones(hidden_size)), None, eps

    def forward(self, x, gate=None):
        """The norm of the last axis."""
        return rms(x, self.weight, self.eps) * (1 if gate is None else silu(gate))


def causal_conv1d(x, weight, bias, activation, backend):
    """fla's function of this name: kernels (channels, width), their last column for the token itself."""
    assert bias is None and activation == "silu" and backend == "naive"
    padded = pad(x.transpose(1, 2), (weight.shape[1] - 1, 0))
    return silu(conv1d(padded, weight[:, None], groups=len(weight))).transpose(1, 2), None


class ShortConvolution(torch.nn.Module):
    """fla's `ShortConvolution`: causal, depthwise, then SiLU."""

    def __init__(self, hidden_size, kernel_size, bias, activation):
        super().__init__()
        assert not bias
        self.weight = torch.nn.Parameter(torch.empty(hidden_size, 1, kernel_size))
        self.kernel_size, self.activation, self.backend = (kernel_size,), activation, "naive"

    def forward(self, x, cache=None, output_final_state=False, cu_seqlens=None):
        """The convolved sequence; no tail is asked for."""
        assert cache is None and not output_final_state and cu_seqlens is None
        return causal_conv1d(x, self.weight[:, 0], None, self.activation, self.backend)


class RotaryEmbedding(torch.nn.Module):
    """fla's `RotaryEmbedding`: channel i is turned with channel i + d / 2."""

    def __init__(self, dim):
        super().__init__()
        self.dim = dim

    def forward(self, q, k, seqlen_offset, max_seqlen, cu_seqlens):
        """Queries and keys, (batch, time, head, d), turned by their places."""
        assert seqlen_offset == 0 and cu_seqlens is None
        angle = torch.outer(torch.arange(max_seqlen), 10000.0 ** (-torch.arange(0, self.dim, 2) / self.dim))
        cos, sin = angle.cos()[:, None], angle.sin()[:, None]

        def turned(x):
            a, b = x.chunk(2, dim=-1)
            return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)

        return turned(q), turned(k)


def package(name: str, **members: Any) -> Any:
    """A stand-in for a package, so that a file of it can be loaded without running the package's own import."""
    module: Any = types.ModuleType(name)
    module.__path__ = [str(PEERS.joinpath(*name.split(".")))]
    vars(module).update(members)
    sys.modules[name] = module
    return module


def operator(folder: str) -> Any:
    """The naive operators of one of fla's folders."""
    package(f"fla.ops.{folder}")
    return importlib.import_module(f"fla.ops.{folder}.naive")


package("fla")
package("fla.ops")
gla_op, gsa_op = operator("gla").naive_recurrent_gla, operator("gsa").naive_recurrent_gsa
retention_op, simple_op = operator("retention").naive_retention, operator("simple_gla").naive_recurrent_simple_gla
delta_op = operator("delta_rule").delta_rule_recurrence
gated_delta_op = operator("gated_delta_rule").naive_recurrent_gated_delta_rule
linear_op = operator("linear_attn").naive_recurrent_linear_attn
by_head = lambda *arrays: [a.transpose(1, 2) for a in arrays]
unit = lambda a: a * torch.rsqrt(a.square().sum(-1, keepdim=True) + 1e-6)


def gla_kernel(q, k, v, gk, **_):
    """GLA's kernel."""
    return gla_op(q, k, v, gk)


def gsa_kernel(q, k, v, s, g, scale, **_):
    """GSA's kernel."""
    return gsa_op(q, k, v, s, g, scale=scale)


def retention_kernel(q, k, v, **_):
    """Retention's kernel."""
    return retention_op(*by_head(q, k, v)).transpose(1, 2), None


def delta_kernel(q, k, v, beta, use_qk_l2norm_in_kernel, **_):
    """The delta rule's kernel, which norms queries and keys itself."""
    assert use_qk_l2norm_in_kernel
    return delta_op(*by_head(unit(q), unit(k), v, beta))[0].transpose(1, 2), None


def gated_delta_kernel(q, k, v, g, beta, A_log, dt_bias, allow_neg_eigval, **_):
    """The gated delta rule's kernel, which norms queries and keys, and makes decay and beta, itself."""
    assert not allow_neg_eigval
    return gated_delta_op(unit(q), unit(k), v, beta.sigmoid(), -A_log.exp() * softplus(g + dt_bias))


def kernels(folder: str, kernel: Callable[..., Any], *names: str) -> None:
    """Members of fla.ops.<folder> that layers import, all of them this one."""
    vars(sys.modules[f"fla.ops.{folder}"]).update(dict.fromkeys(names, kernel))


kernels("gla", gla_kernel, "chunk_gla", "fused_chunk_gla", "fused_recurrent_gla")
kernels("gsa", gsa_kernel, "chunk_gsa", "fused_recurrent_gsa")
forms = ("chunk", "fused_chunk", "fused_recurrent", "parallel")
kernels("retention", retention_kernel, *(f"{form}_retention" for form in forms))
kernels("delta_rule", delta_kernel, "chunk_delta_rule", "fused_recurrent_delta_rule")
kernels("gated_delta_rule", gated_delta_kernel, "chunk_gated_delta_rule", "fused_recurrent_gated_delta_rule")
package(
    "fla.layers.utils",
    get_layer_cache=lambda *_, **__: None,
    update_layer_cache=lambda *_, **__: None,
    unpad_hidden_states=lambda hidden_states, *_, **__: (hidden_states, None, None),
    repad_hidden_states=lambda hidden_states, *_, **__: hidden_states,
)
package("fla.layers")
package("fla.modules", FusedRMSNormGated=RMSNorm, RMSNorm=RMSNorm, ShortConvolution=ShortConvolution)
package("fla.modules.activations", ACT2FN={"swish": silu}, swish=silu, elu_p1=None)
package("fla.modules.feature_map", SwishFeatureMap=torch.nn.SiLU, ReLUFeatureMap=None, T2RFeatureMap=None)
normed_linear = lambda x, norm_weight, norm_bias, weight, bias: linear(rms(x, norm_weight, 1e-5), weight)
package("fla.modules.layernorm", rms_norm_linear=normed_linear)
package("fla.modules.convolution", causal_conv1d=causal_conv1d)
package("fla.modules.rotary", RotaryEmbedding=RotaryEmbedding)
package("fla.ops.utils")
package("fla.ops.utils.index", prepare_lens_from_mask=None)
layers = lambda name: importlib.import_module(f"fla.layers.{name}")
hgrn2_layer: Any = layers("hgrn2")


def unscaled(q, k, v, gk, **_):
    """GLA's kernel without its scale: HGRN2 has none in the paper, and its norm hides all of it but for the epsilon."""
    return gla_op(q * q.shape[-1] ** 0.5, k, v, gk)


hgrn2_layer.fused_recurrent_gla = unscaled


def layer(module, **further: str):
    """A layer's class, called with the parameters that are stored, and further inputs by their names."""

    def run(a):
        given = {name: a[name] for name, _ in module.named_parameters()}
        keywords = {name: a[stored] for name, stored in further.items()}
        return {"y": torch.func.functional_call(module, given, (a["x"][None],), keywords)[0][0]}

    return run


def batched(a, *names):
    """Inputs of an operator, with a batch of one."""
    return (a[name][None] for name in names)


def result(o, final=None):
    """What an operator gives, without the batch."""
    return {"o": o[0]} if final is None else {"o": o[0], "final": final[0]}


def gla_operator(a):
    q, k, v, g, h = batched(a, "q", "k", "v", "g", "h_0")
    return result(*gla_op(q, k, v, g, h, output_final_state=True))


def gsa_operator(a):
    q, k, v, s, g = batched(a, "q", "k", "v", "s", "g")
    before = tuple(batched(a, "k_0", "v_0"))
    o, (keys, values) = gsa_op(q, k, v, s, g, initial_state=before, output_final_state=True)
    return {"o": o[0], "keys": keys[0], "values": values[0]}


def scalar_operator(a):
    q, k, v, g, h = batched(a, "q", "k", "v", "g", "h_0")
    return result(*simple_op(q, k, v, g, initial_state=h))


def delta_operator(a):
    q, k, v, beta, h = batched(a, "q", "k", "v", "beta", "h_0")
    o, final = delta_op(*by_head(q, normalize(k, dim=-1), v, beta), initial_state=h)
    return result(o.transpose(1, 2), final)


def gated_delta_operator(a):
    q, k, v, beta, g, h = batched(a, "q", "k", "v", "beta", "g", "h_0")
    return result(*gated_delta_op(q, normalize(k, dim=-1), v, beta, g, initial_state=h, output_final_state=True))


def in_heads(a, *names):
    """W x for each head, (batch, time, head, rows)."""
    return (torch.einsum("td,hrd->thr", a["x"], a[name])[None] for name in names)


def joined(a, o):
    """Heads normed one by one, and joined."""
    return {"y": linear(rms(o[0], a["norm"], 1e-5).flatten(1), a["w_o"])}


def linear_attention(a):
    q, k, v = in_heads(a, "w_q", "w_k", "w_v")
    o, final = linear_op(q, k, v, scale=1.0, initial_state=a["h_0"][None], output_final_state=True)
    return {"y": o[0].flatten(1), "final": final[0]}


def hgrn2_heads(a):
    """Eq. 5 of Qin et al. 2024: f = gamma + (1 - gamma) sigma(W_f x), k = 1 - f."""
    q, f, i = in_heads(a, "w_q", "w_f", "w_v")
    f = a["gamma"] + (1 - a["gamma"]) * f.sigmoid()
    return joined(a, unscaled(silu(q), 1 - f, i, f.log())[0])


def gsa_heads(a):
    """Eq. 9 of Zhang et al. 2024: alpha = sigma(W_f x)^(1/8); q, k and v behind a swish."""
    q, k, v, f = in_heads(a, "w_q", "w_k", "w_v", "w_f")
    g = logsigmoid(f) / 8
    return joined(a, silu(gsa_op(silu(q), silu(k), silu(v), 1 - g.exp(), g, scale=1.0)[0]))


class Case(NamedTuple):
    """What is run: a peer, its module (parameters are drawn for it), tokens, further inputs, scales of what is drawn."""

    run: Callable[[Any], Any]
    module: Any = None
    time: int = LONG
    shapes: dict[str, tuple[int, ...]] = {}
    scales: dict[str, float] = {}


def with_module(module, further: Any = None, **rest):
    """A case of a layer's class."""
    module = module.double()
    return Case(layer(module, **(further or {})), module, **rest)


def operands(time, *more, d_k=3, d_v=4, **shapes):
    """The inputs of an operator: q and k, v, and more with an axis for time and heads."""
    shape = {"q": d_k, "k": d_k, "v": d_v}
    arrays = {name: (time, HEADS, rows) for name, rows in shape.items()}
    arrays |= {name: (time, HEADS) for name in more} | {name: (time, HEADS, *rows) for name, rows in shapes.items()}
    return {"time": time, "shapes": arrays | {"h_0": (HEADS, d_k, d_v)}}


def gla(**rest):
    module = layers("gla").GatedLinearAttention(hidden_size=D, num_heads=HEADS, gate_low_rank_dim=3)
    return with_module(module, **rest)


def hgrn2(**rest):
    module = hgrn2_layer.HGRN2Attention(hidden_size=D, expand_ratio=D, layer_idx=1)
    return with_module(module, {"lower_bound": "gamma"}, shapes={"x": (LONG, D), "gamma": (D,)}, **rest)


def gsa(**rest):
    module = layers("gsa").GatedSlotAttention(hidden_size=D, num_heads=1, num_slots=3, layer_idx=0)
    return with_module(module, **rest)


def delta_rule(**rest):
    return with_module(layers("delta_net").DeltaNet(hidden_size=D, num_heads=HEADS, layer_idx=0), **rest)


def gated_delta_rule(**rest):
    module = layers("gated_deltanet").GatedDeltaNet(D, expand_v=1.5, head_dim=4, num_heads=HEADS, layer_idx=0)
    return with_module(module, **rest)


def retnet(**rest):
    return with_module(layers("multiscale_retention").MultiScaleRetention(hidden_size=D, num_heads=HEADS), **rest)


def heads(**further):
    """Weights of two heads of 3 key and 4 value channels."""
    shapes = {"w_q": (HEADS, 3, D), "w_v": (HEADS, 4, D), "norm": (4,), "w_o": (D, HEADS * 4)}
    return {"shapes": shapes | further}


GSA_STATE = {"k_0": (HEADS, 3, 5), "v_0": (HEADS, 5, 4)}
gsa_operands = operands(SHORT, s=(5,), g=(5,))
gsa_operands["shapes"] = {name: shape for name, shape in (gsa_operands["shapes"] | GSA_STATE).items() if name != "h_0"}
LINEAR = {name: (HEADS, rows, D) for name, rows in {"w_q": 3, "w_k": 3, "w_v": 4}.items()} | {"h_0": (HEADS, 3, 4)}

CASES = {
    "gla": gla(),
    "gla_extreme": gla(scales={"gk_proj.1.weight": 300.0}),
    "gla_operator": Case(gla_operator, **operands(SHORT, g=(3,))),
    "hgrn2": hgrn2(),
    "hgrn2_extreme": hgrn2(scales={"f_proj.weight": 30.0, "gamma": 1e-14}),
    "hgrn2_heads": Case(hgrn2_heads, time=SHORT, **heads(w_f=(HEADS, 3, D), gamma=(HEADS, 3))),
    "retnet": retnet(),
    "retnet_operator": Case(scalar_operator, **operands(SHORT, "g")),
    "delta_rule": delta_rule(),
    "delta_rule_operator": Case(delta_operator, **operands(SHORT, "beta")),
    "gated_delta_rule": gated_delta_rule(),
    "gated_delta_rule_extreme": gated_delta_rule(scales={"a_proj.weight": 20.0, "b_proj.weight": 20.0}),
    "gated_delta_rule_operator": Case(gated_delta_operator, **operands(SHORT, "beta", "g")),
    "gsa": gsa(),
    "gsa_extreme": gsa(scales={"f_proj.weight": 200.0}),
    "gsa_heads": Case(gsa_heads, time=SHORT, **heads(w_k=(HEADS, 3, D), w_f=(HEADS, 5, D))),
    "gsa_operator": Case(gsa_operator, **gsa_operands),
    "linear_attention_fla": Case(linear_attention, time=SHORT, shapes=LINEAR),
}


def drawn(name: str, shape: tuple[int, ...], case: Case, generator: torch.Generator) -> torch.Tensor:
    """Normal weights and tokens; betas and bounds between 0 and 1; log decays near 0, around -1 and below -30."""
    if name in ("beta", "gamma"):
        return case.scales.get(name, 1.0) * torch.rand(*shape, generator=generator)
    if name == "g":
        exponent, far, which = (torch.rand(*shape, generator=generator) for _ in range(3))
        return -torch.where(which < 0.3, 30 + 30 * far, 10 ** (10 * exponent - 9))
    return case.scales.get(name, 1.0) * torch.randn(*shape, generator=generator)


def record(name: str, case: Case) -> None:
    """Store what the peer gives for random inputs and weights, and the gradients of sum(cotangent * output)."""
    generator = torch.Generator().manual_seed(SEED)
    parameters = case.module.named_parameters() if case.module is not None else ()
    shapes = {} if "q" in case.shapes else {"x": (case.time, D)}
    shapes |= {name: tuple(p.shape) for name, p in parameters} | case.shapes
    arguments = {name: drawn(name, shape, case, generator).requires_grad_() for name, shape in shapes.items()}
    with Wide():
        outputs = case.run(arguments)
    cotangents = {name: torch.randn(*value.shape, generator=generator) for name, value in outputs.items()}
    torch.stack([(cotangents[name] * value).sum() for name, value in outputs.items()]).sum().backward()
    tensors: dict[str, Any] = {name: value.detach() for name, value in arguments.items()}
    tensors |= {f"gradient.{name}": value.grad for name, value in arguments.items()}
    tensors |= {f"output.{name}": value.detach() for name, value in outputs.items()}
    tensors |= {f"cotangent.{name}": value for name, value in cotangents.items()}
    metadata = {"peer": "fla-core 0.6.0", "torch": torch.__version__, "seed": str(SEED), "dtype": "float64"}
    assert all(torch.isfinite(value).all() and value.dtype == torch.float64 for value in tensors.values()), name
    save_file({k: v.contiguous() for k, v in tensors.items()}, FOLDER / f"{name}.safetensors", metadata)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, case in CASES.items():
        record(name, case)
