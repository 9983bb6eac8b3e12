"""Features to the network's input and back: log-normalise counts, standardise, PCA (sections 4.10 and 4.11)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from sklearn.decomposition import PCA
from sklearn.utils.sparsefuncs import mean_variance_axis

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Matrix = NDArray[np.float32] | sp.csr_matrix


@dataclass(frozen=True)
class Reducer:
    """Clip each feature, centre and scale it, rotate to principal components; invertible up to those left out.

    A sparse matrix stays sparse: its values are scaled, and the mean is subtracted in the space of the components.
    """

    mean: NDArray[np.float32]
    """Mean of each feature, (p,)."""
    scale: NDArray[np.float32]
    """What each feature is divided by, (p,): its standard deviation, or 1."""
    components: NDArray[np.float32]
    """Principal axes, (k, p), orthonormal rows."""
    variance: NDArray[np.float32]
    """Variance of each component over the cells fitted, as `transform` returns it, (k,)."""
    shrinkage: NDArray[np.float32]
    """What each component is multiplied by, (k,): 1, or less where noise is taken out."""
    bounds: NDArray[np.float32]
    """Lowest and highest value of each feature, (2, p), to which it is clipped; zero always lies between them."""
    target_sum: float | None = None
    """Counts are brought to this total a cell and logged, log(1 + x), before all else; None where they are not."""

    @classmethod
    def fit(
        cls,
        X: Matrix,
        *,
        n_components: int,
        clip: float = np.inf,
        log: bool = False,
        standardize: bool = True,
        denoise: bool = False,
        seed: int = 0,
    ) -> Reducer:
        """Fit to cells x features; there are at most as many components as the matrix has rank."""
        target_sum = float(np.median(totals(X))) or 1.0 if log else None
        X = X if target_sum is None else _log_normalise(X, target_sum)
        mean, variance = _moments(X)
        sd = np.sqrt(variance)
        reach = clip * np.where(sd > 0, sd, 1)
        bounds = np.stack([np.minimum(mean - reach, 0), np.maximum(mean + reach, 0)])
        scale = np.where(sd > 0, sd, 1) if standardize else np.ones_like(sd)
        k = max(1, min(n_components, X.shape[1], X.shape[0] - 1))
        pca = PCA(k, svd_solver=_solver(X, k), random_state=seed).fit(_scale(X, mean, scale, bounds))
        shrinkage = _optimal_shrinkage(pca, n_obs=X.shape[0]) if denoise else np.ones(k)
        return cls(
            mean=mean.astype(np.float32),
            scale=scale.astype(np.float32),
            components=pca.components_.astype(np.float32),
            variance=(pca.explained_variance_ * shrinkage**2).astype(np.float32),
            shrinkage=shrinkage.astype(np.float32),
            bounds=bounds.astype(np.float32),
            target_sum=target_sum,
        )

    @classmethod
    def fit_inputs(
        cls, X: Matrix, *, n_components: int, clip: float = np.inf, own_units: bool, seed: int = 0
    ) -> Reducer:
        """Fit to what an encoder is to read: with `own_units`, expression unscaled and counts logged at equal depth."""
        log, own = (own_units and rule(X) for rule in (holds_counts, shares_unit))
        return cls.fit(X, n_components=n_components, clip=clip, log=log, standardize=not own, seed=seed)

    @property
    def n_components(self) -> int:
        """Width of the reduced data."""
        return len(self.components)

    def transform(self, X: Matrix) -> NDArray[np.float32]:
        """Features, (n, p), to components, (n, k)."""
        X = self.logged(X)
        scores = _scale(X, self.mean, self.scale, self.bounds) @ self.components.T
        centre = self.components @ (self.mean / self.scale) if sp.issparse(X) else 0
        return np.asarray((scores - centre) * self.shrinkage, dtype=np.float32)

    def logged(self, X: Matrix) -> Matrix:
        """Counts brought to one total a cell and logged; other values as they are."""
        return X if self.target_sum is None else _log_normalise(X, self.target_sum)

    def features(self, X: Matrix) -> NDArray[np.float32]:
        """Features, (n, p), clipped, and scaled and centred or in their own units, as those of the components; dense."""
        return self.scaled(self.logged(X))

    def scaled(self, logged: Matrix, columns: NDArray[np.intp] | slice = slice(None)) -> NDArray[np.float32]:
        """`features` of some columns of what `logged` gave."""
        values: Any = logged[:, columns]  # type: ignore[index]
        values = values.toarray() if sp.issparse(logged) else values
        mean = 0 if self._own_units else self.mean[columns]
        clipped = np.clip(values, *self.bounds[:, columns])
        return ((clipped - mean) / self.scale[columns]).astype(np.float32, copy=False)

    @property
    def average(self) -> NDArray[np.float32]:
        """What `features` gives for the mean of the cells fitted, (p,)."""
        return self.mean if self._own_units else np.zeros_like(self.mean)

    @property
    def axes(self) -> NDArray[np.float32]:
        """What a step of each of `features` adds to `transform`, (k, p): transform(X) = (features(X) - average) axes'."""
        return self.components * self.shrinkage[:, None]

    @property
    def _own_units(self) -> bool:
        return bool((self.scale == 1).all())

    def inverse(
        self, scores: NDArray[np.float32], features: NDArray[np.intp] | slice = slice(None)
    ) -> NDArray[np.float32]:
        """Components, (n, k), to features on their own scale, (n, p); `features` for some of them."""
        return scores @ (self.components[:, features] * self.scale[features]) + self.mean[features]


def default_n_components(n_obs: int, n_vars: int) -> int:
    """Number of components for a matrix of this size: one for every ten cells, 32 to 96."""
    return min(max(n_obs // 10, 32), 96, n_vars)


def _optimal_shrinkage(pca: PCA, *, n_obs: int) -> NDArray[np.float64]:
    """How much of each component to keep so that the error against the noise-free matrix is least.

    Gavish and Donoho (2017), Frobenius loss: with beta features a cell and a singular value y in units of the noise, y
    shrinks to sqrt((y^2 - beta - 1)^2 - 4 beta) / y, and to nothing below 1 + sqrt(beta). The noise is what is left
    after the components, spread over the other dimensions.
    """
    k, n_vars = pca.components_.shape
    total = pca.explained_variance_.sum() / pca.explained_variance_ratio_.sum()
    noise = (total - pca.explained_variance_.sum()) / max(n_vars - k, 1)
    if noise <= 1e-6 * total:
        return np.ones(k)
    beta, y2 = n_vars / n_obs, pca.explained_variance_ / noise
    kept = np.sqrt(np.maximum((y2 - beta - 1) ** 2 - 4 * beta, 0)) / y2
    return np.where(y2 > (1 + np.sqrt(beta)) ** 2, kept, 0)


def shares_unit(X: Matrix) -> bool:
    """True for non-negative values of which a tenth are zero: expression, peaks, methylation.

    Their features have one unit, so their spreads mean something; electrophysiology's, say, have one each.
    """
    stored = X.data if sp.issparse(X) else X
    n_zero = X.shape[0] * X.shape[1] - np.count_nonzero(stored)
    return bool(n_zero >= 0.1 * X.shape[0] * X.shape[1] and (stored.size == 0 or stored.min() >= 0))


def holds_counts(X: Matrix) -> bool:
    """True for non-negative integers that reach far enough (16) for a logarithm to matter."""
    stored = X.data if sp.issparse(X) else X
    return bool(stored.size and stored.min() >= 0 and stored.max() >= 16 and (stored == np.floor(stored)).all())


def totals(X: Matrix) -> NDArray[np.float64]:
    """Sum of each cell."""
    return np.asarray(X.sum(axis=1, dtype=np.float64)).ravel()


def _log_normalise(X: Matrix, target_sum: float) -> Matrix:
    """log(1 + x), after bringing each cell to the same total; a cell without counts stays zero."""
    sums = totals(X)
    factor = (target_sum / np.where(sums > 0, sums, 1)).astype(np.float32)
    return sp.csr_matrix(X.multiply(factor[:, None])).log1p() if sp.issparse(X) else np.log1p(X * factor[:, None])


def _scale(X: Matrix, mean: NDArray, scale: NDArray, bounds: NDArray) -> Matrix:
    """Clip and divide; also subtract the mean, unless that would make a sparse matrix dense."""
    if not sp.issparse(X):
        return ((np.clip(X, *bounds) - mean) / scale).astype(np.float32, copy=False)
    X = sp.csr_matrix(X)
    data = np.clip(X.data, *bounds[:, X.indices]) / scale[X.indices]
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
