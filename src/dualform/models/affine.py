"""An affine map whose bias may be left out: its check."""

from jaxtyping import Array

from dualform.errors import require


def check_affine(name: str, w: Array, b: Array | None, rows: int, columns: int) -> None:
    """Raise `InputError` unless `w_<name>` is (rows, columns), and `b_<name>` (rows,) or None."""
    require(w.shape == (rows, columns), f"w_{name} has shape {w.shape}; it must be {(rows, columns)}.")
    require(
        b is None or b.shape == (rows,),
        f"b_{name} has shape {None if b is None else b.shape}; it must be ({rows},), or None.",
    )
