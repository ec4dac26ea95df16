"""Which keys TOVA's own code keeps, token by token and of a prompt at once, on random attention: decisions alone are stored.

    git clone https://github.com/schwartz-lab-NLP/TOVA
    pip install torch==2.13.0
    python -m tests.oracles.tova TOVA/src/tova_cache.py

Its `TOVACache.reduce` is run as it is, on attention weights that PyTorch gives in float64, without rotation. The class that it is
built on has changed in later versions of transformers: what `reduce` needs of it are two lists, which stand in for it.
"""

import importlib.util
import sys
import types
from pathlib import Path

import numpy as np
import torch

from dualform.tensor_file import write_tensors

PLACE = Path(__file__).parent / "data" / "generation" / "tova.safetensors"
CASES, TIME, STATES, HEADS, KV_HEADS, D_K, D = 4, 40, 8, 4, 2, 4, 8


class Lists:
    """The keys and values of each layer."""

    def __init__(self) -> None:
        self.key_cache: list[torch.Tensor] = []
        self.value_cache: list[torch.Tensor] = []


def official(path: str) -> type:
    """The class in that file."""
    stub = types.ModuleType("transformers.cache_utils")
    setattr(stub, "DynamicCache", Lists)  # noqa: B010 - a module has no such field for the type checker
    sys.modules["transformers"], sys.modules["transformers.cache_utils"] = types.ModuleType("transformers"), stub
    spec = importlib.util.spec_from_file_location("tova_cache", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.TOVACache


def weights(q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """(1, head, query, key) for q (head, query, d_k), k (kv_head, key, d_k); the last query is the newest key's."""
    k = k.repeat_interleave(HEADS // KV_HEADS, 0)
    scores = q @ k.transpose(1, 2) / D_K**0.5
    behind = torch.ones(scores.shape[1:], dtype=torch.bool).tril(scores.shape[2] - scores.shape[1])
    return scores.masked_fill(~behind, -torch.inf).softmax(-1)[None]


def decisions(cache_class: type, q: torch.Tensor, k: torch.Tensor, first: int) -> list[list[int]]:
    """The places that are kept after the first `first` tokens, read at once, and after each token from then on."""
    cache, kept = cache_class(STATES), []
    place = torch.arange(TIME, dtype=torch.float64)[None, None, :, None].expand(1, KV_HEADS, TIME, D_K)
    cache.key_cache, cache.value_cache = [k[None, :, :first]], [place[:, :, :first]]
    for t in range(first, TIME + 1):
        new = slice(0, first) if t == first else slice(t - 1, t)
        if t > first:
            cache.key_cache[0] = torch.cat([cache.key_cache[0], k[None, :, new]], 2)
            cache.value_cache[0] = torch.cat([cache.value_cache[0], place[:, :, new]], 2)
        cache.reduce(0, weights(q[:, new], cache.key_cache[0][0]))
        assert (cache.value_cache[0] == cache.value_cache[0][:, :1]).all()  # one decision for the layer
        held = cache.value_cache[0][0, 0, :, 0].long().tolist()
        kept.append(held + [-1] * (STATES - len(held)))
    return kept


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    cache_class, rng = official(sys.argv[1]), np.random.default_rng(0)
    arrays = {
        "x": rng.normal(size=(CASES, TIME, D)),
        "w_q": 3 * rng.normal(size=(CASES, HEADS, D_K, D)) / D**0.5,
        "w_k": rng.normal(size=(CASES, KV_HEADS, D_K, D)) / D**0.5,
    }
    tensors = {name: torch.tensor(a) for name, a in arrays.items()}
    token_by_token, at_once = [], []
    for x, w_q, w_k in zip(tensors["x"], tensors["w_q"], tensors["w_k"], strict=True):
        q, k = torch.einsum("td,hkd->htk", x, w_q), torch.einsum("td,hkd->htk", x, w_k)
        token_by_token.append(decisions(cache_class, q, k, 1))
        at_once.append(decisions(cache_class, q, k, TIME // 2))
    kept = {"token_by_token": token_by_token, "at_once": at_once}
    made_by = {"peer": "TOVA, src/tova_cache.py", "torch": torch.__version__, "seed": "0"}
    write_tensors(PLACE, arrays | {name: np.array(a, np.int32) for name, a in kept.items()}, made_by)
    print({name: np.array(a).shape for name, a in kept.items()})


if __name__ == "__main__":
    main()
