"""Published checkpoints: one file for each architecture, from the names and shapes that a library gives its tensors to ours."""

from collections.abc import Collection
from types import ModuleType
from typing import Any

from dualform.checkpoints.layouts import gla, gsa, hgrn2, llama, mamba, mamba2, recurrent_gemma, rwkv4, torch_rnn
from dualform.checkpoints.layouts.config import Config
from dualform.errors import FileError

LAYOUTS: tuple[ModuleType, ...] = (mamba, mamba2, rwkv4, recurrent_gemma, gla, hgrn2, gsa, llama, torch_rnn)
"""Each has KIND, FORMS, recognised(names) and build(tensors, config)."""

_PREFIXES = ("model.", "backbone.", "rwkv.")

__all__ = ["LAYOUTS", "layout_of"]


def layout_of(fields: dict[str, Any] | None, names: Collection[str], where: str) -> tuple[ModuleType, Config]:
    """The layout of a checkpoint, and what its config says: by model_type, else by architectures, else by the authors' keys.

    Where several libraries write one model_type, it is the one that knows the most of the file's keys. The names of tensors
    tell nothing for sure, but of torch's own networks: several architectures have the same.

    **Arguments:** fields: of the config.json, None where there is none; names: of the tensors; where: what messages call it.

    **Raises:** `FileError` where no layout is it, or the config says what that layout does not know.
    """
    kinds = ", ".join(layout.KIND for layout in LAYOUTS)
    every = [(layout, form) for layout in LAYOUTS for form in layout.FORMS]
    told = (fields or {}).get("model_type")
    classes = (fields or {}).get("architectures")
    bare = [name.removeprefix(next((p for p in _PREFIXES if name.startswith(p)), "")) for name in names]
    if told is not None:
        if not isinstance(told, str):
            raise FileError(f"{where} says model_type {told!r}; what can be read here needs a string. Copy it again.")
        found = [(layout, form) for layout, form in every if form.model_type == told]
        if not found:
            raise FileError(f"{where} says model_type {told!r}, which cannot be read here; {kinds} can.")
    elif classes:
        listed = {str(each).lower() for each in classes} if isinstance(classes, list) else {str(classes).lower()}
        found = [(layout, form) for layout, form in every if listed <= {name.lower() for name in form.classes}]
        if not found:
            raise FileError(f"{where} says architectures {sorted(listed)}, which cannot be read here; {kinds} can.")
    elif torch_rnn.recognised(names):
        found = [(torch_rnn, form) for form in torch_rnn.FORMS]
    else:
        found = [(layout, form) for layout, form in every if form.model_type is None and "d_model" in (fields or {})]
        if not found:
            raise _untold(fields, bare, names, where, kinds)
    layout, form = min(found, key=lambda each: each[1].strange(fields or {}))
    return layout, Config(fields or {}, where, form, layout.KIND)


def _untold(
    fields: dict[str, Any] | None, bare: Collection[str], names: Collection[str], where: str, kinds: str
) -> FileError:
    """What a person reads where nothing says what the checkpoint is."""
    lacks = "there is no config.json beside it" if fields is None else "its config.json says no model_type"
    alike = [layout.KIND for layout in LAYOUTS if layout.recognised(bare)]
    if alike:
        return FileError(
            f"{where} has tensors named as those of a {alike[0]}, and {lacks}. Other architectures have the same names, and no "
            "shape tells epsilons, windows, groups or feature maps. Keep the checkpoint's own config.json beside it."
        )
    first = ", ".join(sorted(names)[:3]) or "none"
    return FileError(
        f"{where} holds tensors of no architecture that is known here (the first are {first}), and {lacks}. {kinds} can be read."
    )
