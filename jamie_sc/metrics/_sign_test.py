"""Two-tailed sign test."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.stats import binomtest

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class SignTest(NamedTuple):
    """Result of :func:`sign_test`."""

    n_better: int
    """Features where `a` is greater than `b`."""
    n_worse: int
    """Features where `a` is less than `b`."""
    n_ties: int
    """Features where both are equal, which the test leaves out."""
    pvalue: float
    """Two-tailed probability of a split at least this uneven when better and worse are equally likely."""


def sign_test(a: ArrayLike, b: ArrayLike) -> SignTest:
    """Two-tailed binomial test of whether `a` is greater than `b` more or less often than by chance.

    The JAMIE paper compares imputations this way, feature by feature (sections 2.1 to 2.4). For scores where less is
    better, such as the Jensen-Shannon distance, swap `a` and `b`.

    Parameters
    ----------
    a
        Scores of one method, one for each feature.
    b
        Scores of the other method for the same features. A feature with NaN in `a` or `b` counts nowhere.

    Returns
    -------
    Numbers of features and the p-value, which is 1 where no feature differs.

    Raises
    ------
    ValueError
        If `a` and `b` are not two lists of the same length.

    Examples
    --------
    >>> import jamie_sc as jsc
    >>> jsc.metrics.sign_test([0.8, 0.7, 0.9, 0.5, float("nan")], [0.6, 0.6, 0.6, 0.5, 0.6])
    SignTest(n_better=3, n_worse=0, n_ties=1, pvalue=0.25)
    """
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        msg = f"a and b must have one score for each feature, but their shapes are {a.shape} and {b.shape}."
        raise ValueError(msg)
    better, worse, ties = int((a > b).sum()), int((a < b).sum()), int((a == b).sum())
    pvalue = float(binomtest(better, better + worse).pvalue) if better + worse else 1.0
    return SignTest(better, worse, ties, pvalue)
