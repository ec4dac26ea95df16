"""Logits of SmolLM2-135M-Instruct by transformers, with the weights as they are dequantised here: numbers alone are stored.

pip install torch==2.13.0 transformers==5.23.0
dualform models get smollm2
python -m tests.oracles.smollm2
"""

from pathlib import Path

import numpy as np
from benchmarks.llama_peer import transformers_llama

from dualform import checkpoints
from dualform.tensor_file import write_tensors

PLACE = Path(__file__).parent / "data" / "generation" / "smollm2.safetensors"
TEXT = "Call me Ishmael. Some years ago\u2014never mind how long precisely, 1851\u2014having little or no money in my purse"


def main() -> None:
    loaded = checkpoints.load("smollm2")
    found = transformers_llama(loaded.model)
    if found is None:
        raise SystemExit("torch and transformers are needed; see the first lines of this file.")
    torch, hub = found
    tokens = np.asarray(loaded.encode(TEXT), np.int32)
    columns = np.sort(np.random.default_rng(0).choice(loaded.model.vocabulary, 64, replace=False)).astype(np.int32)
    with torch.inference_mode():
        logits = hub(torch.tensor(tokens[None].astype(np.int64))).logits[0].numpy()
    write_tensors(PLACE, {"tokens": tokens, "columns": columns, "logits": logits[:, columns]})
    print(f"{PLACE.name}: {len(tokens)} tokens, {len(columns)} columns, logits up to {np.abs(logits).max():.1f}")


if __name__ == "__main__":
    main()
