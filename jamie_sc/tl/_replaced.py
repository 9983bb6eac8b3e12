"""Cells some of whose features are replaced by a background, as the encoder reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import scipy.sparse as sp
from sklearn.utils import gen_batches

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from .._core._modalities import Modality
    from ..models._base import Model


FEATURE_BLOCK = 512
"""Features that are dense at a time."""


class Replaced:
    """What the encoder reads of the scored cells where some features are replaced.

    The way from scaled features to the encoder's input is linear, so that replacing the features of a set S adds
    (background - features)[:, S] axes[:, S]' to the input, and no cell needs to be read again.
    """

    def __init__(
        self,
        model: Model,
        data: Modality,
        rows: NDArray[np.intp],
        *,
        background: Literal["mean"] | int,
        keep: bool,
        rng: np.random.Generator,
    ) -> None:
        if not (background == "mean" or (isinstance(background, int | np.integer) and background > 0)):
            msg = f"background is 'mean' or a number of cells above 0, not {background!r}."
            raise ValueError(msg)
        self.model, self.name, self._keep = model, data.name, keep
        self._read, self._axes = model.modality(data.name).inputs, model.axes(data.name)
        self.n_features = data.X.shape[1]
        n_draws = 0 if background == "mean" else int(background)
        self._others = [rng.permutation(data.n_obs)[: len(rows)] for _ in range(n_draws)]
        X = data.X if n_draws else data.X[rows]
        logged = self._read.logged(X)
        self._logged: Any = logged.tocsc() if sp.issparse(logged) else logged  # columns are taken from it
        self._rows = rows if n_draws else np.arange(len(rows))
        every = model.inputs(data.name, X)
        self.inputs = every[self._rows]
        self._bare = [every[other] for other in self._others] or [np.zeros_like(self.inputs)]  # all features replaced

    def __call__(self, trials: Sequence[NDArray[np.intp]]) -> Iterator[NDArray[np.float32]]:
        """Inputs, (trials * cells, k), for each background in turn."""
        for draw, bare in enumerate(self._bare):
            steps = self._steps(trials, draw)
            yield (bare - steps if self._keep else self.inputs + steps).reshape(-1, bare.shape[1])

    def _steps(self, trials: Sequence[NDArray[np.intp]], draw: int) -> NDArray[np.float32]:
        """What replacing the features of each trial adds to the input, (trials, cells, k), a block of features at a time."""
        steps = np.zeros((len(trials), *self.inputs.shape), dtype=np.float32)
        features, place = np.unique(np.concatenate(trials), return_inverse=True)
        owner = np.repeat(np.arange(len(trials)), [len(t) for t in trials])
        for block in gen_batches(len(features), FEATURE_BLOCK):
            columns = features[block]
            step = self._step(columns, draw)
            within = (place >= block.start) & (place < block.stop)
            for trial in np.unique(owner[within]):
                at = place[within & (owner == trial)] - block.start
                steps[trial] += step[:, at] @ self._axes[:, columns[at]].T
        return steps

    def _step(self, columns: NDArray[np.intp], draw: int) -> NDArray[np.float32]:
        """Background minus own value of some features, (cells, columns)."""
        values = self._read.scaled(self._logged, columns)
        background = values[self._others[draw]] if self._others else self._read.average[columns]
        return background - values[self._rows]
