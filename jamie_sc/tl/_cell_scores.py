"""Scores that are means over cells: how well labels are told, how well features are imputed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.neighbors import KNeighborsClassifier

from .._core._modalities import dense, some
from .._core._obs import obs_column
from ._read import columns_of, read_for_model

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mudata import MuData
    from numpy.typing import NDArray

    from .._core._modalities import Modality
    from ..models._base import Model


@dataclass(frozen=True)
class CellScore:
    """A score that is a mean over cells."""

    rows: NDArray[np.intp]
    """Cells of the source that are scored."""
    parts: Callable[[NDArray[np.float32]], NDArray[np.float64]]
    """Latents, (trials * cells, g), to each cell's part in the score, (trials, cells)."""
    width: int
    """Values a cell that this takes."""
    n_targets: int = 0
    """Features that the score is the mean over."""


def label_transfer(
    mdata: MuData, model: Model, data: Modality, target: str, labels_key: str, cells: Sequence[str] | None
) -> CellScore:
    """Label transfer accuracy (section 4.9): a cell's part is 1 if its label is told, else 0."""
    other = read_for_model(mdata, model, target)
    labels, known = (obs_column(mdata, m.name, labels_key).loc[m.obs_names] for m in (data, other))
    at = known.notna().to_numpy()
    rows = _wanted(data, cells, labels.notna().to_numpy(), f"a label in obs[{labels_key!r}]")
    if not len(rows) or not len(np.intersect1d(labels.iloc[rows].astype(str), known[at].astype(str))):
        msg = f"{data.name!r} and {target!r} have no label of obs[{labels_key!r}] in common, so none can be told."
        raise ValueError(msg)
    codes, classes = pd.factorize(np.concatenate([labels.iloc[rows].astype(str), known[at].astype(str)]), sort=True)
    truth, taught = codes[: len(rows)], codes[len(rows) :]
    latents = model.embed(model.encode(target, other.X, other.rep))[at]
    k = max(1, int(0.2 * min(len(rows), len(latents)) / len(classes)))  # as metrics.label_transfer_accuracy
    classifier = KNeighborsClassifier(k).fit(latents, taught)

    def parts(latent: NDArray[np.float32]) -> NDArray[np.float64]:
        told = classifier.predict(model.embed(latent)).reshape(-1, len(rows))
        return (told == truth).astype(np.float64)

    return CellScore(rows, parts, latents.shape[1])


def correlation(
    mdata: MuData,
    model: Model,
    data: Modality,
    target: str,
    features: str | Sequence[str] | None,
    cells: Sequence[str] | None,
) -> CellScore:
    """Pearson's correlation r of imputed and measured: a cell's part is r and its influence on it (Hampel 1974).

    With both standardised to x and y that is r + xy - r (x^2 + y^2) / 2: its mean is r, its spread the standard error of r.
    """
    columns, names = columns_of(model, target, features)
    other = read_for_model(mdata, model, target)
    partner = other.obs_names.get_indexer(data.obs_names)
    rows = _wanted(data, cells, partner >= 0, f"measured values in {target!r}")
    if len(rows) < 3:
        msg = f"{len(rows)} cells are measured in both {data.name!r} and {target!r}: a correlation takes 3 at least."
        raise ValueError(msg)
    chosen: Any = other.X[partner[rows]]
    chosen = chosen if columns is None else chosen[:, columns]
    measured = _unit(dense(chosen).astype(np.float64))
    scored = data.take(rows)
    noise = 1e-4 * model.decode(target, model.encode(data.name, scored.X, scored.rep), columns).std(
        axis=0
    )  # of sums of float32

    def parts(latent: NDArray[np.float32]) -> NDArray[np.float64]:
        imputed = model.decode(target, latent, columns).reshape(-1, len(rows), len(names))
        x = _unit(imputed.astype(np.float64), axis=1, noise=noise)
        r = (x * measured).mean(axis=1, keepdims=True)
        return (r + x * measured - r * (x**2 + measured**2) / 2).mean(axis=2)

    return CellScore(rows, parts, len(names), n_targets=len(names))


def _unit(values: NDArray[np.float64], axis: int = 0, noise: float | NDArray[np.float32] = 0) -> NDArray[np.float64]:
    """Standardised over cells; zero where nothing varies by more than `noise`."""
    centred = values - values.mean(axis=axis, keepdims=True)
    sd = centred.std(axis=axis, keepdims=True)
    varies = (sd > noise) & (np.ptp(values, axis=axis, keepdims=True) > 0)
    return np.divide(centred, sd, out=np.zeros_like(centred), where=varies)


def _wanted(data: Modality, cells: Sequence[str] | None, able: NDArray[np.bool_], what: str) -> NDArray[np.intp]:
    """Rows of the cells to score: those named, or all that have what it takes."""
    if cells is None:
        return np.flatnonzero(able)
    if isinstance(cells, str) or len(cells) < 2:
        cells = [cells] if isinstance(cells, str) else cells
        msg = f"cells holds {len(cells)} names: a score takes two cells at least."
        raise ValueError(msg)
    names = pd.Index(cells)
    rows = data.obs_names.get_indexer(names)
    if (missing := (rows < 0) | ~able[rows]).any():
        msg = (
            f"{missing.sum()} of the cells given have no values in {data.name!r} or not {what}: {some(names[missing])}."
        )
        raise KeyError(msg)
    return rows
