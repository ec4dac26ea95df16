"""Linear discriminant analysis: the difference in means, seen through the covariance within labels."""

from dualform.lenses.probes.affine import AffineProbe, two_sided
from dualform.lenses.probes.example_rows import Examples
from dualform.threads import one_blas_thread


@one_blas_thread
def fit_lda(examples: Examples) -> AffineProbe:
    """The likeliest label of Gaussians of one covariance, which is shrunk as Ledoit and Wolf 2004 have it.

    **Source:** scikit-learn's `LinearDiscriminantAnalysis`, solver lsqr, shrinkage auto.
    """
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    fitted = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(examples.x, examples.labels)
    return two_sided(fitted.coef_, fitted.intercept_)
