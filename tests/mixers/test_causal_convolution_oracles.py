"""Law 8 for the causal convolution: torch's `conv1d` gives the same, with gradients."""

from dualform.mixers import CausalConvolution
from tests.oracles.held import Held, error

HELD = {
    "causal_convolution": Held(
        "causal_convolution", lambda a: {"y": CausalConvolution(a["kernel"], a["bias"])(a["x"])[0]}, "torch 2.13.0"
    )
}


def test_the_oracle_agrees():
    """Outputs, and the gradients of the input, the kernel and the bias."""
    assert error("causal_convolution", HELD["causal_convolution"]) <= HELD["causal_convolution"].tolerance
