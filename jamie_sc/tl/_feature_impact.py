"""What is lost where features are taken away from the model."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.utils import gen_batches
from tqdm.auto import tqdm

from .._compat import copy_of
from .._core._modalities import some
from .._core._slots import find_slots, result_key
from .._core._write import write_impact
from .._logging import logger
from ..models import from_state
from ._cell_scores import correlation, label_transfer
from ._read import read_for_model
from ._replaced import Replaced
from ._windows import windows_around

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mudata import MuData
    from numpy.typing import NDArray

    from .._core._modalities import Modality
    from ..models._base import Model
    from ._cell_scores import CellScore

BATCH_VALUES = 2**22
"""Values of latents and imputed features of one batch of sets: 16 MiB."""


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
    windows: int | Sequence[int] = (10_000, 100_000),
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
        What "without this feature" means. `"mean"`: it has the mean of the cells trained on. A number: it has the value of a
        cell of the source drawn at random, as often as this; scores are averaged.
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
        `params`, `baseline` (the score with all features), `baseline_sd` (its standard error over cells) and for each feature or set its `name`, `n_features`, `score`, `sd`
        (standard error of the score over cells) and `pvalue`; with sets also `random_score` and `random_sd` over the random
        sets. :func:`jamie_sc.get.feature_impact` returns them as a data frame.

    The p-value is that of a one-tailed t-test over cells, paired: whether a cell's part in the score (right or wrong; Pearson's
    correlation and the cell's influence on it) is smaller without the feature; with `keep`, likewise. It is not corrected for
    the number of features.

    Raises
    ------
    KeyError
        If there is no trained model, or no such modality, feature, cell or column.
    ValueError
        If it is not clear what to measure, there is nothing to measure it on, a set is empty, `keep` is given without sets,
        the gene has no place, the source's encoder reads `use_rep`, not features, or `key_added` is the name of an
        integration.

    See Also
    --------
    jamie_sc.get.feature_impact : the results as a data frame.
    jamie_sc.pl.feature_impact : draw them.
    jamie_sc.tl.explain : how features add up in single cells.

    Notes
    -----
    The paper does not say what its t-tests compare; cells are the natural unit. A feature that others can stand in for has
    little impact although the model uses it: compare with :func:`jamie_sc.tl.explain`.

    Time grows with features times cells, for label transfer accuracy with the square of the cells: give some thousand as
    `cells` where there are more.

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
    if n_random < 0:
        msg = f"n_random is {n_random}: a number of random sets is 0 or more."
        raise ValueError(msg)
    slots = find_slots(mdata, key)
    name = result_key(mdata, key_added or f"{slots.uns}_impact")
    model = from_state(mdata.uns[slots.uns]["model"])
    data = read_for_model(mdata, model, source)
    target = target or _other(model, source)
    metric = metric or ("lta" if labels_key is not None else "pearson")
    _check_metric(metric, labels_key, features)
    score = (
        label_transfer(mdata, model, data, target, str(labels_key), cells)
        if metric == "lta"
        else correlation(mdata, model, data, target, near if features is None else features, cells)
    )
    generator = np.random.default_rng(rng)
    named = _sets(mdata, data, sets, near, target, windows)
    if keep and named is None:
        msg = "keep=True replaces all features but those of a set: give sets= or near=."
        raise ValueError(msg)
    replaced = Replaced(model, data, score.rows, background=background, keep=keep, rng=generator)
    trials = [np.array([i]) for i in range(data.X.shape[1])] if named is None else list(named.values())
    table, baseline, baseline_sd = _table(score, replaced, trials, progress=progress)
    if named is None:
        table.insert(0, "name", data.var_names)
    else:
        table.insert(0, "name", list(named))
        if n_random:
            random = _random(score, replaced, trials, n_random, rng=generator, progress=progress)
            table[["random_score", "random_sd"]] = random

    mdata = copy_of(mdata) if copy else mdata
    params = {
        "integration": slots.uns,
        "source": source,
        "target": target,
        "metric": metric,
        "keep": keep,
        "background": str(background),
        "of_sets": named is not None,
        "n_cells": len(score.rows),
        "n_targets": score.n_targets,
    }
    given = {"labels_key": labels_key, "near": near}
    record: dict[str, Any] = {
        "params": params | {option: value for option, value in given.items() if value is not None},
        "baseline": baseline,
        "baseline_sd": baseline_sd,
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


def _check_metric(metric: str, labels_key: str | None, features: str | Sequence[str] | None) -> None:
    """Raise where what is given does not go with the metric."""
    if metric not in ("lta", "pearson"):
        msg = f"metric is 'lta' or 'pearson', not {metric!r}."
        raise ValueError(msg)
    if metric == "lta" and labels_key is None:
        msg = "metric='lta' asks how well labels are told: give labels_key=, the obs column with cell types."
        raise ValueError(msg)
    if metric == "lta" and features is not None:
        msg = "features= are those imputed for metric='pearson'; label transfer accuracy takes none."
        raise ValueError(msg)
    if metric == "pearson" and labels_key is not None:
        msg = "labels_key= is for metric='lta'; a correlation takes none."
        raise ValueError(msg)


# What is replaced ---------------------------------------------------------------------------------------------------


def _sets(
    mdata: MuData,
    data: Modality,
    sets: str | Mapping[str, Sequence[str]] | None,
    near: str | None,
    target: str,
    windows: int | Sequence[int],
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
        groups = [True] if pd.api.types.is_bool_dtype(column) else column.dropna().unique()
        members = {group: np.flatnonzero((column == group).fillna(value=False)) for group in groups}
        found = {sets if group is True else str(group): columns for group, columns in members.items()}
    else:
        found = {name: _columns(data, names, name) for name, names in (sets or {}).items()}
    empty = [name for name, columns in found.items() if not len(columns)]
    if empty or not found:
        msg = f"There are no features in {', '.join(map(repr, empty)) or 'sets'}: nothing would be replaced."
        msg += " Choose other windows=." if near is not None else ""
        raise ValueError(msg)
    return found


def _columns(data: Modality, names: Sequence[str], of: str) -> NDArray[np.intp]:
    wanted = pd.Index([names] if isinstance(names, str) else list(names)).unique()
    columns = data.var_names.get_indexer(wanted)
    if (columns < 0).any():
        msg = f"The model reads no such feature of {data.name!r}, in set {of!r}: {some(wanted[columns < 0])}."
        raise KeyError(msg)
    return columns


# Scores of trials ---------------------------------------------------------------------------------------------------


def _table(
    score: CellScore, replaced: Replaced, trials: Sequence[NDArray[np.intp]], *, progress: bool | None
) -> tuple[pd.DataFrame, float, float]:
    """Score, its standard error and p-value of its loss, for each trial; score with all features, its standard error."""
    whole = score.parts(replaced.model.encode_inputs(replaced.name, replaced.inputs))[0]
    batches = [_statistics(whole, parts) for parts in _parts(score, replaced, trials, progress=progress)]
    frame = pd.DataFrame(np.concatenate(batches), columns=["score", "sd", "pvalue"])
    frame.insert(0, "n_features", [len(t) for t in trials])
    return frame, float(whole.mean()), float(stats.sem(whole))


def _statistics(whole: NDArray[np.float64], parts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean, standard error and p-value of the loss, for each trial, (trials, 3)."""
    lost = whole - parts
    pvalue = np.where(lost[:, 0] > 0, 0.0, 1.0)  # of all cells that lose the same
    varies = np.ptp(lost, axis=1) > 0
    if varies.any():
        pvalue[varies] = stats.ttest_1samp(lost[varies], 0, axis=1, alternative="greater").pvalue
    return np.stack([parts.mean(axis=1), stats.sem(parts, axis=1), pvalue], axis=1)


def _parts(
    score: CellScore, replaced: Replaced, trials: Sequence[NDArray[np.intp]], *, progress: bool | None
) -> Iterator[NDArray[np.float64]]:
    """Each cell's part in the score, averaged over backgrounds, (trials, cells), for a batch of trials at a time."""
    width = max(score.width, replaced.inputs.shape[1])
    per_batch = max(1, BATCH_VALUES // (len(score.rows) * width))
    hidden = None if progress is None else not progress
    with tqdm(total=len(trials), desc="replaced", disable=hidden) as bar:
        for rows in gen_batches(len(trials), per_batch):
            scores = [score.parts(replaced.model.encode_inputs(replaced.name, x)) for x in replaced(trials[rows])]
            bar.update(rows.stop - rows.start)
            yield np.mean(scores, axis=0)


def _random(
    score: CellScore,
    replaced: Replaced,
    trials: Sequence[NDArray[np.intp]],
    n_random: int,
    *,
    rng: np.random.Generator,
    progress: bool | None,
) -> NDArray[np.float64]:
    """Mean and standard deviation of the score of random sets as large as each trial, (trials, 2)."""
    drawn = [rng.permutation(replaced.n_features)[: len(trial)] for trial in trials for _ in range(n_random)]
    parts = _parts(score, replaced, drawn, progress=progress)
    scores = np.concatenate([batch.mean(axis=1) for batch in parts]).reshape(len(trials), n_random)
    return np.stack([scores.mean(axis=1), scores.std(axis=1, ddof=1) if n_random > 1 else scores[:, 0] * 0], axis=1)
