"""What the methods of this folder ask of their input: finite matrices, and pairs that lie inside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Matrix: TypeAlias = ArrayLike | sparse.spmatrix | sparse.sparray
    Pair: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64]]
    Latents: TypeAlias = tuple[NDArray[np.float32], NDArray[np.float32]]

MIN_CELLS = 3


def read_matrices(X: Matrix, Y: Matrix) -> Pair:
    """Both matrices as dense float64 (cells x features)."""
    return _read(X, "X"), _read(Y, "Y")


def _read(values: Matrix, name: str) -> NDArray[np.float64]:
    array = values.toarray() if sparse.issparse(values) else values
    matrix = np.array(array, dtype=np.float64)
    if matrix.ndim != 2:
        msg = f"{name} must be a matrix (cells in rows, features in columns), not an array of shape {matrix.shape}."
        raise ValueError(msg)
    if len(matrix) < MIN_CELLS or matrix.shape[1] == 0:
        msg = (
            f"{name} has {len(matrix)} cells and {matrix.shape[1]} features: an alignment needs at least {MIN_CELLS} "
            "cells and one feature. Cells are rows: transpose a matrix of genes x cells."
        )
        raise ValueError(msg)
    finite = np.isfinite(matrix)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        msg = (
            f"{name} has NaN or infinite values, the first in row {row}, column {column}. Leave out such cells or "
            "features, or fill them in (sklearn.impute.SimpleImputer)."
        )
        raise ValueError(msg)
    return matrix


def read_pairs(pairs: Matrix | None, n_x: int, n_y: int) -> sparse.coo_array:
    """The correspondence F (n_x x n_y), weights above 0, from any form that a user gives it in."""
    if pairs is None:
        if n_x != n_y:
            msg = (
                f"X has {n_x} cells and Y has {n_y}, so row i of both cannot be the same cell. Say which cells are with "
                "`pairs`: an array of two columns, row of X and row of Y."
            )
            raise ValueError(msg)
        return sparse.coo_array(sparse.eye_array(n_x))
    F = _read_weights(pairs, n_x, n_y) if sparse.issparse(pairs) else _read_list(np.asarray(pairs), n_x, n_y)
    if F.nnz == 0:
        msg = "`pairs` is empty. Without known pairs use `jamie_sc.align.mmd_ma`, which needs none."
        raise ValueError(msg)
    return F


def _read_list(pairs: NDArray, n_x: int, n_y: int) -> sparse.coo_array:
    """F from rows (cell of X, cell of Y); a pair listed twice is one pair."""
    if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu":
        msg = (
            f"`pairs` is {pairs.dtype} of shape {pairs.shape}: give integers of shape (n_pairs, 2), row of X and row of "
            "Y, or a sparse matrix (cells of X x cells of Y) of weights."
        )
        raise ValueError(msg)
    if len(pairs) and (pairs.min() < 0 or (pairs >= (n_x, n_y)).any()):
        i, j = pairs[np.argmax((pairs < 0).any(axis=1) | (pairs >= (n_x, n_y)).any(axis=1))]
        msg = f"`pairs` names cells ({i}, {j}), but X has rows 0 to {n_x - 1} and Y has rows 0 to {n_y - 1}."
        raise ValueError(msg)
    rows, columns = np.unique(pairs, axis=0).T
    return sparse.coo_array((np.ones(len(rows)), (rows, columns)), shape=(n_x, n_y))


def _read_weights(F: Any, n_x: int, n_y: int) -> sparse.coo_array:
    if F.shape != (n_x, n_y):
        msg = f"`pairs` is a sparse matrix of shape {F.shape}: it must be cells of X x cells of Y, {(n_x, n_y)}."
        raise ValueError(msg)
    weights = sparse.csr_array(F, dtype=np.float64, copy=True)
    weights.sum_duplicates()
    if not np.isfinite(weights.data).all() or (weights.data < 0).any():
        msg = "`pairs` holds negative, NaN or infinite weights: a weight says how sure a pair is, and is above 0."
        raise ValueError(msg)
    weights.eliminate_zeros()
    return weights.tocoo()


def read_one_to_one(
    pairs: ArrayLike | None, sizes: tuple[int, int], *, option: str, names: tuple[str, str]
) -> NDArray[np.intp]:
    """Pairs of rows as an array (pairs, 2), each row in one pair at most."""
    known = np.empty((0, 2), dtype=np.intp) if pairs is None or np.size(pairs) == 0 else np.asarray(pairs)
    if known.ndim != 2 or known.shape[1] != 2 or known.dtype.kind not in "iu":
        msg = f"{option} must be integers, one row for each pair, not {known.dtype} of shape {known.shape}."
        raise ValueError(msg)
    for column, n, name in zip(known.T, sizes, names, strict=True):
        outside = column[(column < 0) | (column >= n)]
        if len(outside):
            msg = f"{option} has row {outside[0]} of {name}, which has rows 0 to {n - 1}."
            raise ValueError(msg)
        cells, times = np.unique(column, return_counts=True)
        if (times > 1).any():
            msg = f"{option} has row {cells[times > 1][0]} of {name} in more than one pair."
            raise ValueError(msg)
    return known.astype(np.intp)


def check_positive(**options: float) -> None:
    """Refuse options that are not above 0."""
    for name, value in options.items():
        if not value > 0:
            msg = f"{name} is {value}, but must be above 0."
            raise ValueError(msg)


def check_not_negative(**options: float) -> None:
    """Refuse options below 0."""
    for name, value in options.items():
        if not value >= 0:
            msg = f"{name} is {value}, but must not be negative."
            raise ValueError(msg)


def check_n_components(n_components: int, most: int, why: str) -> None:
    """Refuse more dimensions than there can be."""
    if not 1 <= n_components <= most:
        msg = f"n_components is {n_components}, but must be between 1 and {most}: {why}."
        raise ValueError(msg)


def centre(
    values: NDArray[np.float64],
    cells: NDArray[np.integer] | slice = slice(None),
    weights: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """All rows minus the weighted mean of some; a feature that is constant in those becomes 0, not rounding error."""
    chosen = values[cells]
    centred = values - np.average(chosen, axis=0, weights=weights)
    centred[:, np.ptp(chosen, axis=0) == 0] = 0
    return centred


def principal_axes(matrix: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Right singular vectors (features x rank) of a matrix and its singular values, those above rounding error only."""
    _, s, vt = np.linalg.svd(matrix, full_matrices=False)
    tolerance = max(matrix.shape) * np.finfo(np.float64).eps * s[0]
    rank = int(np.count_nonzero(s > tolerance))
    return vt[:rank].T, s[:rank]


def with_signs(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Columns turned so that the entry of largest magnitude is positive: an eigenvector's own sign means nothing."""
    largest = vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])]
    return vectors * np.where(largest < 0, -1.0, 1.0)
