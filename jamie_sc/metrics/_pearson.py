"""Pearson correlation of each feature."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._arrays import feature_blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._arrays import Matrix


def pearson(measured: Matrix, imputed: Matrix) -> NDArray[np.float64]:
    """Pearson correlation of measured and imputed values over cells, for each feature (JAMIE section 4.9).

    Parameters
    ----------
    measured
        Measured values (cells x features), dense or sparse.
    imputed
        Imputed values of the same cells and features, dense or sparse.

    Returns
    -------
    One correlation for each feature, from -1 to 1. It is 0 where the measured or the imputed feature is constant, as
    in the NeurIPS 2021 competition: a constant says nothing about the cells, and a NaN would drop out of the mean.

    Raises
    ------
    ValueError
        If the matrices differ in shape, are empty or hold NaN or infinite values.

    Examples
    --------
    >>> import jamie_sc as jsc
    >>> jsc.metrics.pearson([[1, 1, 7], [2, 2, 7], [3, 0, 7]], [[2, 1, 1], [4, 0, 2], [6, 2, 3]]).round(3).tolist()
    [1.0, -1.0, 0.0]
    """
    return np.concatenate([_pearson(*block) for block in feature_blocks(measured, imputed)])


def _pearson(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.clip(np.sum(_unit_columns(a) * _unit_columns(b), axis=0), -1, 1)


def _unit_columns(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Centre each column and scale it to length 1, or to 0 where it is constant."""
    spread = np.ptp(values, axis=0)
    varies = spread > 0
    # Scaled by its range first, so that squares of tiny or huge values stay within float64.
    centred = (values - values.mean(axis=0)) * varies / np.where(varies, spread, 1)
    return centred / np.where(varies, np.linalg.norm(centred, axis=0), 1)
