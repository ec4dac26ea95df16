"""In-context linear regression as a task: `InContextRegression`'s sequences, one at a time, in splits that share none."""

from jaxtyping import Array

from dualform.tasks.in_context import InContextRegression
from dualform.tasks.registration import register
from dualform.tasks.scores import of_numbers
from dualform.tasks.task import DrawnTask, setting


@register("in-context-regression")
class RegressionInContext(DrawnTask):
    """`time` pairs (x, W x + noise) of a W of the sequence's own, then a query (x, 0), whose W x is the target.

    The loss is the mean squared error, twice the paper's.

    **Raises:** `InputError` as `InContextRegression` does.

    **Source:** Zucchet et al. 2023 (arXiv 2309.01775), App. C.1: 12 pairs, x and y of width 3.
    """

    time: int = setting(default=12)
    d_x: int = setting(default=3)
    d_y: int = setting(default=3)
    noise: float = setting(default=0.0)
    judge = staticmethod(of_numbers)
    source = "Zucchet et al. 2023 (arXiv 2309.01775)"
    pool = "last"

    def __check_init__(self):
        _ = self.sampler  # which raises for what is out of range

    @property
    def sampler(self) -> InContextRegression:
        """Of one sequence; it also knows the exact loss of one step of gradient descent."""
        return InContextRegression(pairs=self.time, d_x=self.d_x, d_y=self.d_y, noise=self.noise, batch=1)

    @property
    def d_in(self) -> int:
        """Width of x and y."""
        return self.d_x + self.d_y

    @property
    def d_out(self) -> int:
        """Width of y."""
        return self.d_y

    def sequence(self, key: Array) -> tuple[Array, Array]:
        """Pairs and the query, (time + 1, d_x + d_y), and the target, (d_y,)."""
        x, y = self.sampler.sample(key)
        return x[0], y[0]
