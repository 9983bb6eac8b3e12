"""Hold out cells, train on the others, and score what the model says of those held out."""

from __future__ import annotations

from copy import deepcopy
from itertools import permutations, product
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from .._compat import copy_of
from .._core._hide import hide_pairs
from .._core._modalities import Modality, read_modalities
from .._core._obs import obs_column
from .._core._pairing import INFERRED, is_inferred
from .._core._write import read_reduction
from ..models import from_state
from ..pp import reduce
from ._held_out import SCORES, predict
from ._integrate import integrate
from ._read import as_keys, read_for_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData


def evaluate(
    mdata: MuData,
    *,
    source: str | None = None,
    target: str | None = None,
    by: Literal["run", "feature", "label"] = "run",
    labels_key: str | None = None,
    test_fraction: float = 0.2,
    n_splits: int = 1,
    test_cells: pd.Index | list[str] | None = None,
    paired_fraction: float | Sequence[float] = 1.0,
    n_neighbors: int = 5,
    rng: int | np.random.Generator | None = 0,
    progress: bool | None = None,
    **kwargs: Any,
) -> pd.DataFrame:
    """Score alignment and imputation on cells that training did not see (sections 4.9 and 4.10).

    In every split, cells measured in all modalities are held out, :func:`jamie_sc.tl.integrate` trains on the others, and
    the held-out cells are embedded and imputed. Two baselines are trained on the same known pairs: the paper's, the average
    over the nearest training cells in the source's standardised features, and ridge regression. `mdata` is left alone.

    With `paired_fraction` the training cells lose their partners, but no values: what the paper's Supplementary Figures 4 and
    10 show, and :func:`jamie_sc.pl.alignment_scores` draws.

    Parameters
    ----------
    mdata
        Two or more modalities, some of whose cells share a name.
    source, target
        Modality to impute from and modality to predict; default every ordered two.
    by
        What a row is. `"run"`: a training and direction; `"feature"`: one feature of it by one method, which
        :func:`jamie_sc.pl.feature_scores` draws; `"label"`: the cells of one label by one method, needs `labels_key`.
    labels_key
        obs column with cell types, for the label transfer accuracy, and for JS distances within each type; default none.
        Cells without a label count in no distance. Training does not see them.
    test_fraction
        Fraction of the cells measured in all modalities that is held out.
    n_splits
        Number of random splits, each with a training of its own.
    test_cells
        Names of the cells to hold out, instead of random ones.
    paired_fraction
        Fraction, or several, of the training cells measured in all modalities that stay paired; each is a training of its
        own. The others, drawn at random, have another name in each modality, so that each of their modalities becomes a cell
        of its own. Within a split, the cells held out and the seed are the same for all fractions, and cells that lose their
        partners at one fraction do so at every smaller one. Cells measured in some modalities only stay as they are. Below
        1, nothing of `mdata.obsp` is used, as it may tell the partners.
    n_neighbors
        Neighbours of the baseline, which knows the pairs that are left and no other.
    rng
        Seed of the splits, the pairs hidden and the trainings.
    progress
        Show a bar over the trainings; default only on a terminal or in a notebook.
    **kwargs
        Passed to :func:`jamie_sc.tl.integrate`: `model`, `recipe`, `params`, `layer`, `likelihood`, `batch_key`,
        `calibrate`, `device`, ....

    Returns
    -------
    One row for each split, paired fraction, source and target, and with `by` for each feature or label and method. All say
    what was done:

    `split`, `paired_fraction`, `source`, `target`
        Which training, and which direction of imputation.
    `n_train`, `n_pairs`, `n_test`
        Numbers of cells measured in all modalities, trained on, still paired there, and held out. By feature, none of them;
        by label, `n_test`, the cells of that label.
    `seconds`
        By run: time of the training, with that which calibrates.
    `method`
        By feature and by label: the model's name, such as `"jamie"`, `"knn"` or `"ridge"`.
    `feature`, `label`
        By feature, by label: which one.

    Scores of the alignment, by run:

    `lta`, `foscttm`
        Label transfer accuracy (trained on the target's latents, scored on the source's; NaN without `labels_key`) and
        fraction of samples closer than the true match, both of the held-out cells (section 4.9).

    Scores of the imputation: of each feature by feature, and else their mean over the target's features.

    `pearson`, `auroc`
        Imputed against measured values: correlation, and area under the ROC curve for values above their feature's
        median (section 4.9). Not by label.
    `rmse`
        Root of the mean squared error, in the feature's standard deviations among the training cells, so that features
        of different units count alike; the mean of the training cells would score about 1. NaN, and in no mean, where the
        feature is constant among them.
    `js_distance`
        Jensen-Shannon distance of the distributions of imputed and measured values (section 4.9): within each label, mean
        over labels; without `labels_key` over all cells.
    `coverage_50`, `coverage_80`, `coverage_95`
        Fraction of measured values within the interval that ``tl.impute(n_samples=50, interval=...)`` gives for this
        probability. NaN for the baselines, and where the model was not calibrated (`calibrate` of
        :func:`jamie_sc.tl.integrate`).

    By run there are also, for each of `pearson`, `auroc`, `rmse` and `js_distance`,

    `pearson_knn`, `pearson_ridge`, ...
        The same for the baselines; NaN, as the next, where fewer than `n_neighbors` pairs are left (or 3 for ridge).
    `pearson_better`, ..., and `n_features`
        Number of features that are imputed better than by the nearest neighbours, of how many.
    `pearson_pvalue`, ...
        Two-tailed binomial test of these numbers (section 4.9).

    Raises
    ------
    ValueError
        If no cells are left to train on or to test on, if `paired_fraction` is not between 0 and 1, or below 1 together with
        `correspondence`, if `by` is no such word, or `"label"` without `labels_key`, and as :func:`jamie_sc.tl.integrate`
        does.

    See Also
    --------
    jamie_sc.pl.alignment_scores : draw the scores over the fraction of cells that are paired.
    jamie_sc.pl.feature_scores : draw the scores of each feature, against a baseline.

    Notes
    -----
    Nothing is made of the held-out cells: what :func:`jamie_sc.pp.reduce` or :func:`jamie_sc.tl.match_cells` left in `mdata`
    is made anew from the training cells. What you give by name you answer for: `use_rep` and `correspondence`.

    Ridge regression predicts the target's standardised features from at most 100 principal components of the source, whose
    features are prepared as for the default recipe's encoder: those that share a unit are not scaled, counts are logged. So
    the difference to the model is what its network adds. The penalty is the one with the least error when each training
    cell is left out in turn.

    The fewer cells a label has, the larger its JS distances are by chance (:func:`jamie_sc.metrics.js_distance`): compare
    methods, which share it, rather than labels.

    Examples
    --------
    >>> import jamie_sc as jsc
    >>> mdata = jsc.datasets.simulated(n_cells=100, n_features=(20, 30))
    >>> scores = jsc.tl.evaluate(mdata, source="modality1", target="modality2", params={"max_steps": 20})
    >>> int(scores["n_test"][0])
    20

    A quarter of the training cells stays paired:

    >>> scores = jsc.tl.evaluate(mdata, paired_fraction=[1, 0.25], params={"max_steps": 20})
    >>> scores[["paired_fraction", "source", "target", "n_pairs"]]
       paired_fraction     source     target  n_pairs
    0             1.00  modality1  modality2       80
    1             1.00  modality2  modality1       80
    2             0.25  modality1  modality2       20
    3             0.25  modality2  modality1       20

    Feature by feature, against the baselines:

    >>> scores = jsc.tl.evaluate(mdata, target="modality2", by="feature", params={"max_steps": 20})
    >>> scores.groupby("method")["pearson"].count()
    method
    jamie    30
    knn      30
    ridge    30
    Name: pearson, dtype: int64
    """
    data = read_modalities(mdata, modalities=kwargs.get("modalities"), layer=kwargs.get("layer"), at_least=2)
    names = [m.name for m in data]
    directions = _directions(names, source, target)
    _check_options(mdata, names, by=by, labels_key=labels_key, n_splits=n_splits, n_neighbors=n_neighbors)
    fractions = _check_fractions(paired_fraction, kwargs.get("correspondence"))
    complete = _complete_cells(mdata, data)
    generator = np.random.default_rng(rng)
    if test_cells is None:
        splits = _splits(complete, test_fraction, n_splits, generator)
    else:
        splits = [_check_test_cells(pd.Index(test_cells), complete, names)]
    starts = _starts(generator, len(splits))
    runs = list(product(range(len(splits)), fractions))
    rows: list[dict[Any, Any]] = []
    for split, fraction in tqdm(runs, desc="trainings", disable=None if progress is None else not progress):
        test, start = splits[split], starts[split]
        known = complete.difference(test)
        fresh, columns = kwargs.get("correspondence") is None, as_keys(kwargs.get("batch_key"))
        train = _training_cells(mdata, data, test, known, fraction, start, fresh=fresh, columns=columns)
        pairs = known[known.isin(train.obs_names)]
        started = perf_counter()
        integrate(train, rng=deepcopy(start), progress=False, key_added="evaluate", **kwargs)
        seconds = perf_counter() - started
        model = from_state(train.uns["evaluate"]["model"])
        cells = {name: read_for_model(mdata, model, name) for name in {name for pair in directions for name in pair}}
        for a, b in directions:
            seed = int(deepcopy(start).integers(2**31))
            found = predict(mdata, model, cells[a], cells[b], test, pairs, labels_key, k=n_neighbors, seed=seed)
            done = {"split": split, "paired_fraction": fraction, "source": a, "target": b}
            if by == "run":
                done |= {"n_train": len(known), "n_pairs": len(pairs), "n_test": len(test), "seconds": seconds}
            rows += [done | row for row in SCORES[by](found)]
    return pd.DataFrame(rows)


def _directions(names: list[str], source: str | None, target: str | None) -> list[tuple[str, str]]:
    directions = [(a, b) for a, b in permutations(names, 2) if source in (None, a) and target in (None, b)]
    if not directions:
        msg = f"There is nothing to impute from {source!r} to {target!r}. The modalities are {names}."
        raise ValueError(msg)
    return directions


def _check_options(mdata: MuData, names: list[str], *, by: str, labels_key: str | None, **at_least_1: int) -> None:
    """Raise before anything is trained."""
    if by not in SCORES:
        msg = f"by is {by!r}: choose one of {list(SCORES)}."
        raise ValueError(msg)
    if by == "label" and labels_key is None:
        msg = "by='label' needs labels_key=..., the obs column with the labels, such as cell types."
        raise ValueError(msg)
    for option, value in at_least_1.items():
        if value < 1:
            msg = f"{option} is {value}: at least 1 is needed."
            raise ValueError(msg)
    if labels_key is not None:
        for name in names:
            obs_column(mdata, name, labels_key)


def _complete_cells(mdata: MuData, data: list[Modality]) -> pd.Index:
    """Cells measured in every modality, in the order of the MuData."""
    complete = mdata.obs_names
    for m in data:
        complete = complete[complete.isin(m.obs_names)]
    if len(complete) < 2:
        msg = f"{len(complete)} cells are measured in all of {[m.name for m in data]}: none can be held out to compare with."
        raise ValueError(msg)
    return complete


def _check_test_cells(test: pd.Index, complete: pd.Index, names: list[str]) -> pd.Index:
    if unknown := (~test.isin(complete)).sum():
        msg = f"{unknown} of test_cells are not measured in all of {names}, so nothing can be compared there. Leave them out."
        raise ValueError(msg)
    return test


def _check_fractions(paired_fraction: float | Sequence[float], correspondence: object) -> list[float]:
    fractions = np.array(paired_fraction, dtype=np.float64, ndmin=1).tolist()
    if not fractions or not all(0 <= fraction <= 1 for fraction in fractions):
        msg = f"paired_fraction is {paired_fraction}: one or more numbers from 0 to 1 are needed."
        raise ValueError(msg)
    if min(fractions) < 1 and correspondence is not None:
        msg = (
            f"paired_fraction={paired_fraction} hides which cells are paired, which correspondence=... may tell. Leave one of "
            "both out."
        )
        raise ValueError(msg)
    return fractions


def _starts(generator: np.random.Generator, n_splits: int) -> list[np.random.Generator]:
    """For each split, the generator that all of its trainings begin with."""
    starts = []
    for _ in range(n_splits):
        starts.append(deepcopy(generator))
        generator.integers(2**31)  # what a training draws
    return starts


def _training_cells(
    mdata: MuData,
    data: list[Modality],
    test: pd.Index,
    known: pd.Index,
    fraction: float,
    start: np.random.Generator,
    *,
    fresh: bool,
    columns: Sequence[str],
) -> MuData:
    """All cells but those held out, of which a fraction of those measured in all modalities stay paired.

    Nothing that was made of the cells held out is left: a reduction is made anew, and if `fresh` F̃ is not taken along.
    """
    train = mdata[~mdata.obs_names.isin(test)]
    if fraction == 1:
        train = copy_of(train)
    else:
        seed = deepcopy(start).integers(2**63, size=2)  # the same in each training of the split
        n_left, names = round(fraction * len(known)), [m.name for m in data]
        train = hide_pairs(train, names, cells=known, n_left=n_left, rng=np.random.default_rng(seed), columns=columns)
    if fresh and is_inferred(train, INFERRED):
        del train.obsp[INFERRED]
    for m in data:
        if (record := read_reduction(train, m.name, m.layer)) is not None:
            same = {option: record["params"][option] for option in ("n_components", "clip")}
            reduce(train, modalities=[m.name], layer=m.layer, own_units=bool((record["scale"] == 1).all()), **same)
    return train


def _splits(cells: pd.Index, test_fraction: float, n_splits: int, rng: np.random.Generator) -> list[pd.Index]:
    n_test = int(test_fraction * len(cells))
    if not 2 <= n_test < len(cells):
        msg = f"test_fraction={test_fraction} of {len(cells)} cells leaves {n_test} to test on: at least 2, and not all, are needed."
        raise ValueError(msg)
    return [cells[rng.permutation(len(cells))[:n_test]] for _ in range(n_splits)]
