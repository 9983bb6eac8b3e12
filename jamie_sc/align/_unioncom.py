"""Correspondence of unpaired cells by the primal-dual method of UnionCom."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np
from tqdm.auto import tqdm

from .._logging import logger
from ._inputs import read_one_to_one
from ._solution import Solution

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch
    from numpy.typing import ArrayLike, NDArray

BETA_1, BETA_2, DELTA = 0.9, 0.999, 1e-7  # Adam, as published
BLOCK_VALUES, BLOCK_ROWS = 2**20, 256  # rows at a time: few enough for the cache, enough for a fast matrix product
LOOK, LOOKS = 20, 6  # iterations between two looks at the stopping rule, and looks in its window
MET, APART = 0.01, 0.03  # residuals of a coupling that meets the constraints, and of one that came apart again
LARGE = 5000  # cells from which the log tells the cost
ASYMMETRY = 1e-5  # what rounding may do to a distance matrix, relative to its largest entry


def unioncom(
    K_x: ArrayLike,
    K_y: ArrayLike,
    *,
    scale: float | None = None,
    known: ArrayLike | None = None,
    max_iter: int = 2000,
    tol: float | None = 1e-3,
    rho: float = 10.0,
    epsilon: float = 0.01,
    progress: bool | None = None,
) -> Solution:
    r"""Match cells by their distances within each modality (JAMIE equation 8).

    Minimises over :math:`\alpha \ge 0` and :math:`\tilde F \ge 0`

    .. math::
        \lVert \alpha K_X - \tilde F K_Y \tilde F^\top \rVert_F^2
        \quad\text{with}\quad \tilde F 1 = 1, \quad \tilde F^\top 1 \le 1

    by UnionCom's primal-dual method: the same iterates as the published code, from three matrix products an iteration.
    Each cell of the *smaller* modality is matched in full. Where `K_x` has more cells than `K_y` no
    :math:`\tilde F` can do that, so the two trade places: the problem solved is
    :math:`\lVert \alpha K_Y - \tilde F^\top K_X \tilde F \rVert_F^2`, the columns of the coupling sum to 1 and its rows
    to at most 1.

    Parameters
    ----------
    K_x
        Distances between the cells of the first modality (n_x x n_x), such as geodesic ones. The method divides them
        by :math:`\max(n_x, n_y)`, as the published code does. It is not free of scale: `rho` is meant for distances of
        the order of 1 to 10.
    K_y
        Distances between the cells of the second modality (n_y x n_y).
    scale
        The first :math:`\alpha`; :math:`\sqrt{d_y / d_x}` of the numbers of features in the published code, 1 by
        default. :math:`\alpha` has a closed form from the first iteration on, and before it :math:`\tilde F = 0` hides
        :math:`\alpha`: this changes something only with `known` cells.
    known
        Pairs of cells known to correspond (pairs x 2: row of `K_x`, row of `K_y`). They are clamped: their entry of
        the coupling is 1 and the rest of its row and of its column is 0, at every iterate.
    max_iter
        Largest number of iterations. The published number, 2000, ends before the coupling is sharp.
    tol
        Stop when the objective moved by less than this (relative) over the last 100 iterations and both residuals are
        below 0.01. The iterations also stop when a coupling that had met the constraints so far comes apart, and then
        the best one is returned: after some 3000 iterations Adam has forgotten the first, large gradients, and its
        steps may become too long. None or 0 runs all iterations whatever happens, and returns the last.
    rho
        Weight of the constraints' quadratic penalty.
    epsilon
        Step length of the coupling, the slack and the dual variables, from 0 to 1.
    progress
        Show a progress bar. By default, if the output is a terminal.

    Returns
    -------
    The coupling (float32), its objective with the best :math:`\alpha`, and how far it is from meeting the constraints.

    Raises
    ------
    ValueError
        If a matrix is not one of distances (square, symmetric, finite, not negative, not all zero), if a known pair
        does not exist or a cell is in two of them, or if another argument is out of its range.
    FloatingPointError
        If the iterates overflow, as they do from very large distances.

    Notes
    -----
    An iteration takes :math:`2 n m^2 + 4 n^2 m` floating-point operations for :math:`n \le m` cells, and memory for
    four matrices (five with `tol`) of n x m, two of n x n and one of m x m in float32.

    Examples
    --------
    >>> import numpy as np
    >>> import jamie_sc as jsc
    >>> x = np.array([0.0, 1.0, 3.0, 7.0])
    >>> y = x[[2, 0, 3, 1]]
    >>> solution = jsc.align.unioncom(abs(x[:, None] - x), abs(y[:, None] - y))
    >>> x - y[solution.coupling.argmax(axis=1)]
    array([0., 0., 0., 0.])
    """
    distances = _distances(K_x, "K_x"), _distances(K_y, "K_y")
    n_x, n_y = map(len, distances)
    pairs = read_one_to_one(known, (n_x, n_y), option="known", names=("K_x", "K_y"))
    _check_options(scale=scale, max_iter=max_iter, tol=tol, rho=rho, epsilon=epsilon)
    swap = n_x > n_y
    if swap:
        distances, pairs = distances[::-1], pairs[:, ::-1]
    _log_cost(min(n_x, n_y), max(n_x, n_y), max_iter)
    state = _PrimalDual(*distances, pairs, alpha=1.0 if scale is None else scale, rho=rho, epsilon=epsilon)
    watch = _Watch(tol) if tol else None
    with tqdm(total=max_iter, desc="unioncom", disable=None if progress is None else not progress) as bar:
        while state.n_iter < max_iter and not (watch and watch.stops(state)):
            state.step()
            bar.update()
    if not np.isfinite([state.objective(), float(state.second.max())]).all():
        msg = "The iterates overflowed. Divide the distances, so that they are of the order of 1."
        raise FloatingPointError(msg)
    coupling, residuals = state.F.numpy(), state.residuals()
    if swap:
        coupling, residuals = coupling.T, residuals[::-1]
    return Solution(coupling, state.objective(), *residuals, state.n_iter, watch is not None and watch.converged)


class _PrimalDual:
    """The iterates for n <= m cells: F, alpha, the slack of the columns, the dual variables and Adam's moments."""

    def __init__(
        self,
        K_x: NDArray,
        K_y: NDArray,
        pairs: NDArray[np.int64],
        *,
        alpha: float,
        rho: float,
        epsilon: float,
    ) -> None:
        import torch

        def zeros(*shape: int) -> torch.Tensor:
            return torch.zeros(shape, dtype=torch.float32, device="cpu")

        n, m = len(K_x), len(K_y)
        self.alpha, self.rho, self.epsilon, self.n_iter, self.pairs = alpha, rho, epsilon, 0, pairs
        self.K_x, self.K_y = (_over(K, m) for K in (K_x, K_y))
        self.F, self.A, self.first, self.second = (zeros(n, m) for _ in range(4))
        self.R = zeros(n, n)
        self.mu, self.lambda_, self.slack = zeros(n), zeros(m), zeros(m)
        height = min(n, max(BLOCK_ROWS, BLOCK_VALUES // m))
        self.blocks = [slice(start, min(start + height, n)) for start in range(0, n, height)]
        self.G = zeros(height, m)
        self.known = [
            pairs[(rows.start <= pairs[:, 0]) & (pairs[:, 0] < rows.stop), 0] - rows.start for rows in self.blocks
        ]
        self.F[pairs[:, 0], pairs[:, 1]] = 1
        self.norm = _inner(self.K_x, self.K_x, self.blocks)  # tr(K_x^2)
        self.look_at(alpha)

    def look_at(self, alpha: float | None = None) -> None:
        """Bring what depends on F up to date: its sums, A = F K_y, alpha and the residual R = A F' - alpha K_x."""
        import torch

        self.row_sums, self.column_sums = self.F.sum(1), self.F.sum(0)
        torch.mm(self.F, self.K_y, out=self.A)
        torch.mm(self.A, self.F.T, out=self.R)
        # Not negative, as none of its factors is.
        self.alpha = _inner(self.K_x, self.R, self.blocks) / self.norm if alpha is None else alpha
        self.R.sub_(self.K_x, alpha=self.alpha)

    def step(self) -> None:
        """One iteration."""
        self.n_iter += 1
        for rows, known in zip(self.blocks, self.known, strict=True):
            self._step_rows(rows, known)
        self.look_at()
        excess = self.column_sums - 1 + self.slack
        target = (self.slack - self.lambda_ - self.rho * excess).clamp_(min=0)
        change = self.epsilon * (target - self.slack)
        self.slack += change
        self.mu.add_(self.row_sums - 1, alpha=self.epsilon)
        self.lambda_.add_(excess + change, alpha=self.epsilon)

    def _step_rows(self, rows: slice, known: NDArray[np.int64]) -> None:
        import torch

        F, first, second, G = self.F[rows], self.first[rows], self.second[rows], self.G[: rows.stop - rows.start]
        # The objective's gradient is 4 R F K_y: that is 4 (F K_y F' F K_y - alpha K_x F K_y) without the two large terms.
        by_row = self.mu[rows] + self.rho * (self.row_sums[rows] - 1)
        by_column = self.lambda_ + self.rho * (self.column_sums + self.slack - 1)
        torch.addmm(by_column, self.R[rows], self.A, alpha=4, out=G).add_(by_row[:, None])
        if len(self.pairs):
            G[known] = 0
            G[:, self.pairs[:, 1]] = 0
        first.lerp_(G, 1 - BETA_1)
        second.mul_(BETA_2).addcmul_(G, G, value=1 - BETA_2)
        # Both bias corrections are numbers: they need no pass over a matrix.
        root = (1 - BETA_2**self.n_iter) ** 0.5
        torch.sqrt(second, out=G).add_(DELTA * root)
        torch.addcdiv(F, first, G, value=-root / (1 - BETA_1**self.n_iter), out=G).clamp_(min=0)
        F.lerp_(G, self.epsilon)

    def objective(self) -> float:
        """Equation 8 at F, in the units of the distances before their division."""
        return len(self.K_y) ** 2 * _inner(self.R, self.R, self.blocks)

    def residuals(self) -> tuple[float, float]:
        """How far the rows' sums are from 1, and the columns' sums above 1."""
        rows, columns = (self.row_sums - 1).abs().max(), (self.column_sums - 1).clamp(min=0).max()
        return float(rows), float(columns)


class _Watch:
    """The stopping rule; keeps the best coupling that met the constraints, for when they come apart."""

    def __init__(self, tol: float) -> None:
        self.converged = False
        self._tol, self._lowest = tol, float("inf")
        self._objectives: deque[float] = deque(maxlen=LOOKS)
        self._best: torch.Tensor | None = None

    def stops(self, state: _PrimalDual) -> bool:
        """Whether to end here; puts the best coupling back if that is for coming apart."""
        if state.n_iter == 0 or state.n_iter % LOOK:
            return False
        objective, residual = state.objective(), max(state.residuals())
        self._objectives.append(objective)
        if residual <= MET:
            spread = max(self._objectives) - min(self._objectives)
            self.converged = len(self._objectives) == LOOKS and spread <= self._tol * max(self._objectives)
            self._keep(state, objective)
        elif self._best is not None and residual > APART:
            logger.warning("unioncom came apart at iteration %d: its best coupling so far is kept", state.n_iter)
            state.F.copy_(self._best)
            state.look_at()
            return True
        return self.converged

    def _keep(self, state: _PrimalDual, objective: float) -> None:
        if objective < self._lowest:
            self._lowest = objective
            self._best = state.F.clone() if self._best is None else self._best.copy_(state.F)


def _inner(a: torch.Tensor, b: torch.Tensor, blocks: Sequence[slice]) -> float:
    """Sum of a * b without their product; in float64 over the blocks."""
    return sum(float(a[rows].view(-1).dot(b[rows].view(-1))) for rows in blocks)


def _over(K: NDArray, n_cells: int) -> torch.Tensor:
    """K / n_cells in float32, rounded once."""
    import torch

    out = np.empty(K.shape, dtype=np.float32)
    return torch.from_numpy(np.divide(K, n_cells, out=out, casting="same_kind"))


def _distances(values: ArrayLike, name: str) -> NDArray:
    K = np.asarray(values)
    if K.ndim != 2 or K.shape[0] != K.shape[1] or not K.size:
        msg = f"{name} must be a square matrix of distances between cells, not an array of shape {K.shape}."
        raise ValueError(msg)
    K = K if K.dtype in (np.float32, np.float64) else K.astype(np.float64)
    largest = K.max()  # NaN if there is one
    if not np.isfinite(largest) or not np.isfinite(K.min()):
        msg = f"{name} has NaN or infinite distances. Is its neighbour graph connected?"
        raise ValueError(msg)
    if K.min() < 0:
        msg = f"{name} has negative distances, the smallest {K.min():.3g}."
        raise ValueError(msg)
    if largest == 0:
        msg = f"All distances in {name} are 0: nothing tells its {len(K)} cells apart."
        raise ValueError(msg)
    if any(np.abs(K[i : i + 64] - K[:, i : i + 64].T).max() > ASYMMETRY * largest for i in range(0, len(K), 64)):
        msg = f"{name} is not symmetric: symmetrise it, for example np.maximum(K, K.T)."
        raise ValueError(msg)
    return K


def _check_options(*, scale: float | None, max_iter: int, tol: float | None, rho: float, epsilon: float) -> None:
    rules = {
        "scale": (scale, "a number of at least 0", scale is None or 0 <= scale < np.inf),
        "max_iter": (max_iter, "at least 1", max_iter >= 1),
        "tol": (tol, "None or at least 0", tol is None or tol >= 0),
        "rho": (rho, "above 0", 0 < rho < np.inf),
        "epsilon": (epsilon, "above 0 and at most 1", 0 < epsilon <= 1),
    }
    for name, (value, rule, holds) in rules.items():
        if not holds:
            msg = f"{name} must be {rule}, not {value!r}."
            raise ValueError(msg)


def _log_cost(n: int, m: int, max_iter: int) -> None:
    if m < LARGE:
        return
    operations, memory = 2 * n * m**2 + 4 * n**2 * m, 4 * (5 * n * m + 2 * n**2 + m**2)
    logger.info(
        "unioncom on %d x %d cells: %.3g floating-point operations in %d iterations, %.1f GB of memory",
        n,
        m,
        operations * max_iter,
        max_iter,
        memory / 1e9,
    )
