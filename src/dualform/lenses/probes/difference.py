"""Difference in means: the direction from the mean of one label's activations to that of another's."""

from dualform.lenses.probes.affine import AffineProbe, means
from dualform.lenses.probes.example_rows import Examples


def fit_difference(examples: Examples) -> AffineProbe:
    """The label whose mean is nearest; of two labels the plane midway, across the difference of their means.

    score_c = mu_c . x - |mu_c|^2 / 2

    **Source:** Marks and Tegmark 2023 (arXiv 2310.06824), whose probe goes through the mean of all; this one goes midway, which
    is the same where there are as many rows of either label.
    """
    mu = means(examples.x, examples.labels)
    return AffineProbe(mu, -0.5 * (mu * mu).sum(1))
