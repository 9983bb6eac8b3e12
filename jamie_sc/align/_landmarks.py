"""A few points that stand for all cells, and how each cell lies among them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import scipy.sparse as sp
from sklearn.cluster import MiniBatchKMeans
from sklearn.neighbors import NearestNeighbors

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating[Any]]

N_NEAR = 5
"""Landmarks that a cell is interpolated between."""


@dataclass(frozen=True)
class Landmarks:
    """Points with weights, and each cell as a mixture of its nearest points."""

    points: Floats
    """Landmarks x features."""
    weight: Floats
    """Share of the cells that each landmark stands for, (landmarks,)."""
    mixture: sp.csr_matrix
    """Cells x landmarks, rows of sum 1."""

    @classmethod
    def of(cls, X: Floats, n: int, rng: np.random.Generator) -> Self:
        """All cells, if there are no more than n, each mixed with its nearest; else k-means centres."""
        if len(X) <= n:
            weight = np.full(len(X), 1 / len(X), dtype=np.float32)
            return cls(X, weight, mixture(X, X))
        seed = int(rng.integers(2**31))
        means = MiniBatchKMeans(n, n_init=1, batch_size=max(4 * n, 1024), max_iter=20, random_state=seed).fit(X)
        kept, size = np.unique(means.labels_, return_counts=True)
        points = means.cluster_centers_[kept].astype(np.float32)
        return cls(points, (size / len(X)).astype(np.float32), mixture(X, points))

    def mean(self, values: Floats) -> Floats:
        """Values of the cells, averaged over those near each landmark, (landmarks, columns)."""
        total = np.asarray(self.mixture.sum(axis=0)).ravel()
        return (self.mixture.T @ values) / np.maximum(total, np.finfo(np.float32).tiny)[:, None]


def mixture(X: Floats, points: Floats) -> sp.csr_matrix:
    """Each row as a mixture of its nearest points, the nearer the more, (rows, points)."""
    distance, nearest = NearestNeighbors(n_neighbors=min(N_NEAR, len(points))).fit(points).kneighbors(X)
    square = distance**2
    share = np.exp(-(square - square[:, :1]) / np.maximum(square.mean(axis=1, keepdims=True), np.finfo(float).tiny))
    share = (share / share.sum(axis=1, keepdims=True)).astype(np.float32)
    rows = np.arange(0, nearest.size + 1, nearest.shape[1])
    return sp.csr_matrix((share.ravel(), nearest.ravel(), rows), shape=(len(X), len(points)))
