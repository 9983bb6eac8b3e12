"""Jensen-Shannon distance of each feature."""

from __future__ import annotations

from typing import TYPE_CHECKING, overload

import numpy as np
import pandas as pd
from scipy.spatial.distance import jensenshannon

from ._arrays import feature_blocks, label_codes

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from ._arrays import Matrix


@overload
def js_distance(
    measured: Matrix, imputed: Matrix, *, labels: None = None, n_bins: int = ...
) -> NDArray[np.float64]: ...
@overload
def js_distance(measured: Matrix, imputed: Matrix, *, labels: ArrayLike, n_bins: int = ...) -> pd.DataFrame: ...
def js_distance(
    measured: Matrix, imputed: Matrix, *, labels: ArrayLike | None = None, n_bins: int = 20
) -> NDArray[np.float64] | pd.DataFrame:
    r"""Jensen-Shannon distance between the distributions of measured and imputed values (JAMIE section 4.9).

    The distance is the square root of the Jensen-Shannon divergence in bits, so it lies between 0 (the same
    distribution) and 1 (no overlap). The distributions are histograms with `n_bins` bins of equal width, from the
    smallest to the largest value of the feature in either matrix. All labels share these bins.

    Parameters
    ----------
    measured
        Measured values (cells x features), dense or sparse.
    imputed
        Imputed values of the same cells and features, dense or sparse.
    labels
        One label for each cell, such as its type: distributions are compared within each label.
    n_bins
        Number of bins. Few cells in many bins look different by chance: two samples of n cells from one distribution
        are about :math:`\sqrt{(\text{bins} - 1) / (4 n \ln 2)}` apart, counting the bins where it has cells.

    Returns
    -------
    One distance for each feature; with `labels`, a DataFrame (features x labels, columns in sorted order) instead.

    Raises
    ------
    ValueError
        If the matrices differ in shape, are empty or hold NaN or infinite values; if there is not one label for each
        cell or one is missing; if `n_bins` is less than 2.

    Notes
    -----
    The published code takes natural logarithms (its distances end at 0.83 = :math:`\sqrt{\ln 2}`) and bins each
    distribution by itself, so its figures are no exact match for these.

    Examples
    --------
    >>> import jamie_sc as jsc
    >>> measured, imputed = [[0, 1], [0, 2], [1, 3], [1, 4]], [[1, 1], [1, 2], [1, 3], [1, 4]]
    >>> jsc.metrics.js_distance(measured, imputed).round(3).tolist()
    [0.558, 0.0]
    >>> jsc.metrics.js_distance(measured, imputed, labels=["a", "a", "b", "b"])
         a    b
    0  1.0  0.0
    1  0.0  0.0
    """
    if n_bins < 2:
        msg = f"n_bins must be at least 2, not {n_bins}."
        raise ValueError(msg)
    distances, classes = [], None
    for a, b in feature_blocks(measured, imputed):
        if labels is None:
            codes, n_labels = np.zeros(len(a), dtype=np.intp), 1
        elif classes is None:
            codes, classes = label_codes(labels, "labels", n_cells=len(a))
            n_labels = len(classes)
        low, high = np.minimum(a.min(axis=0), b.min(axis=0)), np.maximum(a.max(axis=0), b.max(axis=0))
        p, q = (_histograms(values, low, high, codes, n_labels=n_labels, n_bins=n_bins) for values in (a, b))
        distances.append(jensenshannon(p, q, base=2, axis=-1))
    result = np.concatenate(distances)
    return result[:, 0] if classes is None else pd.DataFrame(result, columns=classes)


def _histograms(
    values: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    codes: NDArray[np.intp],
    *,
    n_labels: int,
    n_bins: int,
) -> NDArray[np.float64]:
    """Count cells by feature, label and bin (features x labels x bins)."""
    n_features = values.shape[1]
    width = np.where(high > low, high - low, 1)
    bins = np.minimum((values - low) * n_bins / width, n_bins - 1).astype(np.intp)  # the last bin holds its upper edge
    cell_of = (np.arange(n_features) * n_labels + codes[:, None]) * n_bins + bins
    counts = np.bincount(cell_of.ravel(), minlength=n_features * n_labels * n_bins)
    return counts.reshape(n_features, n_labels, n_bins).astype(np.float64)
