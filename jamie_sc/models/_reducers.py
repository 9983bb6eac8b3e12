"""Features to the network's input and back: log-normalise counts, standardise, PCA (sections 4.10 and 4.11)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
from sklearn.decomposition import PCA
from sklearn.utils.sparsefuncs import mean_variance_axis

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Matrix = NDArray[np.float32] | sp.csr_matrix


@dataclass(frozen=True)
class Reducer:
    """Standardise each feature, clip it, rotate to principal components; invertible up to the components left out.

    A sparse matrix stays sparse: its values are scaled, and the mean is subtracted in the space of the components.
    """

    mean: NDArray[np.float32]
    """Mean of each feature, (p,)."""
    scale: NDArray[np.float32]
    """Standard deviation of each feature, (p,); 1 for a constant one."""
    components: NDArray[np.float32]
    """Principal axes, (k, p), orthonormal rows."""
    variance: NDArray[np.float32]
    """Variance of each component over the cells fitted, (k,)."""
    clip: float = np.inf
    """Values further than this from the mean, in standard deviations, are clipped, but never past zero."""
    target_sum: float | None = None
    """Counts are brought to this total a cell and logged, log(1 + x), before all else; None where they are not."""

    @classmethod
    def fit(cls, X: Matrix, *, n_components: int, clip: float = np.inf, log: bool = False, seed: int = 0) -> Reducer:
        """Fit to cells x features; there are at most as many components as the matrix has rank."""
        target_sum = float(np.median(_totals(X))) or 1.0 if log else None
        X = X if target_sum is None else _log_normalise(X, target_sum)
        mean, variance = _moments(X)
        scale = np.sqrt(np.where(variance > 0, variance, 1))
        X = _standardise(X, mean, scale, clip)
        k = max(1, min(n_components, X.shape[1], X.shape[0] - 1))
        pca = PCA(k, svd_solver=_solver(X, k), random_state=seed).fit(X)
        mean32, scale32 = mean.astype(np.float32), scale.astype(np.float32)
        components, variance = pca.components_.astype(np.float32), pca.explained_variance_.astype(np.float32)
        return cls(mean32, scale32, components, variance, clip, target_sum)

    @property
    def n_components(self) -> int:
        """Width of the reduced data."""
        return len(self.components)

    def transform(self, X: Matrix) -> NDArray[np.float32]:
        """Features, (n, p), to components, (n, k)."""
        X = X if self.target_sum is None else _log_normalise(X, self.target_sum)
        centre = (self.mean / self.scale if sp.issparse(X) else np.zeros_like(self.mean)) @ self.components.T
        return np.asarray(
            _standardise(X, self.mean, self.scale, self.clip) @ self.components.T - centre, dtype=np.float32
        )

    def inverse(
        self, scores: NDArray[np.float32], features: NDArray[np.intp] | slice = slice(None)
    ) -> NDArray[np.float32]:
        """Components, (n, k), to features on their own scale, (n, p); `features` for some of them."""
        return scores @ (self.components[:, features] * self.scale[features]) + self.mean[features]


def holds_counts(X: Matrix) -> bool:
    """True for non-negative integers that reach far enough (16) for a logarithm to matter."""
    values = X.data if sp.issparse(X) else X
    return bool(values.size and values.min() >= 0 and values.max() >= 16 and (values == np.floor(values)).all())


def _totals(X: Matrix) -> NDArray[np.float64]:
    return np.asarray(X.sum(axis=1, dtype=np.float64)).ravel()


def _log_normalise(X: Matrix, target_sum: float) -> Matrix:
    """log(1 + x), after bringing each cell to the same total; a cell without counts stays zero."""
    totals = _totals(X)
    factor = (target_sum / np.where(totals > 0, totals, 1)).astype(np.float32)
    return sp.csr_matrix(X.multiply(factor[:, None])).log1p() if sp.issparse(X) else np.log1p(X * factor[:, None])


def _standardise(X: Matrix, mean: NDArray, scale: NDArray, clip: float) -> Matrix:
    """Clip and divide; also subtract the mean, unless that would make a sparse matrix dense."""
    low, high = np.minimum(mean - clip * scale, 0), np.maximum(mean + clip * scale, 0)
    if not sp.issparse(X):
        return ((np.clip(X, low, high) - mean) / scale).astype(np.float32, copy=False)
    X = X.tocsr()
    data = np.clip(X.data, low[X.indices], high[X.indices]) / scale[X.indices]
    return sp.csr_matrix((data.astype(np.float32, copy=False), X.indices, X.indptr), shape=X.shape)


def _moments(X: Matrix) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if sp.issparse(X):
        mean, variance = mean_variance_axis(X.astype(np.float64), axis=0)
        return mean, variance
    return X.mean(axis=0, dtype=np.float64), X.var(axis=0, dtype=np.float64)


def _solver(X: Matrix, k: int) -> str:
    """scikit-learn's solver: it centres a sparse matrix implicitly, but only with these two."""
    if sp.issparse(X):
        return "arpack" if k < min(X.shape) - 1 else "covariance_eigh"
    return "auto"


def default_n_components(n_obs: int, n_vars: int) -> int:
    """Number of components for a matrix of this size: one for every ten cells, 32 to 96."""
    return min(max(n_obs // 10, 32), 96, n_vars)
