"""Intervals that hold: how far measured values lie from imputed ones, on cells that training did not see."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Self

import numpy as np
from scipy.stats import norm

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

LEVELS = np.array([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.975, 0.99])
"""Probabilities of the intervals that are kept; those between are interpolated."""
PRIOR_CELLS = 10
"""Weight, in cells, of the assumption that the error is the same in every cell."""
REACH = 4.0
"""A cell's expected error lies within the mean error over and times this."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """For each feature of a target imputed from a source, the error to expect in a cell and how it is distributed.

    The error expected of a cell is linear in its imputed value and in the standard deviation of its draws, both of which
    tell where a feature varies. Intervals are those of split conformal prediction with this error as the scale: half as wide
    as the quantile of |measured - imputed| / expected on cells that training did not see, times the error expected.
    """

    mean: NDArray[np.float32]
    """Of the imputed values and of the draws' standard deviations, (2, p)."""
    sd: NDArray[np.float32]
    """Of both over cells, (2, p)."""
    slope: NDArray[np.float32]
    """What the expected error gains with one standard deviation of each, (2, p)."""
    error: NDArray[np.float32]
    """Mean absolute error, (p,)."""
    quantiles: NDArray[np.float32]
    """Of the error over the error expected, for each of `LEVELS`, (levels, p)."""
    floor: NDArray[np.float32]
    """Lowest possible value, (p,): 0 for what is never measured below, else minus infinity."""

    @classmethod
    def fit(
        cls,
        measured: NDArray[np.float32],
        imputed: NDArray[np.float32],
        draws_sd: NDArray[np.float32],
        *,
        floor: NDArray[np.float32],
    ) -> Self:
        """Fit to cells that training did not see, (n, p) each."""
        n, errors = len(measured), np.abs(measured - imputed)
        signs = np.stack([imputed, draws_sd])
        mean, sd = signs.mean(axis=1), signs.std(axis=1)
        Z = (signs - mean[:, None]) / np.where(sd > 0, sd, 1)[:, None]
        error = errors.mean(axis=0)
        # ridge regression of the error on both signs, feature by feature: (Z'Z + prior)^-1 Z'e
        gram = np.einsum("anp,bnp->pab", Z, Z) + PRIOR_CELLS * np.eye(2)
        slope = np.linalg.solve(gram, np.einsum("anp,np->pa", Z, errors - error)[..., None])[..., 0].T
        fitted = cls(mean, sd, slope, error, np.empty((0, measured.shape[1]), np.float32), floor)
        expected = fitted.expected_error(imputed, draws_sd)
        ratios = np.sort(np.divide(errors, expected, out=np.zeros_like(errors), where=expected > 0), axis=0)
        rank = np.minimum(np.ceil((n + 1) * LEVELS[1:]), n).astype(
            np.intp
        )  # finite-sample quantile; at most the largest
        quantiles = np.concatenate([np.zeros_like(ratios[:1]), ratios[rank - 1]])
        return cls(*(np.asarray(v, dtype=np.float32) for v in (mean, sd, slope, error, quantiles, floor)))

    def expected_error(
        self, imputed: NDArray[np.float32], draws_sd: NDArray[np.float32], features: NDArray[np.intp] | None = None
    ) -> NDArray[np.float32]:
        """Mean absolute error to expect of each value, (n, p)."""
        columns = slice(None) if features is None else features
        error, gain = self.error[columns], (self.slope / np.where(self.sd > 0, self.sd, 1))[:, columns]
        expected = gain[0] * imputed  # as few matrices as it takes: they may be large
        expected += gain[1] * draws_sd
        expected += error - (gain * self.mean[:, columns]).sum(axis=0)
        return np.clip(expected, error / REACH, error * REACH, out=expected)

    def interval(
        self,
        imputed: NDArray[np.float32],
        draws_sd: NDArray[np.float32],
        *,
        level: float,
        features: NDArray[np.intp] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Bounds between which the measured value lies with probability `level`, (n, p) each."""
        columns = slice(None) if features is None else features
        width = self._quantile(level)[columns] * self.expected_error(imputed, draws_sd, features)
        floor = self.floor[columns]
        return np.maximum(imputed - width, floor), np.maximum(imputed + width, floor)

    def predicted_sd(
        self, imputed: NDArray[np.float32], draws_sd: NDArray[np.float32], features: NDArray[np.intp] | None = None
    ) -> NDArray[np.float32]:
        """Standard deviation of the normal distribution that has the same 80 % interval, (n, p)."""
        columns = slice(None) if features is None else features
        unit = np.float32(norm.ppf(0.9))
        return self._quantile(0.8)[columns] / unit * self.expected_error(imputed, draws_sd, features)

    def _quantile(self, level: float) -> NDArray[np.float32]:
        """Interpolated between `LEVELS`, (p,)."""
        if not 0 < level <= LEVELS[-1]:
            msg = f"The probability of an interval is above 0 and at most {LEVELS[-1]}, not {level}."
            raise ValueError(msg)
        upper = int(np.searchsorted(LEVELS, level))
        weight = np.float32((level - LEVELS[upper - 1]) / (LEVELS[upper] - LEVELS[upper - 1]))
        return (1 - weight) * self.quantiles[upper - 1] + weight * self.quantiles[upper]

    # As data -------------------------------------------------------------------------------------------------------

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Every array by its name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray]) -> Self:
        """What `arrays` gave."""
        return cls(**{f.name: np.asarray(arrays[f.name]) for f in fields(cls)})
