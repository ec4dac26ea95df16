"""Law 8 for RWKV-4: transformers' attention and feed-forward give the same, with gradients."""

import pytest

from dualform.mixers import RWKV4ChannelMixing, RWKV4TimeMixing
from tests.oracles.held import TIERS, Held, error

TRANSFORMERS = "transformers 5.23.0"
SUMS = ("numerator", "denominator", "largest")


def time_mixing(a):
    """transformers' names; a state is the last token, and the sums with the exponent by which they are divided."""
    theirs = {"k": "key", "v": "value", "r": "receptance"}
    mixes = {f"mu_{ours}": a[f"time_mix_{name}"][0, 0] for ours, name in theirs.items()}
    matrices = {f"w_{ours}": a[f"{name}.weight"] for ours, name in theirs.items()}
    rest = {"log_rate": a["time_decay"], "u": a["time_first"], "w_o": a["readout.weight"]}
    mixer = RWKV4TimeMixing(**mixes, **matrices, **rest)
    if "last_0" not in a:
        return {"y": mixer(a["x"])[0]}
    y, (last, sums) = mixer(a["x"], (a["last_0"], tuple(a[f"{name}_0"] for name in SUMS)))
    return {"y": y, "last": last} | dict(zip(SUMS, sums, strict=True))


def channel_mixing(a):
    """transformers' names; a state is the last token."""
    mixer = RWKV4ChannelMixing(
        mu_k=a["time_mix_key"][0, 0],
        mu_r=a["time_mix_receptance"][0, 0],
        w_k=a["key.weight"],
        w_r=a["receptance.weight"],
        w_v=a["value.weight"],
    )
    y, last = mixer(a["x"], a.get("last_0"))
    return {"y": y, "last": last} if "last_0" in a else {"y": y}


HELD = {
    "rwkv4": Held("rwkv4", time_mixing, TRANSFORMERS),
    "rwkv4_extreme": Held("rwkv4", time_mixing, TRANSFORMERS),
    "rwkv4_carried": Held("rwkv4", time_mixing, TRANSFORMERS),
    "rwkv4_channel": Held("rwkv4_channel", channel_mixing, TRANSFORMERS),
    "rwkv4_channel_carried": Held("rwkv4_channel", channel_mixing, TRANSFORMERS),
}


@TIERS
@pytest.mark.parametrize("stem", HELD)
def test_the_oracle_agrees(stem, gradients):
    """Outputs, final states, and the gradients of input, state and every weight are those of the peer."""
    assert error(stem, HELD[stem], gradients) <= HELD[stem].tolerance
