"""Published checkpoints: one file for each architecture, from the names and shapes that a library gives its tensors to ours."""

from types import ModuleType

from dualform.models.layouts import gla, gsa, hgrn2, llama, mamba, mamba2, recurrent_gemma, rwkv4, torch_rnn

LAYOUTS: tuple[ModuleType, ...] = (mamba, mamba2, rwkv4, recurrent_gemma, gla, hgrn2, gsa, llama, torch_rnn)
"""Each has KIND, MODEL_TYPES, recognised(names) and build(tensors, config)."""

__all__ = ["LAYOUTS"]
