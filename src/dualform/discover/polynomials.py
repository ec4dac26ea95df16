"""The polynomial of one step from nothing: y as a function of x_1, in every monomial, from the weights alone.

From h = 0, one token gives y = D g_out(g_in(x)), a polynomial of degree 4 in x; attention gives a cubic. Comparing them
coefficient by coefficient takes no samples. It proves how the first output depends on the first token; it says nothing
of the decays, since nothing has been remembered yet.
"""

import itertools

import numpy as np
from jaxtyping import Float, Int

from dualform.discover.forms import input_forms, output_kernels, symmetric_part
from dualform.errors import require
from dualform.mixers import GatedRNN, LinearAttention, SideGatedRNN
from dualform.mixers.circuits import circuits

DEGREE = 4


def monomials(d: int) -> Int[np.ndarray, "monomial d"]:
    """The exponents of every monomial of degree 0 to 4 in d variables, by degree: (d + 4)! / (d! 4!), 70 at d = 4."""
    return np.array(
        [
            [chosen.count(i) for i in range(d)]
            for degree in range(DEGREE + 1)
            for chosen in itertools.combinations_with_replacement(range(d), degree)
        ],
        dtype=int,
    )


def monomial_names(d: int) -> tuple[str, ...]:
    """The monomials in words, in the order of `monomials`: 1, x1, ..., x1^2 x3, ..."""
    power = lambda i, e: f"x{i + 1}" + (f"^{e}" if e > 1 else "")
    return tuple(" ".join(power(i, e) for i, e in enumerate(row) if e) or "1" for row in monomials(d).tolist())


def polynomial(mixer: GatedRNN | SideGatedRNN | LinearAttention) -> Float[np.ndarray, "d_out monomial"]:
    """The coefficients of y = mixer([x]) from the empty state, in the order of `monomials`, in float64."""
    if isinstance(mixer, GatedRNN):
        forms, kernels = input_forms(mixer), output_kernels(mixer)
        quartic = np.einsum("oij,iab,jcd->oabcd", kernels, forms, forms, optimize=True)
        return _collected(quartic)
    if isinstance(mixer, SideGatedRNN):
        left, right, side, readout = (
            np.asarray(w).astype(np.float64) for w in (mixer.w_m_in, mixer.w_x_in, mixer.w_side, mixer.readout)
        )
        cubic = np.einsum("on,nij,nl->oijl", readout, symmetric_part(left, right), side, optimize=True)
    else:
        cubic = np.einsum("hoi,hjl->oijl", *circuits(mixer), optimize=True)
    return _collected(np.pad(cubic[..., None], [(0, 0), (0, 1), (0, 1), (0, 1), (cubic.shape[-1], 0)]))


def _collected(quartic: Float[np.ndarray, "d_out k k k k"]) -> Float[np.ndarray, "d_out monomial"]:
    """The coefficients of sum_abcd quartic[o, a, b, c, d] z_a z_b z_c z_d in x, z = (x, 1)."""
    d = quartic.shape[-1] - 1
    listed = monomials(d)
    place = {tuple(row): index for index, row in enumerate(listed.tolist())}
    unit = np.eye(d + 1, d, dtype=int)
    grid = np.indices((d + 1,) * DEGREE).reshape(DEGREE, -1)
    target = np.array([place[tuple(row)] for row in unit[grid].sum(0).tolist()])
    coefficients = np.zeros((len(listed), len(quartic)))
    np.add.at(coefficients, target, quartic.reshape(len(quartic), -1).T)
    return coefficients.T


def evaluate_polynomial(
    coefficients: Float[np.ndarray, "d_out monomial"], x: Float[np.ndarray, "point d"]
) -> Float[np.ndarray, "point d_out"]:
    """The polynomials' values at each point."""
    return np.prod(x[:, None] ** monomials(x.shape[1])[None], axis=-1) @ coefficients.T


def polynomial_distance(rnn: GatedRNN | SideGatedRNN, attention: LinearAttention) -> float:
    """||p - q|| / ||q|| over the coefficients, the mean over outputs; ||p|| where the attention's q is 0.

    **Raises:** `InputError` where the two differ in width.

    **Source:** Table 1 of Zucchet et al. 2023.
    """
    widths = lambda mixer: (mixer.d_in, len(mixer.readout) if not isinstance(mixer, LinearAttention) else mixer.d_out)
    require(
        widths(rnn) == widths(attention),
        f"the RNN maps width {widths(rnn)[0]} to {widths(rnn)[1]}, the attention {widths(attention)[0]} to "
        f"{widths(attention)[1]}; only equal widths can be compared.",
    )
    p, q = polynomial(rnn), polynomial(attention)
    size = np.linalg.norm(q, axis=1)
    return float(np.mean(np.linalg.norm(p - q, axis=1) / np.where(size == 0, 1.0, size)))
