"""The layout in which PyTorch keeps one layer of a recurrent network: the check, written once."""

from jaxtyping import Array

from dualform.errors import require


def check_torch_layout(
    layer: str, gates: int, weight_ih: Array, weight_hh: Array, bias_ih: Array, bias_hh: Array
) -> None:
    """Raise `InputError` unless the arrays are one layer of `torch.nn.<layer>`, whose `gates` lie one below the other."""
    shapes = [tuple(a.shape) for a in (weight_ih, weight_hh, bias_ih, bias_hh)]
    n = shapes[1][1] if len(shapes[1]) == 2 else 0
    rows, times = gates * n, f"{gates} n" if gates > 1 else "n"
    require(
        len(shapes[0]) == 2 and shapes[0][0] == rows and shapes[1] == (rows, n) and shapes[2] == shapes[3] == (rows,),
        f"weight_ih {shapes[0]}, weight_hh {shapes[1]}, bias_ih {shapes[2]} and bias_hh {shapes[3]} are no layer of "
        f"torch.nn.{layer}, which has ({times}, d), ({times}, n), ({times},) and ({times},). Give zeros for absent biases.",
    )
