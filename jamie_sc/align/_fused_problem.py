"""Fused Gromov-Wasserstein on two small sets of points, by projected gradients."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.floating[Any]]

NOISE, LINEAR_NOISE = 0.2, 0.4
"""Epsilon in units of the two terms that a coupling leaves: half the distortion, and the linear cost."""
TINY = np.finfo(np.float32).tiny
ABSORB = 1e6
"""Scalings beyond that are taken off the cost."""
LEAST_EPSILON = 5e-4
"""What single precision bears."""


@dataclass(frozen=True)
class Plan:
    """A coupling, and how it came about."""

    coupling: Floats
    objective: float
    epsilon: float
    n_iter: int
    converged: bool


@dataclass(frozen=True)
class FusedProblem:
    """Two geometries with weights, and what is known otherwise of matching their points.

    Minimises (1 - trust) / 2 sum (A_ik - B_jl)^2 T_ij T_kl + trust sum linear_ij T_ij - epsilon H(T) over the couplings T
    with row sums p and column sums q.
    """

    A: Floats
    B: Floats
    p: Floats
    q: Floats
    linear: Floats | None = None
    """Cost of matching point i of A with point j of B."""
    trust: float = 0.0
    """Weight of the linear cost; the distances have the rest."""
    slack: float | None = None
    """Cost of column sums that differ from q (Kullback-Leibler); None forbids it."""

    @cached_property
    def squares(self) -> tuple[Floats, Floats]:
        """Squared distances."""
        return self.A**2, self.B**2

    def distortion(self, T: Floats, half: Floats | None = None) -> float:
        """Sum of (A_ik - B_jl)^2 T_ij T_kl; `half` is A T B."""
        half = self.A @ T @ self.B if half is None else half
        rows, columns = T.sum(axis=1), T.sum(axis=0)
        squares = rows @ self.squares[0] @ rows + columns @ self.squares[1] @ columns
        return float(squares - 2 * np.vdot(half, T))

    def objective(self, T: Floats, half: Floats | None = None) -> float:
        """What is minimised, but for the entropy."""
        return sum(self._terms(T, half))

    def noise(self, T: Floats, half: Floats | None = None) -> float:
        """The epsilon that fits a coupling: what it does not explain is noise, and blurs the matches as much."""
        distorted, cost = self._terms(T, half)
        return max(NOISE * distorted + LINEAR_NOISE * cost, LEAST_EPSILON)

    def _terms(self, T: Floats, half: Floats | None) -> tuple[float, float]:
        """Half the distortion and the linear cost, weighted."""
        cost = 0.0 if self.linear is None else self.trust * float(np.vdot(self.linear, T))
        return 0.5 * (1 - self.trust) * self.distortion(T, half), cost

    def descend(self, T: Floats, epsilon: float, *, n_iter: int, adapt: bool = False) -> Plan:
        """Projected gradients from T, at one epsilon or, to adapt, until epsilon is what the noise says."""
        half = self.A @ T @ self.B
        n, settled = 0, False
        while n < n_iter and not settled:
            last, T = T, self._project(self._gradient(T, half), np.float32(epsilon))
            half = self.A @ T @ self.B
            n, settled = n + 1, float(np.abs(T - last).sum()) < 1e-3
            if adapt:
                wanted = self.noise(T, half)
                settled &= abs(wanted - epsilon) < 0.05 * epsilon
                epsilon = epsilon if settled else max(wanted, 0.7 * epsilon)
        if adapt:  # what is reported has the marginals it should have
            T = self._project(self._gradient(T, half), np.float32(epsilon), n_iter=1_000)
        return Plan(T, self.objective(T), float(epsilon), n, settled)

    def _gradient(self, T: Floats, half: Floats) -> Floats:
        """Of the objective."""
        square_a, square_b = self.squares
        gradient = (square_a @ T.sum(axis=1))[:, None] + square_b @ T.sum(axis=0) - 2 * half
        return gradient if self.linear is None else (1 - self.trust) * gradient + self.trust * self.linear

    def _project(self, cost: Floats, epsilon: np.float32, *, n_iter: int = 50) -> Floats:
        """The coupling of least cost and most entropy, near its marginals after a few iterations."""
        if self.slack is not None:
            return self._relaxed(cost, epsilon, self.slack, n_iter=n_iter)
        # One exact step in logarithms first, rows, then columns, so that nothing under- or overflows to begin with.
        cost = cost - soft_minimum(cost - epsilon * np.log(self.q), epsilon, axis=1) - epsilon * np.log(self.p)[:, None]
        cost = cost - soft_minimum(cost, epsilon, axis=0) - epsilon * np.log(self.q)
        return sinkhorn(cost, self.p, self.q, epsilon, n_iter=n_iter)

    def _relaxed(self, cost: Floats, epsilon: np.float32, slack: float, *, n_iter: int) -> Floats:
        """The same where column sums are free at a price; POT's unbalanced Sinkhorn loses mass at small epsilon."""
        cost = cost - epsilon * np.log(self.q)
        rows, columns = epsilon * np.log(self.p)[:, None], epsilon * np.log(self.q)
        share = np.float32(slack / (slack + epsilon))
        g = np.zeros((1, len(self.q)), dtype=np.float32)
        for _ in range(n_iter):
            f = soft_minimum(cost - g, epsilon, axis=1) + rows
            last, g = g, share * (soft_minimum(cost - f, epsilon, axis=0) + columns)
            if np.abs(g - last).max() < 1e-3 * epsilon:
                break
        f = soft_minimum(cost - g, epsilon, axis=1) + rows
        return np.exp((f + g - cost) / epsilon)


def sinkhorn(cost: Floats, p: Floats, q: Floats, epsilon: np.float32, *, n_iter: int, tol: float = 1e-3) -> Floats:
    """Sinkhorn's scalings of exp(-cost / epsilon), taken off the cost before they leave single precision.

    POT's `ot.sinkhorn` overflows at the epsilons needed here, and in logarithms it takes twenty times as long.
    """
    u, v, kernel = np.ones_like(p), np.ones_like(q), np.exp(-cost / epsilon)
    for step in range(1, n_iter + 1):
        u = p / np.maximum(kernel @ v, TINY)
        v = q / np.maximum(u @ kernel, TINY)
        if step % 10:
            continue
        if np.abs(u * (kernel @ v) / p - 1).max() < tol:
            break
        if max(u.max() * p.min(), v.max() * q.min()) > ABSORB:
            cost = cost - epsilon * np.log(u)[:, None] - epsilon * np.log(v)
            u, v, kernel = np.ones_like(p), np.ones_like(q), np.exp(-cost / epsilon)
    return u[:, None] * kernel * v


def soft_minimum(cost: Floats, epsilon: np.float32, axis: int) -> Floats:
    """-epsilon log sum exp(-cost / epsilon) along an axis, which is kept."""
    least = cost.min(axis=axis, keepdims=True)
    return least - epsilon * np.log(np.exp((least - cost) / epsilon).sum(axis=axis, keepdims=True))
