"""Published language models by name."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from jaxtyping import Array

from dualform.errors import require
from dualform.models.griffin_models import griffin
from dualform.models.language_model import LanguageModel
from dualform.models.linear_models import delta_net, gated_delta_net, gla, gsa, hgrn, hgrn2, retnet
from dualform.models.llama_models import llama
from dualform.models.mamba_models import mamba, mamba2
from dualform.models.minimal_models import min_rnn
from dualform.models.rwkv4_models import rwkv4


class Preset(NamedTuple):
    """A published model.

    - make: (key=..., dtype=...) -> `LanguageModel`.
    - published: how many parameters the public code counts.
    - source: whose sizes these are.
    """

    make: Callable[..., LanguageModel]
    published: int
    source: str


_FLA = "flash-linear-attention 0.6.0"
_GEMMA = "recurrentgemma 1.0.1"

_PRESETS: dict[str, Preset] = {
    "gla-340m": Preset(partial(gla, d=1024), 374_475_776, _FLA),
    "gla-1.3b": Preset(gla, 1_365_514_240, _FLA),
    "hgrn-1.3b": Preset(hgrn, 1_364_396_032, _FLA),
    "hgrn2-1.3b": Preset(hgrn2, 1_364_396_032, _FLA),
    "retnet-1.3b": Preset(retnet, 1_351_727_104, _FLA),
    "deltanet-1.3b": Preset(delta_net, 1_365_677_056, _FLA),
    "gated-deltanet-1.3b": Preset(gated_delta_net, 1_387_348_732, _FLA),
    "gsa-1.3b": Preset(gsa, 1_376_929_792, _FLA),
    "recurrentgemma-2b": Preset(griffin, 2_682_862_080, _GEMMA),
    "recurrentgemma-9b": Preset(partial(griffin, d=4096, layers=38, heads=16), 8_579_977_216, _GEMMA),
    "griffin-7b": Preset(
        partial(griffin, d=4096, n=5632, layers=32, heads=32, window=1024, scaled=False, softcap=None),
        7_795_144_704,
        _GEMMA,
    ),
    "hawk-7b": Preset(
        partial(griffin, d=4096, n=5632, layers=32, heads=32, attention_every=None, scaled=False, softcap=None),
        8_161_562_624,
        _GEMMA,
    ),
    "mamba-130m": Preset(mamba, 129_135_360, "state-spaces/mamba-130m"),
    "mamba2-130m": Preset(mamba2, 128_989_632, "state-spaces/mamba2-130m"),
    "rwkv-4-169m": Preset(rwkv4, 169_342_464, "BlinkDL/rwkv-4-pile-169m"),
    "smollm2-135m": Preset(llama, 134_515_008, "HuggingFaceTB/SmolLM2-135M"),
    "mingru-enwik8": Preset(min_rnn, 19_944_960, "minGRU-pytorch 0.2.1"),
    "minlstm-enwik8": Preset(partial(min_rnn, cell="lstm"), 22_304_256, "minGRU-pytorch 0.2.1"),
}


def published() -> dict[str, Preset]:
    """Every published model by name."""
    return dict(_PRESETS)


def preset(name: str, *, key: Array, dtype=None) -> LanguageModel:
    """The published model of that name, with fresh weights.

    **Raises:** `InputError` where there is none.
    """
    require(name in _PRESETS, f"there is no preset {name!r}; there are {', '.join(_PRESETS)}.")
    return _PRESETS[name].make(key=key, dtype=dtype)
