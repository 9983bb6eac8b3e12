"""Linear manifold alignment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import block_diag, eigh

from ._inputs import (
    centre,
    check_n_components,
    check_not_negative,
    principal_axes,
    read_matrices,
    read_pairs,
    with_signs,
)
from ._joint_graph import degrees, joint_graph

if TYPE_CHECKING:
    from ._inputs import Latents, Matrix


def linear_manifold_alignment(
    X: Matrix,
    Y: Matrix,
    *,
    n_components: int = 10,
    pairs: Matrix | None = None,
    n_neighbors: int = 10,
    mu: float = 0.1,
    metric: str = "euclidean",
    regularization: float = 0.01,
) -> Latents:
    r"""Linear manifold alignment (Wang and Mahadevan 2009): linear maps that keep neighbours and paired cells together.

    Every cell, paired or not, has neighbours and takes part.

    Parameters
    ----------
    X
        Values of the first modality (n_x cells x p features), dense, or sparse and made dense here.
    Y
        Values of the second modality (n_y cells x q features).
    n_components
        Width of the latents.
    pairs
        Which cells are the same: integers (n_pairs, 2), row of X and row of Y; or a sparse matrix F of weights (n_x x
        n_y). By default row i of X is the same cell as row i of Y.
    n_neighbors
        Nearest cells, within each modality, that a cell is tied to.
    mu
        Weight of the neighbours. At 1 a cell is tied to all its neighbours together about as firmly as to its true match;
        by default, ten times less.
    metric
        Distance between cells that decides who is near, any that :class:`sklearn.neighbors.NearestNeighbors` knows.
    regularization
        Added to the constraint's diagonal, in units of its mean over the features of the modality. 0 leaves the maps free to follow noise once
        there are about as many features as cells.

    Returns
    -------
    Latents of X (n_x x `n_components`) and of Y (n_y x `n_components`), float32.

    Raises
    ------
    ValueError
        If a matrix holds NaN, has too few cells, no pair is known, or `n_components` or `n_neighbors` is above what the
        cells allow.

    See Also
    --------
    jamie_sc.align.nonlinear_manifold_alignment : the same graph, embedded without maps.

    Notes
    -----
    The joint graph ties cells of one modality that are neighbours (:math:`W_x`, :math:`W_y`: 1 / `n_neighbors` where one
    of the two is among the other's nearest) and pairs:

    .. math::
        W = \begin{pmatrix} \mu W_x & F \\ F^\top & \mu W_y \end{pmatrix}, \quad D = \mathrm{diag}(W 1), \quad
        L = D - W.

    With :math:`Z` the block-diagonal matrix of the features of both modalities (p + q x n_x + n_y), centred, the columns
    of the maps are the first solutions of

    .. math::
        Z L Z^\top v = \lambda\, (Z D Z^\top + R)\, v, \quad v^\top (Z D Z^\top + R)\, v = 1,

    those of the smallest :math:`\lambda`; :math:`R` is the regularisation. They minimise
    :math:`\sum_{ij} W_{ij} \lVert z_i - z_j \rVert^2` over the latents :math:`Z^\top v`. The problem is dense: time grows
    with the cube and memory with the square of the features (of the cells, where these are fewer). Reduce thousands of
    features beforehand, and standardise them where units differ.

    Examples
    --------
    >>> import numpy as np
    >>> import jamie_sc as jsc
    >>> X = np.random.default_rng(0).normal(size=(50, 4))
    >>> Z_x, Z_y = jsc.align.linear_manifold_alignment(X, X[:, ::-1], n_components=2)
    >>> jsc.metrics.foscttm(Z_x, Z_y) < 0.01
    True
    """
    x, y = read_matrices(X, Y)
    check_not_negative(regularization=regularization)
    F = read_pairs(pairs, len(x), len(y))
    W = joint_graph(x, y, F, n_neighbors=n_neighbors, mu=mu, metric=metric)
    D = degrees(W)
    centred = [centre(values) for values in (x, y)]
    axes = [principal_axes(values)[0] for values in centred]  # outside them, the equation is 0 = 0
    blocks = [values @ basis for values, basis in zip(centred, axes, strict=True)]
    rank = sum(block.shape[1] for block in blocks)
    check_n_components(n_components, rank, f"X and Y together vary in {rank} dimensions")

    Z = block_diag(*blocks)  # (n_x + n_y) x rank: the transpose of the text's Z, in the coordinates of its axes
    ZDZ = [block.T @ (d[:, None] * block) for block, d in zip(blocks, np.split(D, [len(x)]), strict=True)]
    R = [regularization * np.trace(g) / len(v) * np.eye(len(g)) for g, v in zip(ZDZ, axes, strict=True)]
    ZLZ = block_diag(*ZDZ) - Z.T @ (W @ Z)
    _, v = eigh(ZLZ, block_diag(*ZDZ) + block_diag(*R), subset_by_index=[0, n_components - 1])
    v = with_signs(block_diag(*axes) @ v)
    return (centred[0] @ v[: x.shape[1]]).astype(np.float32), (centred[1] @ v[x.shape[1] :]).astype(np.float32)
