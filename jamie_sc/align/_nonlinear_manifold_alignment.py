"""Nonlinear manifold alignment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse.linalg import LinearOperator, eigsh

from ._inputs import check_n_components, read_matrices, read_pairs, with_signs
from ._joint_graph import degrees, joint_graph

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy import sparse

    from ._inputs import Latents, Matrix


def nonlinear_manifold_alignment(
    X: Matrix,
    Y: Matrix,
    *,
    n_components: int = 10,
    pairs: Matrix | None = None,
    n_neighbors: int = 10,
    mu: float = 0.1,
    metric: str = "euclidean",
    rng: int | np.random.Generator | None = 0,
) -> Latents:
    r"""Nonlinear manifold alignment (Ham et al. 2005): one Laplacian embedding of the cells of both modalities.

    Every cell, paired or not, has neighbours and takes part. There is no map for cells that come later.

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
    rng
        Seed of the solver's start, which decides nothing but the last digits.

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
    jamie_sc.align.linear_manifold_alignment : the same graph, embedded by linear maps.

    Notes
    -----
    The joint graph ties cells of one modality that are neighbours (:math:`W_x`, :math:`W_y`: 1 / `n_neighbors` where one
    of the two is among the other's nearest) and pairs:

    .. math::
        W = \begin{pmatrix} \mu W_x & F \\ F^\top & \mu W_y \end{pmatrix}, \quad D = \mathrm{diag}(W 1), \quad
        L = D - W.

    The latents of all cells, stacked, are the first solutions of

    .. math::
        L v = \lambda D v, \quad v^\top D v = \mathrm{tr}\, D,

    those of the smallest :math:`\lambda` besides the constant vector, so that a column has mean 0 and variance 1 when
    cells are weighted by their degree. The graph and the solver are sparse: memory grows linearly with the cells. Reduce
    thousands of features beforehand, and standardise them where units differ.

    Examples
    --------
    >>> import numpy as np
    >>> import jamie_sc as jsc
    >>> X = np.random.default_rng(0).normal(size=(50, 4))
    >>> Z_x, Z_y = jsc.align.nonlinear_manifold_alignment(X, X[:, ::-1], n_components=2)
    >>> jsc.metrics.foscttm(Z_x, Z_y) < 0.1
    True
    """
    x, y = read_matrices(X, Y)
    F = read_pairs(pairs, len(x), len(y))
    n = len(x) + len(y)
    check_n_components(n_components, n - 2, f"X and Y together have {n} cells")
    W = joint_graph(x, y, F, n_neighbors=n_neighbors, mu=mu, metric=metric)
    v = with_signs(_laplacian_vectors(W, n_components, np.random.default_rng(rng))).astype(np.float32)
    return v[: len(x)], v[len(x) :]


def _laplacian_vectors(W: sparse.csr_array, k: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """First k solutions of L v = lambda D v besides the constant (cells x k)."""
    D = degrees(W)
    root = np.sqrt(D)
    constant = root / np.linalg.norm(root)

    # With u = D^{1/2} v the equation is D^{-1/2} W D^{-1/2} u = (1 - lambda) u: largest eigenvalues, which Lanczos finds
    # without a factorisation. The known solution, v constant, is moved to the far end, lambda = 2.
    def multiply(u: NDArray[np.float64]) -> NDArray[np.float64]:
        u = u.ravel()
        return W @ (u / root) / root - 2 * constant * (constant @ u)

    operator = LinearOperator(W.shape, matvec=multiply, dtype=np.float64)
    start = rng.standard_normal(len(D))
    values, u = eigsh(operator, k=k, which="LA", v0=start, ncv=min(len(D), max(4 * k, 40)))
    return (u / root[:, None])[:, np.argsort(-values)] * np.sqrt(D.sum())
