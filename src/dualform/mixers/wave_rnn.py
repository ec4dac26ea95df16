"""The wave RNN: a recurrent network whose units lie on a ring, on which activity travels."""

import functools
from dataclasses import KW_ONLY
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float

from dualform.arrays import State, accumulator, affine, project
from dualform.compiled import compiled
from dualform.errors import require
from dualform.maps import Frozen, Memory, Pointwise, Written
from dualform.mixers.declared import array
from dualform.mixers.fresh import uniform_affine
from dualform.mixers.mixer import AbstractMixer
from dualform.mixers.registration import register
from dualform.recurrences.cells import cell
from dualform.segments import Segments


@register("wave_rnn")
class WaveRNN(AbstractMixer):
    """h_t = ReLU(u * h_{t-1} + V x_t + b),  y_t = W_o h_t + b_o; h is a ring of n units for each of c channels.

    u * h is a convolution around the ring, with a kernel that mixes the channels:
    (u * h)[o, i] = sum_c sum_j u[o, c, j] h[c, i + j - width // 2 (mod n)].

    The dual form freezes which units are open (the ReLU's argument above 0): a linear recurrence is left. The biases are
    bias, whatever token lets them pass.

    **Arguments:** u (c, c, width), its width odd and at most n; v (c, n, d); b (c, n); w_o (d_out, c n), channel by channel;
    b_o (d_out,).

    **Raises:** `InputError` where the shapes do not fit.

    **Source:** Keller et al. 2023 (arXiv 2309.08045), Sec. 2. The public code adds a bias for each channel to that of each
    unit: b is their sum. Oracle: Wave_RNNs' `copy/conv_rnn_model.py`, which reads out every step.
    """

    _: KW_ONLY
    u: Float[Array, "c c width"] = eqx.field(converter=array)
    v: Float[Array, "c n d"] = eqx.field(converter=array)
    b: Float[Array, "c n"] = eqx.field(converter=array)
    w_o: Float[Array, "d_out c*n"] = eqx.field(converter=array)
    b_o: Float[Array, " d_out"] = eqx.field(converter=array)
    linear_given_gates: ClassVar[bool] = False
    weight_decayed = ("u", "v", "w_o")

    def __check_init__(self):
        check_kernel(*self.dims("width n"))

    @classmethod
    def make(
        cls, d: int, *, key: Array, n: int = 6, channels: int = 2, width: int = 3, noise: float = 1e-3, dtype=None
    ) -> "WaveRNN":
        """As published, but for noise: u shifts each channel by one unit, b is 0, and V is 0 but for 1 into each unit 0.

        With V as published, noise = 0, a token whose entries add up to less than 0 closes every unit 0, writes nothing, and
        passes no gradient; noise * (standard normal) is added to V so that each token is read. 0.001 is the spread that the
        public code gives the whole of V where it does not start it as published. The paper says b = 0; its code
        leaves the channels' part of b at PyTorch's uniform start, which here is at 0, too. The readout is PyTorch's own.

        **Raises:** `InputError` for a kernel of even width, or wider than the ring.
        """
        dtype, keys = dtype or float, jr.split(key)
        check_kernel(width, n)
        # The unit after this one, so that a wave runs towards lower numbers; in a kernel of one tap, the unit itself.
        shift = jnp.eye(width, dtype=dtype)[min(width // 2 + 1, width - 1)]
        v = (noise * jr.normal(keys[0], (channels, n, d))).at[:, 0].add(1.0)
        w_o, b_o = uniform_affine(keys[1], d, channels * n, dtype)
        u = jnp.eye(channels, dtype=dtype)[:, :, None] * shift[None, None]
        return cls(u=u, v=v.astype(dtype), b=jnp.zeros((channels, n), dtype), w_o=w_o, b_o=b_o)

    def init_state(self):
        """h = 0, (n, c): units first, so that the kernel is one product over taps and channels."""
        return jnp.zeros(self.b.shape[::-1], accumulator(self.u.dtype))

    def convolve(self, h):
        """u * h, (n, c)."""
        return _convolved(self.u, h).astype(h.dtype)

    def read(self, h):
        """W_o h + b_o for each token."""
        c, n = self.b.shape
        w_o = self.w_o.reshape(-1, c, n).swapaxes(1, 2).reshape(-1, c * n)
        return affine(h.reshape(len(h), -1), w_o, self.b_o)

    def run(self, x, state, start, mask):
        """Outputs, which units are open, (time, n, c), and the last h.

        A step drives and reads, so that no (time, n, c) is written but what is open: it is far larger than x.
        """
        wide = accumulator(x.dtype, self.v.dtype)

        def step(h, x_t):
            a = self.convolve(h) + self.driven(x_t[None])[0].astype(wide) + self.b.T.astype(wide)
            h = jax.nn.relu(a)
            return h, (self.read(h[None])[0], a > 0)

        return cell(step, x, state.astype(wide), start=start, mask=mask)

    def driven(self, x):
        """V x_t, (time, n, c)."""
        return project(x, self.v.swapaxes(0, 1).reshape(-1, self.d_in)).reshape(len(x), *self.b.shape[::-1])

    def at(self, x, state, segments):
        """h = relu(a), read out; frozen, a unit is open where a was above 0, and shut elsewhere."""
        (y, open), after = self.run(x, state, **segments.flags)
        map = Pointwise(self.read) @ Opened(self, open, state, segments) @ Written(self.driven, x)
        return Frozen(y, after, map)


@functools.partial(
    jax.checkpoint, prevent_cse=False
)  # kept for the gradient is h, not its neighbours, width times as many
def _convolved(u: Float[Array, "c c width"], h: Float[Array, "n c"]) -> Float[Array, "n c"]:
    """u * h, as one product over taps and channels."""
    width = u.shape[2]
    near = jnp.concatenate([jnp.roll(h, width // 2 - j, axis=0) for j in range(width)], axis=1)
    return project(near, u.swapaxes(1, 2).reshape(len(u), -1))


class Opened(Memory):
    """h_t = u * h_{t-1} + v_t + b where a unit is open, else 0: `WaveRNN`'s, open (time, n, c), state (n, c)."""

    mixer: WaveRNN
    open: Bool[Array, "time n c"]
    state: Float[Array, "n c"]
    segments: Segments

    @compiled
    def run(self, v: Float[Array, "time n c"]) -> tuple[Float[Array, "time n c"], State]:
        """h at each token, and the last."""
        b = self.mixer.b.T.astype(v.dtype)

        def step(h, inputs):
            open_t, v_t = inputs
            h = jnp.where(open_t, self.mixer.convolve(h) + v_t + b, jnp.zeros_like(h))
            return h, h

        return cell(step, (self.open, v), self.state.astype(v.dtype), **self.segments.flags)


def check_kernel(width: int, n: int) -> None:
    """Raise `InputError` unless the kernel's width is odd and fits the ring."""
    require(
        width % 2 == 1 and width <= n,
        f"u is {width} units wide; its width must be odd, and no more than the {n} units of the ring.",
    )
