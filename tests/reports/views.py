"""Attention views to test with: random signed maps, and tokens that try to get out of the page."""

import numpy as np

from dualform.reports.attention_page import AttentionView, KeptView, LayerView

HOSTILE = (
    "</script><script>window.broken=1</script>",
    "<img src=x onerror=window.broken=1>",
    "<!--<script>",
    "\"'`&amp;&lt;",
    "\u2028\u2029",
    "\u202ereversed\u200f",
    "\u0000\u0007\ud800",
    "\n",
    " ",
    "",
    "]]>{{7*7}}</title>",
)


def maps(heads: int, time: int, seed: int = 0, causal: bool = True) -> np.ndarray:
    """Random signed maps, with entries from 1e-6 to about 3."""
    random = np.random.default_rng(seed)
    made = random.standard_normal((heads, time, time)) * 10.0 ** random.uniform(-6, 0, (heads, time, time))
    return (np.tril(made) if causal else made).astype(np.float32)


def view(tokens=tuple("abcdefgh"), heads=(2, 1), causal: bool = True, **changed) -> AttentionView:
    """A view with one layer for each number of heads."""
    layers = tuple(
        LayerView(
            f"block {i + 1}",
            "linear given its gates" if i % 2 == 0 else "frozen nonlinearity",
            3e-16 * (i + 1),
            maps(h, len(tokens), i, causal),
            tuple(f"head {k + 1}" for k in range(h)),
            ("convolved tokens" if i else "tokens",) * h,
            tuple(2e-16 * (k + 1) for k in range(h)),
        )
        for i, h in enumerate(heads)
    )
    given = {"title": "A test", "residual": 2.5e-16, "method": "contributions", "target": "token", **changed}
    return AttentionView(tokens=tuple(tokens), layers=layers, **given)


def kept(time: int, heads: int = 3) -> KeptView:
    """Block 1 keeps the first and the two newest tokens, the same in all heads; block 2 what chance says, head by head."""
    tokens = np.arange(time)
    window = np.minimum(tokens + 2, time)
    window[0] = time
    random = np.random.default_rng(0).integers(tokens, time + 1, (heads, time))
    kinds = (("first token", 1, 1.0, 1.0, 8.0), ("other word", time - 1, 0.25, float("nan"), 2.5))
    return KeptView("tova, 3 states", ("block 1", "block 2"), np.stack([np.stack([window] * heads), random]), kinds)
