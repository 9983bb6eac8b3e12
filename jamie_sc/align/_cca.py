"""Canonical correlation analysis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ._inputs import (
    centre,
    check_n_components,
    check_not_negative,
    principal_axes,
    read_matrices,
    read_pairs,
    with_signs,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._inputs import Latents, Matrix


def cca(
    X: Matrix,
    Y: Matrix,
    *,
    n_components: int = 10,
    pairs: Matrix | None = None,
    regularization: float = 0.1,
) -> Latents:
    r"""Canonical correlation analysis (Hotelling 1936), regularised: linear maps that correlate paired cells most.

    The maps are found on the paired cells and applied to every cell.

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
    regularization
        Added to each covariance's diagonal, in units of its mean feature variance. 0 is the classical method, which
        correlates perfectly, and means nothing, once there are more features than cells.

    Returns
    -------
    Latents of X (n_x x `n_components`) and of Y (n_y x `n_components`), float32.

    Raises
    ------
    ValueError
        If a matrix holds NaN, has too few cells, no pair is known, or `n_components` is above what the paired cells' ranks
        allow.

    See Also
    --------
    jamie_sc.align.linear_manifold_alignment : linear maps that also keep neighbours together.

    Notes
    -----
    With covariances over the pairs :math:`(i, j)`, weighted by :math:`F_{ij}`, of values centred on the means of the
    paired cells, and :math:`r` the regularisation,

    .. math::
        C_x = \mathrm{cov}(X) + r \tfrac{\mathrm{tr}\,\mathrm{cov}(X)}{p} I, \quad
        C_x^{-1/2}\, \mathrm{cov}(X, Y)\, C_y^{-1/2} = U S V^\top, \quad
        Z_x = (X - \bar x)\, C_x^{-1/2} U, \quad Z_y = (Y - \bar y)\, C_y^{-1/2} V,

    and :math:`C_y` like :math:`C_x`. With :math:`r = 0` the canonical correlations are :math:`S`, and each column of a
    latent has variance 1. Time is that of a singular value decomposition of each matrix. Features in different units
    should be standardised beforehand.

    Examples
    --------
    >>> import numpy as np
    >>> import jamie_sc as jsc
    >>> X = np.random.default_rng(0).normal(size=(50, 4))
    >>> Y = X @ [[1, 0, 2], [0, 1, 1], [1, 1, 0], [0, 0, 1]]
    >>> Z_x, Z_y = jsc.align.cca(X, Y, n_components=2)
    >>> Z_x.shape, bool(np.corrcoef(Z_x[:, 0], Z_y[:, 0])[0, 1] > 0.99)
    ((50, 2), True)
    """
    x, y = read_matrices(X, Y)
    check_not_negative(regularization=regularization)
    F = read_pairs(pairs, len(x), len(y))
    x, y = centre(x, F.row, F.data), centre(y, F.col, F.data)
    root = np.sqrt(F.data / F.data.sum())[:, None]
    paired_x, paired_y = root * x[F.row], root * y[F.col]
    white_x, white_y = _whitening(paired_x, regularization), _whitening(paired_y, regularization)
    ranks = (white_x.shape[1], white_y.shape[1])
    check_n_components(
        n_components,
        min(ranks),
        f"the {F.nnz} pairs span {ranks[0]} dimensions of X and {ranks[1]} of Y",
    )
    u, _, vt = np.linalg.svd((paired_x @ white_x).T @ (paired_y @ white_y), full_matrices=False)
    maps = with_signs(np.vstack([white_x @ u[:, :n_components], white_y @ vt[:n_components].T]))
    a, b = maps[: x.shape[1]], maps[x.shape[1] :]
    return (x @ a).astype(np.float32), (y @ b).astype(np.float32)


def _whitening(values: NDArray[np.float64], regularization: float) -> NDArray[np.float64]:
    """C^{-1/2} of centred values whose covariance is `values.T @ values`, on the dimensions that vary (p x rank)."""
    axes, s = principal_axes(values)
    ridge = regularization * np.sum(s**2) / values.shape[1]
    return axes / np.sqrt(s**2 + ridge)
