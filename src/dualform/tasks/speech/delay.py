"""The delay pattern: the codes of a frame one after the other, each level a frame later than the one before it."""

import numpy as np
from jaxtyping import Int

from dualform.errors import require


def delayed(codes: Int[np.ndarray, "frame level"], nothing: int) -> Int[np.ndarray, "step level"]:
    """Step t holds code l of frame t - l; `nothing` where there is no such frame.

    So what a model says at one step of a frame it knows by the levels before: they were said a step sooner.

    **Returns:** (frame + level - 1, level).

    **Raises:** `InputError` where codes are no table of numbers, or hold `nothing`.

    **Source:** Copet et al. 2023 (arXiv 2306.05284), Sec. 2.2.
    """
    codes = np.asarray(codes)
    require(
        codes.ndim == 2 and codes.shape[1] >= 1 and np.issubdtype(codes.dtype, np.integer),
        f"codes are whole numbers, (frame, level); got shape {codes.shape} of {codes.dtype}.",
    )
    require(not (codes == nothing).any(), f"the number {nothing}, which is to stand for nothing, is a code.")
    frames, levels = codes.shape
    found = np.full((frames + levels - 1, levels), nothing, codes.dtype)
    for level in range(levels):
        found[level : level + frames, level] = codes[:, level]
    return found


def undelayed(steps: Int[np.ndarray, "step level"]) -> Int[np.ndarray, "frame level"]:
    """The frames of which every level has been said: step - level + 1 of them, none where there are fewer steps.

    **Raises:** `InputError` where steps are no table of numbers.
    """
    steps = np.asarray(steps)
    require(
        steps.ndim == 2 and steps.shape[1] >= 1 and np.issubdtype(steps.dtype, np.integer),
        f"steps are whole numbers, (step, level); got shape {steps.shape} of {steps.dtype}.",
    )
    frames = max(len(steps) - steps.shape[1] + 1, 0)
    return np.stack([steps[level : level + frames, level] for level in range(steps.shape[1])], axis=1)
