"""What the model and the baselines say of cells held out, and how far that is from what was measured."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.compose import TransformedTargetRegressor
from sklearn.linear_model import RidgeCV
from sklearn.neighbors import KNeighborsRegressor
from sklearn.preprocessing import StandardScaler

from .. import metrics
from .._core._modalities import dense
from .._core._obs import obs_column
from ..models._reducers import Reducer
from ._calibrate import N_DRAWS
from ._conditions import conditions_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mudata import MuData
    from numpy.typing import NDArray

    from .._core._modalities import Modality
    from ..models._base import Conditions, Model

METRICS = {"pearson": 1, "auroc": 1, "rmse": -1, "js_distance": -1}
"""Scores of a feature: 1 where more is better, -1 where less is."""
COVERAGE = {"coverage_50": 0.5, "coverage_80": 0.8, "coverage_95": 0.95}
"""Columns of how often intervals hold, and the probability with which they should."""
BASELINES = ("knn", "ridge")
PENALTIES = np.logspace(-1, 5, 13)
"""Among which ridge regression chooses, by leave-one-out errors."""
MOST_COMPONENTS = 100
"""Of the source, for ridge regression."""
CLIP = 5.0
"""Standard deviations from the mean at which the source's features are clipped, for the same."""
FEWEST_FOR_RIDGE = 3
"""Pairs."""


@dataclass(frozen=True)
class HeldOut:
    """Cells held out: what was measured in the target, and what each method makes of the source."""

    features: pd.Index
    measured: NDArray[np.float32]
    imputed: dict[str, NDArray[Any] | None]
    """By each method, the model first; None where too few pairs are left for it."""
    covered: dict[str, NDArray[np.bool_]]
    """For each column of `COVERAGE`, whether the model's interval holds the value; empty where it was not calibrated."""
    sd: NDArray[np.float64]
    """Standard deviation of each feature among the training cells; NaN where it is constant."""
    labels: NDArray[np.object_]
    """Of each cell, None for a cell without; the same for all where labels are not asked for."""
    alignment: dict[str, float]
    """LTA and FOSCTTM."""

    @property
    def model(self) -> str:
        """Name of the model, among the methods."""
        return next(iter(self.imputed))

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which cells have a label."""
        return pd.notna(self.labels)

    def distances(self, method: str) -> pd.DataFrame:
        """JS distance of each feature (rows) within each label (columns)."""
        imputed, known = self.imputed[method], self.known
        if imputed is None or not known.any():
            return pd.DataFrame(np.nan, index=range(len(self.features)), columns=sorted(set(self.labels[known])))
        return metrics.js_distance(self.measured[known], imputed[known], labels=self.labels[known])

    def rmse(self, method: str, cells: NDArray[np.bool_] | slice = slice(None)) -> NDArray[np.float64]:
        """Root of the mean squared error of each feature, in standard deviations."""
        imputed = self.imputed[method]
        if imputed is None:
            return np.full(len(self.features), np.nan)
        return np.sqrt(np.mean(np.square((imputed[cells] - self.measured[cells]) / self.sd), axis=0))

    def coverage(self, method: str, cells: NDArray[np.bool_] | slice = slice(None)) -> dict[str, Any]:
        """Fraction of cells whose interval holds the value, for each feature; NaN for a method that gives no intervals."""
        found = {name: held[cells].mean(axis=0) for name, held in self.covered.items() if method == self.model}
        return dict.fromkeys(COVERAGE, np.nan) | found


def predict(
    mdata: MuData,
    model: Model,
    source: Modality,
    target: Modality,
    test: pd.Index,
    pairs: pd.Index,
    labels_key: str | None,
    *,
    k: int,
    seed: int,
) -> HeldOut:
    """Embed and impute the held-out cells; cells of both modalities are taken by name, in the same order."""
    held = [m.take(m.obs_names.get_indexer(test)) for m in (source, target)]
    known, theirs = (m.take(m.obs_names.get_indexer(pairs)).X for m in (source, target))
    latents = [model.encode(m.name, m.X, m.rep) for m in held]
    given = conditions_of(mdata, model, held[0], target.name)
    X, measured, theirs = held[0].X, dense(held[1].X), dense(theirs)
    train = target.X[~target.obs_names.isin(test)]
    labels = [_labels(mdata, m.name, labels_key).loc[test] for m in (source, target)]
    return HeldOut(
        features=target.var_names,
        measured=measured,
        imputed={
            model.name: model.decode(target.name, latents[0], conditions=given),
            "knn": _nearest(known, theirs, X, k) if len(pairs) >= k else None,
            "ridge": _ridge(known, theirs, X) if len(pairs) >= max(k, FEWEST_FOR_RIDGE) else None,
        },
        covered=_covered(model, held[0], target.name, measured, given, seed),
        sd=_spread(train),
        labels=labels[1].where(labels[1].notna(), None).to_numpy(),
        alignment=_alignment([model.embed(latent) for latent in latents], None if labels_key is None else labels),
    )


def _labels(mdata: MuData, name: str, key: str | None) -> pd.Series:
    """Label of each cell of a modality as a string; one for all without a key."""
    if key is None:
        return pd.Series("all", mdata.mod[name].obs_names, dtype=object)
    column = obs_column(mdata, name, key).astype(object)
    return column.where(column.isna(), column.astype(str))


def _alignment(embedded: list[NDArray[np.float32]], labels: list[pd.Series] | None) -> dict[str, float]:
    lta = np.nan
    if labels is not None:
        lta = metrics.label_transfer_accuracy(*embedded, *(column.astype(str).to_numpy() for column in labels))
    return {"lta": lta, "foscttm": metrics.foscttm(*embedded)}


def _covered(
    model: Model, source: Modality, target: str, measured: NDArray[np.float32], given: Conditions, seed: int
) -> dict[str, NDArray[np.bool_]]:
    """Whether measured values lie within the intervals that `tl.impute` would write."""
    calibration = model.calibrations.get((source.name, target))
    if calibration is None:
        return {}
    how: dict[str, Any] = {"conditions": given, "n_samples": N_DRAWS, "seed": seed}
    mean, sd = model.sample(source.name, target, source.X, source.rep, **how)
    interval = partial(calibration.interval, mean, sd)
    bounds = {name: interval(level=level) for name, level in COVERAGE.items()}
    return {name: (low <= measured) & (measured <= high) for name, (low, high) in bounds.items()}


def _nearest(X: Any, Y: NDArray[np.float32], X_new: Any, k: int) -> NDArray[Any]:
    """The paper's baseline: average of the k nearest training cells, in the source's standardised features."""
    scaler = StandardScaler(with_mean=False).fit(X)
    return KNeighborsRegressor(k).fit(scaler.transform(X), Y).predict(scaler.transform(X_new))


def _ridge(X: Any, Y: NDArray[np.float32], X_new: Any) -> NDArray[Any]:
    """Ridge regression of the standardised target on components of the source, as the default recipe's encoder reads it."""
    reducer = Reducer.fit_inputs(X, n_components=MOST_COMPONENTS, clip=CLIP, own_units=True)
    unit = np.sqrt(reducer.variance.mean()) or 1  # so that penalties mean the same for all units
    model = TransformedTargetRegressor(RidgeCV(PENALTIES), transformer=StandardScaler(), check_inverse=False)
    return model.fit(reducer.transform(X) / unit, Y).predict(reducer.transform(X_new) / unit)


def _spread(X: Any) -> NDArray[np.float64]:
    """Standard deviation of each feature; NaN where it is constant."""
    scaler = StandardScaler(with_mean=False).fit(X)
    sd = np.sqrt(scaler.var_)
    return np.where(scaler.scale_ == sd, sd, np.nan)


# Rows ---------------------------------------------------------------------------------------------------------------


def _by_run(found: HeldOut) -> Iterator[dict[Any, Any]]:
    """One row: means over features, and tests against the nearest neighbours."""
    ours, *baselines = (_of_features(found, method) for method in found.imputed)
    row: dict[str, Any] = dict(found.alignment)
    for metric, sign in METRICS.items():
        row[metric] = ours[metric].mean()
        row |= {f"{metric}_{name}": table[metric].mean() for name, table in zip(BASELINES, baselines, strict=True)}
        row |= {f"{metric}_better": np.nan, f"{metric}_pvalue": np.nan}
        if found.imputed["knn"] is not None:
            test = metrics.sign_test(sign * ours[metric], sign * baselines[0][metric])
            row |= {f"{metric}_better": test.n_better, f"{metric}_pvalue": test.pvalue}
    yield row | {"n_features": len(ours)} | ours[list(COVERAGE)].mean().to_dict()


def _by_feature(found: HeldOut) -> Iterator[dict[Any, Any]]:
    """A row for each feature and method."""
    for method in found.imputed:
        table = _of_features(found, method).rename_axis("feature").reset_index()
        table.insert(1, "method", method)
        yield from table.to_dict("records")


def _of_features(found: HeldOut, method: str) -> pd.DataFrame:
    """Scores of each feature (rows) by one method."""
    scores: dict[str, Any] = {"pearson": np.nan, "auroc": np.nan}
    if (imputed := found.imputed[method]) is not None:
        scores = {name: getattr(metrics, name)(found.measured, imputed) for name in scores}
    scores |= {"rmse": found.rmse(method), "js_distance": found.distances(method).mean(axis=1).to_numpy()}
    return pd.DataFrame(scores | found.coverage(method), index=found.features)


def _by_label(found: HeldOut) -> Iterator[dict[Any, Any]]:
    """A row for each label and method."""
    for method in found.imputed:
        for label, distances in found.distances(method).items():
            cells = found.labels == label
            row = {"label": label, "method": method, "n_test": cells.sum(), "js_distance": distances.mean()}
            coverage = {name: np.mean(values) for name, values in found.coverage(method, cells).items()}
            yield row | {"rmse": pd.Series(found.rmse(method, cells)).mean()} | coverage


SCORES: dict[str, Callable[[HeldOut], Iterator[dict[Any, Any]]]] = {
    "run": _by_run,
    "feature": _by_feature,
    "label": _by_label,
}
"""What `by` may be."""
