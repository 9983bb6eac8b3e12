"""Area under the ROC curve of each feature."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import rankdata

from ._arrays import feature_blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._arrays import Matrix


def auroc(measured: Matrix, imputed: Matrix) -> NDArray[np.float64]:
    """Area under the ROC curve with which imputed values tell high from low measured values (JAMIE section 4.9).

    A measured value is high if it lies above the median of its own feature; all others, the median included, are low.

    Parameters
    ----------
    measured
        Measured values (cells x features), dense or sparse.
    imputed
        Imputed values of the same cells and features, dense or sparse.

    Returns
    -------
    One area for each feature, from 0 to 1: the probability that a high cell is imputed higher than a low cell, where
    equal values count one half, so 0.5 is chance. It is NaN where no measured value lies above the median, as in a
    constant feature.

    Raises
    ------
    ValueError
        If the matrices differ in shape, are empty or hold NaN or infinite values.

    Examples
    --------
    >>> import jamie_sc as jsc
    >>> measured = [[0, 5], [1, 5], [2, 5], [3, 5]]
    >>> jsc.metrics.auroc(measured, [[0.1, 1], [0.3, 2], [0.2, 3], [0.9, 4]]).tolist()
    [0.75, nan]
    """
    return np.concatenate([_auroc(*block) for block in feature_blocks(measured, imputed)])


def _auroc(measured: NDArray[np.float64], imputed: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mann-Whitney U of the high cells over the number of pairs (high, low)."""
    high = measured > np.median(measured, axis=0)
    n_high = high.sum(axis=0, dtype=np.float64)
    n_pairs = n_high * (len(high) - n_high)
    wins = np.sum(rankdata(imputed, axis=0) * high, axis=0) - n_high * (n_high + 1) / 2
    return np.divide(wins, n_pairs, out=np.full(n_pairs.shape, np.nan), where=n_pairs > 0)
