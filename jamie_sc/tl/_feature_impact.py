"""What is lost where features are taken away from the model."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy import stats
from sklearn.neighbors import KNeighborsClassifier
from sklearn.utils import gen_batches
from tqdm.auto import tqdm

from .._compat import copy_of
from .._core._modalities import some
from .._core._obs import obs_column
from .._core._slots import find_slots
from .._core._write import write_impact
from .._logging import logger
from ..models import from_state
from ._read import columns_of, read_for_model
from ._windows import windows_around

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from mudata import MuData
    from numpy.typing import NDArray

    from .._core._modalities import Modality
    from ..models._base import Model

BATCH_VALUES = 2**22
"""Values of latents and imputed features of one batch of sets: 16 MiB."""
FEATURE_BLOCK = 512
"""Features of a sparse matrix that are dense at a time."""


def feature_impact(
    mdata: MuData,
    *,
    source: str,
    target: str | None = None,
    metric: Literal["lta", "pearson"] | None = None,
    labels_key: str | None = None,
    features: str | Sequence[str] | None = None,
    sets: str | Mapping[str, Sequence[str]] | None = None,
    near: str | None = None,
    windows: Sequence[int] = (10_000, 100_000),
    keep: bool = False,
    background: Literal["mean"] | int = "mean",
    n_random: int = 20,
    cells: Sequence[str] | None = None,
    key: str | None = None,
    key_added: str | None = None,
    rng: int | np.random.Generator | None = 0,
    progress: bool | None = None,
    copy: bool = False,
) -> MuData | None:
    """Score the model with each feature, or set of features, replaced by its background (section 4.12, Figure 6a).

    The more a score falls, the more rests on the feature. Every feature of the source is tried in turn, or every set of
    `sets`, or the peaks around a gene (`near`).

    Parameters
    ----------
    mdata
        A MuData that :func:`jamie_sc.tl.integrate` or :func:`jamie_sc.tl.map_query` wrote to.
    source
        Modality whose features are replaced.
    target
        The other modality: the one whose latents the label classifier is trained on, or that is imputed. Default: the only
        other one.
    metric
        `"lta"`: label transfer accuracy, the default if `labels_key` is given: nearest neighbours among the target's latents
        tell the labels of the source's cells. `"pearson"`: correlation of imputed and measured values over cells, the mean
        over `features` of the target.
    labels_key
        obs column with labels, for `"lta"`.
    features
        Features of the target that are imputed, for `"pearson"`; default all.
    sets
        Sets of features of the source to replace together: a name for each list, or a column of its `.var` (each category is a
        set; of a boolean column, True). Default: each feature alone.
    near
        A feature of the target, such as a gene, that has a place in the genome: sets are the features of the source, such as
        peaks, within each of the `windows` of it, on the same chromosome, and in the whole genome (Figure 6a, top left). Both
        modalities need the columns `chrom`, `start` and `end` in `.var`. It is also what `"pearson"` is measured on.
    windows
        Base pairs between the gene and a peak, edge to edge, at most.
    keep
        Replace all features but those of the set.
    background
        What "without this feature" means. `"mean"`: it has the mean of the cells trained on. A number: it has the value of
        another cell, drawn at random, as often as this; scores are averaged.
    n_random
        With sets: as many random sets of the same size, for comparison; 0 for none.
    cells
        Names of the cells to score; default all of the source that have what is needed. Cells that training did not see
        tell more about what holds in general.
    key
        Which integration, where `mdata` holds several.
    key_added
        Name of the slots; default `jamie_impact`.
    rng
        Seed of the random sets and of the cells that a background is drawn from.
    progress
        Show a bar; default only on a terminal or in a notebook.
    copy
        Return a copy instead of writing into `mdata`.

    Returns
    -------
    `None`, or the copy. Writes

    `mdata.mod[source].var["jamie_impact" | key_added]`
        Without sets: what the score loses without the feature, baseline - score; NaN for features unknown to the model.
    `mdata.mod[source].var["jamie_impact_pvalue"]`
        The p-value of that.
    `mdata.uns["jamie_impact" | key_added]`
        `params`, `baseline` (the score with all features) and for each feature or set its `name`, `n_features`, `score`, `sd`
        (standard error of the score over cells) and `pvalue`; with sets also `random_score` and `random_sd` over the random
        sets. :func:`jamie_sc.get.feature_impact` returns them as a data frame.

    The p-value is that of a one-tailed t-test over cells, paired: whether a cell's part in the score (right or wrong; the
    product of standardised measured and imputed values, whose mean is Pearson's correlation) is smaller without the feature;
    with `keep`, likewise. It is not corrected for the number of features.

    Raises
    ------
    KeyError
        If there is no trained model, or no such modality, feature, cell or column.
    ValueError
        If it is not clear what to measure, a set is empty, `keep` is given without sets, or the source's encoder reads
        `use_rep`, not features.

    See Also
    --------
    jamie_sc.get.feature_impact : the results as a data frame.
    jamie_sc.pl.feature_impact : draw them.
    jamie_sc.tl.explain : how features add up in single cells.

    Notes
    -----
    The paper does not say what its t-tests compare; cells are the natural unit. A feature that others can stand in for has
    little impact although the model uses it: compare with :func:`jamie_sc.tl.explain`.

    Examples
    --------
    >>> import jamie_sc as jsc
    >>> mdata = jsc.datasets.simulated(n_cells=100, n_features=(20, 30))
    >>> jsc.tl.integrate(mdata, params={"max_steps": 20})
    >>> jsc.tl.feature_impact(mdata, source="modality1", labels_key="cell_type")
    >>> mdata["modality1"].var["jamie_impact"].nlargest(3).shape
    (3,)
    """
    started = time.perf_counter()
    slots = find_slots(mdata, key)
    model = from_state(mdata.uns[slots.uns]["model"])
    data = read_for_model(mdata, model, source)
    target = target or _other(model, source)
    metric = metric or ("lta" if labels_key is not None else "pearson")
    features = near if features is None else features
    if metric == "lta":
        score = _label_transfer(mdata, model, data, target, labels_key, cells)
    elif metric == "pearson":
        score = _correlation(mdata, model, data, target, features, cells)
    else:
        msg = f"metric is 'lta' or 'pearson', not {metric!r}."
        raise ValueError(msg)
    generator = np.random.default_rng(rng)
    named = _sets(mdata, data, sets, near, target, windows)
    if keep and named is None:
        msg = "keep=True replaces all features but those of a set: give sets= or near=."
        raise ValueError(msg)
    replaced = _Replaced(model, data, score.rows, background, keep, generator)
    trials = [np.array([i]) for i in range(data.X.shape[1])] if named is None else list(named.values())
    table, baseline = _table(score, replaced, trials, progress=progress)
    if named is None:
        table.insert(0, "name", data.var_names)
    else:
        table.insert(0, "name", list(named))
        if n_random:
            random = _random(score, replaced, trials, n_random, rng=generator, progress=progress)
            table[["random_score", "random_sd"]] = random

    mdata = copy_of(mdata) if copy else mdata
    name = key_added or f"{slots.uns}_impact"
    given = {"labels_key": labels_key, "near": near}
    record: dict[str, Any] = {
        "params": {"integration": slots.uns, "source": source, "target": target, "metric": metric, "keep": keep}
        | {"background": str(background), "of_sets": named is not None, "n_cells": len(score.rows)}
        | {option: value for option, value in given.items() if value is not None},
        "baseline": baseline,
        "table": {column: table[column].to_numpy() for column in table},
    }
    columns = None
    if named is None:
        columns = pd.DataFrame({name: baseline - table["score"], f"{name}_pvalue": table["pvalue"]})
        columns.index = data.var_names
    write_impact(mdata, source, name, columns=columns, record=record)
    logger.info(
        "finished feature_impact (%.1f s): %d scores below a baseline of %.3f, added %r (mdata.uns%s)",
        time.perf_counter() - started,
        len(table),
        baseline,
        name,
        "" if columns is None else f", mdata[{source!r}].var",
    )
    return mdata if copy else None


def _other(model: Model, source: str) -> str:
    others = [m.name for m in model.modalities if m.name != source]
    if len(others) != 1:
        msg = f"Which modality is compared with {source!r}? Give target=, one of {others}."
        raise ValueError(msg)
    return others[0]


# What is measured ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Score:
    """A score that is a mean over cells."""

    rows: NDArray[np.intp]
    """Cells of the source that are scored."""
    parts: Callable[[NDArray[np.float32]], NDArray[np.float64]]
    """Latents, (trials * cells, g), to each cell's part in the score, (trials, cells)."""
    width: int
    """Values a cell that this takes."""


def _label_transfer(
    mdata: MuData, model: Model, data: Modality, target: str, labels_key: str | None, cells: Sequence[str] | None
) -> _Score:
    """Label transfer accuracy (section 4.9): a cell's part is 1 if its label is told, else 0."""
    if labels_key is None:
        msg = "metric='lta' asks how well labels are told: give labels_key=, the obs column with cell types."
        raise ValueError(msg)
    other = read_for_model(mdata, model, target)
    labels, known = (obs_column(mdata, m.name, labels_key).loc[m.obs_names] for m in (data, other))
    at = known.notna().to_numpy()
    rows = _wanted(data, cells, labels.notna().to_numpy(), f"a label in obs[{labels_key!r}]")
    codes, classes = pd.factorize(np.concatenate([labels.iloc[rows].astype(str), known[at].astype(str)]), sort=True)
    truth, taught = codes[: len(rows)], codes[len(rows) :]
    latents = model.embed(model.encode(target, other.X, other.rep))[at]
    k = max(1, int(0.2 * min(len(rows), len(latents)) / len(classes)))  # as metrics.label_transfer_accuracy
    classifier = KNeighborsClassifier(k).fit(latents, taught)

    def parts(latent: NDArray[np.float32]) -> NDArray[np.float64]:
        told = classifier.predict(model.embed(latent)).reshape(-1, len(rows))
        return (told == truth).astype(np.float64)

    return _Score(rows, parts, latents.shape[1])


def _correlation(
    mdata: MuData,
    model: Model,
    data: Modality,
    target: str,
    features: str | Sequence[str] | None,
    cells: Sequence[str] | None,
) -> _Score:
    """Pearson's correlation of imputed and measured: a cell's part is the product of both, standardised."""
    columns, names = columns_of(model, target, features)
    other = read_for_model(mdata, model, target)
    partner = other.obs_names.get_indexer(data.obs_names)
    rows = _wanted(data, cells, partner >= 0, f"measured values in {target!r}")
    if len(rows) < 3:
        msg = f"{len(rows)} cells are measured in both {data.name!r} and {target!r}: a correlation takes 3 at least."
        raise ValueError(msg)
    chosen: Any = other.X[partner[rows]]
    chosen = chosen if columns is None else chosen[:, columns]
    dense = chosen.toarray() if sp.issparse(other.X) else chosen
    measured = _unit(dense.astype(np.float64))

    def parts(latent: NDArray[np.float32]) -> NDArray[np.float64]:
        imputed = model.decode(target, latent, columns).reshape(-1, len(rows), len(names))
        return (_unit(imputed.astype(np.float64), axis=1) * measured).mean(axis=2)

    return _Score(rows, parts, len(names))


def _unit(values: NDArray[np.float64], axis: int = 0) -> NDArray[np.float64]:
    """Standardised over cells; zero where nothing varies."""
    centred = values - values.mean(axis=axis, keepdims=True)
    sd = centred.std(axis=axis, keepdims=True)
    scale = np.abs(values).max(axis=axis, keepdims=True)
    return np.divide(centred, sd, out=np.zeros_like(centred), where=sd > 1e-6 * scale)


def _wanted(data: Modality, cells: Sequence[str] | None, able: NDArray[np.bool_], what: str) -> NDArray[np.intp]:
    """Rows of the cells to score: those named, or all that have what it takes."""
    if cells is None:
        return np.flatnonzero(able)
    names = pd.Index(cells)
    rows = data.obs_names.get_indexer(names)
    if (missing := (rows < 0) | ~able[rows]).any():
        msg = (
            f"{missing.sum()} of the cells given have no values in {data.name!r} or not {what}: {some(names[missing])}."
        )
        raise KeyError(msg)
    return rows


# What is replaced ---------------------------------------------------------------------------------------------------


def _sets(
    mdata: MuData,
    data: Modality,
    sets: str | Mapping[str, Sequence[str]] | None,
    near: str | None,
    target: str,
    windows: Sequence[int],
) -> dict[str, NDArray[np.intp]] | None:
    """Columns of each named set; None for each feature alone."""
    if sets is None and near is None:
        return None
    if sets is not None and near is not None:
        msg = "Give sets= or near=, not both."
        raise ValueError(msg)
    var = mdata.mod[data.name].var.loc[data.var_names]
    if near is not None:
        found = windows_around(near, mdata.mod[target].var, var, windows, names=(target, data.name))
    elif isinstance(sets, str):
        if sets not in var:
            msg = f"mdata[{data.name!r}].var has no column {sets!r}. It has {list(var)}."
            raise KeyError(msg)
        column = var[sets]
        groups = [True] if column.dtype == bool else column.dropna().unique()
        found = {sets if group is True else str(group): np.flatnonzero(column == group) for group in groups}
    else:
        found = {name: _columns(data, names, name) for name, names in (sets or {}).items()}
    empty = [name for name, columns in found.items() if not len(columns)]
    if empty or not found:
        msg = f"There are no features in {', '.join(map(repr, empty)) or 'sets'}: nothing would be replaced."
        raise ValueError(msg)
    return found


def _columns(data: Modality, names: Sequence[str], of: str) -> NDArray[np.intp]:
    wanted = pd.Index([names] if isinstance(names, str) else list(names)).unique()
    columns = data.var_names.get_indexer(wanted)
    if (columns < 0).any():
        msg = f"The model reads no such feature of {data.name!r}, in set {of!r}: {some(wanted[columns < 0])}."
        raise KeyError(msg)
    return columns


class _Replaced:
    """What the encoder reads of the scored cells where some features are replaced.

    The way from scaled features to the encoder's input is linear, so that replacing the features of a set S adds
    (background - features)[:, S] axes[:, S]' to the input, and no cell needs to be read again.
    """

    def __init__(
        self,
        model: Model,
        data: Modality,
        rows: NDArray[np.intp],
        background: Literal["mean"] | int,
        keep: bool,  # noqa: FBT001
        rng: np.random.Generator,
    ) -> None:
        if not (background == "mean" or (isinstance(background, int | np.integer) and background > 0)):
            msg = f"background is 'mean' or a number of cells above 0, not {background!r}."
            raise ValueError(msg)
        self.model, self.name, self.keep = model, data.name, keep
        self._read, self._axes = model.modality(data.name).inputs, model.axes(data.name)
        self._X = data.X[rows]
        n_draws = 0 if background == "mean" else int(background)
        self._others = [data.X[rng.permutation(data.n_obs)[: len(rows)]] for _ in range(n_draws)]
        self.inputs = model.inputs(data.name, self._X)
        self.n_features = data.X.shape[1]

    @property
    def n_draws(self) -> int:
        """Backgrounds that each set is replaced by."""
        return max(1, len(self._others))

    def __call__(self, trials: Sequence[NDArray[np.intp]]) -> Iterator[NDArray[np.float32]]:
        """Inputs, (trials * cells, k), for each background in turn."""
        features, places = np.unique(np.concatenate(trials), return_inverse=True)
        ends = np.cumsum([len(t) for t in trials])[:-1]
        columns = np.split(places, ends)
        own = self._read.features(self._X, features)
        for draw in range(self.n_draws):
            other = self._read.features(self._others[draw], features) if self._others else self._read.average[features]
            step = other - own
            gone = np.concatenate([step[:, at] @ self._axes[:, features[at]].T for at in columns])
            if not self.keep:
                yield np.tile(self.inputs, (len(trials), 1)) + gone
            else:
                everything = self._without_any(draw)
                yield np.tile(everything, (len(trials), 1)) - gone

    def _without_any(self, draw: int) -> NDArray[np.float32]:
        """Inputs of cells all of whose features are replaced."""
        if self._others:
            return self.model.inputs(self.name, self._others[draw])
        return np.zeros_like(self.inputs)  # the mean of the cells fitted


def _table(
    score: _Score, replaced: _Replaced, trials: Sequence[NDArray[np.intp]], *, progress: bool | None
) -> tuple[pd.DataFrame, float]:
    """Score, its standard error and the p-value of its loss, for each trial; and the score of all features."""
    whole = score.parts(replaced.model.encode_inputs(replaced.name, replaced.inputs))[0]
    parts = _parts(score, replaced, trials, progress=progress)
    lost = whole - parts
    with np.errstate(divide="ignore", invalid="ignore"):  # no cell changes: no test
        pvalue = stats.ttest_1samp(lost, 0, axis=1, alternative="greater").pvalue
    frame = pd.DataFrame(
        {
            "n_features": [len(t) for t in trials],
            "score": parts.mean(axis=1),
            "sd": parts.std(axis=1, ddof=1) / np.sqrt(parts.shape[1]),
            "pvalue": np.where(np.ptp(lost, axis=1) > 0, pvalue, np.where(lost[:, 0] > 0, 0.0, 1.0)),
        }
    )
    return frame, float(whole.mean())


def _parts(
    score: _Score, replaced: _Replaced, trials: Sequence[NDArray[np.intp]], *, progress: bool | None
) -> NDArray[np.float64]:
    """Each cell's part in the score of each trial, averaged over backgrounds, (trials, cells)."""
    n = len(score.rows)
    width = max(score.width, replaced.inputs.shape[1])
    per_batch = max(1, min(FEATURE_BLOCK, BATCH_VALUES // (n * width)))
    found = np.empty((len(trials), n))
    hidden = None if progress is None else not progress
    with tqdm(total=len(trials), desc="replaced", disable=hidden) as bar:
        for rows in gen_batches(len(trials), per_batch):
            batch = trials[rows]
            scores = [score.parts(replaced.model.encode_inputs(replaced.name, x)) for x in replaced(batch)]
            found[rows] = np.mean(scores, axis=0)
            bar.update(len(batch))
    return found


def _random(
    score: _Score,
    replaced: _Replaced,
    trials: Sequence[NDArray[np.intp]],
    n_random: int,
    *,
    rng: np.random.Generator,
    progress: bool | None,
) -> NDArray[np.float64]:
    """Mean and standard deviation of the score of random sets as large as each trial, (trials, 2)."""
    drawn = [rng.permutation(replaced.n_features)[: len(trial)] for trial in trials for _ in range(n_random)]
    scores = _parts(score, replaced, drawn, progress=progress).mean(axis=1).reshape(len(trials), n_random)
    return np.stack([scores.mean(axis=1), scores.std(axis=1, ddof=1) if n_random > 1 else scores[:, 0] * 0], axis=1)
