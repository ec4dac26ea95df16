"""What a model does to each token by itself: norms, MLPs, matrices."""

from dualform.layer import Layer
from dualform.maps import NONLINEAR
from dualform.maps.frozen import Kind


class AbstractTokenwise(Layer):
    """A layer that looks at one token at a time, (time, d_in) -> (time, d_out), and remembers nothing.

    It is called as every layer is, and gives (y, ()).
    """

    @property
    def tokenwise(self) -> bool:
        """True."""
        return True

    @property
    def kind(self) -> Kind:
        """A nonlinearity is frozen; a layer that is linear says so."""
        return NONLINEAR
