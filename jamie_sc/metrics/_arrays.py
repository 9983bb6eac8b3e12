"""What the metrics ask of their input: shapes that fit and numbers that are numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pandas as pd
from scipy import sparse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

    Matrix: TypeAlias = ArrayLike | sparse.spmatrix | sparse.sparray

BLOCK_VALUES = 2**22  # values of one dense block of features: 32 MiB of float64


def embedding_pair(x: ArrayLike, y: ArrayLike, *, same_cells: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both embeddings as float64 (n x g); with `same_cells`, row i of both is the same cell."""
    x, y = _embedding(x, "x"), _embedding(y, "y")
    if x.shape[1] != y.shape[1]:
        msg = f"x has {x.shape[1]} latent dimensions and y has {y.shape[1]}: they are not in one space."
        raise ValueError(msg)
    if same_cells and len(x) != len(y):
        msg = f"x has {len(x)} cells and y has {len(y)}: row i of both must be the same cell."
        raise ValueError(msg)
    return x, y


def _embedding(values: ArrayLike, name: str) -> NDArray[np.float64]:
    if sparse.issparse(values):
        msg = f"{name} is a sparse matrix; an embedding is a dense array."
        raise ValueError(msg)
    array = np.asarray(values, dtype=np.float64)
    _check_matrix(array.shape, name)
    _check_finite(array, name)
    return array


def feature_blocks(measured: Matrix, imputed: Matrix) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Walk over two matrices of one shape in dense blocks of columns, few enough at a time to stay small."""
    columns = [_by_column(measured, "measured"), _by_column(imputed, "imputed")]
    shape, other = columns[0].shape, columns[1].shape
    if shape != other:
        msg = f"measured is {shape[0]} cells x {shape[1]} features and imputed is {other[0]} x {other[1]}."
        raise ValueError(msg)
    step = max(1, BLOCK_VALUES // shape[0])
    for start in range(0, shape[1], step):
        yield (
            _dense_block(columns[0], slice(start, start + step), "measured"),
            _dense_block(columns[1], slice(start, start + step), "imputed"),
        )


def _by_column(values: Matrix, name: str) -> NDArray | sparse.csc_array:
    matrix = sparse.csc_array(values) if sparse.issparse(values) else np.asarray(values)
    _check_matrix(matrix.shape, name)
    return matrix


def _dense_block(matrix: NDArray | sparse.csc_array, columns: slice, name: str) -> NDArray[np.float64]:
    block = matrix[:, columns]
    dense = np.asarray(block.toarray() if sparse.issparse(block) else block, dtype=np.float64)
    _check_finite(dense, name, first_column=columns.start)
    return dense


def _check_matrix(shape: tuple[int, ...], name: str) -> None:
    if len(shape) != 2:
        msg = f"{name} must be a matrix (cells in rows), not an array of shape {shape}."
        raise ValueError(msg)
    if 0 in shape:
        msg = f"{name} is empty: {shape[0]} cells x {shape[1]} columns."
        raise ValueError(msg)


def _check_finite(values: NDArray[np.float64], name: str, *, first_column: int = 0) -> None:
    finite = np.isfinite(values)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        msg = f"{name} has NaN or infinite values, the first in row {row}, column {first_column + column}."
        raise ValueError(msg)


def label_codes(labels: ArrayLike, name: str, *, n_cells: int) -> tuple[NDArray[np.intp], pd.Index]:
    """Number the labels of `n_cells` cells by their rank in the sorted classes, and return the classes."""
    values = np.asarray(labels, dtype=object)
    if values.shape != (n_cells,):
        msg = f"{name} has shape {values.shape}: give one label for each of the {n_cells} cells."
        raise ValueError(msg)
    codes, classes = pd.factorize(values, sort=True)
    if (codes < 0).any():
        msg = f"{name} is missing for {(codes < 0).sum()} of {n_cells} cells, the first in row {np.argmin(codes)}."
        raise ValueError(msg)
    return codes, pd.Index(classes)
