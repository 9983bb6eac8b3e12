"""Hold out cells, train on the others, and score what the model says of those held out."""

from __future__ import annotations

from copy import deepcopy
from itertools import permutations, product
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.neighbors import KNeighborsRegressor
from sklearn.preprocessing import StandardScaler
from tqdm.auto import tqdm

from .. import metrics
from .._compat import copy_of
from .._core._hide import hide_pairs
from .._core._modalities import Modality, read_modalities
from .._core._obs import obs_column
from ..models import from_state
from ._integrate import integrate
from ._read import read_for_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData
    from numpy.typing import NDArray

    from ..models._base import Model


def evaluate(
    mdata: MuData,
    *,
    source: str | None = None,
    target: str | None = None,
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
    the held-out cells are embedded and imputed. The baseline is the paper's: the average over the nearest training cells
    in the source's standardised features. `mdata` is left alone.

    With `paired_fraction` the training cells lose their partners, but no values: what the paper's Supplementary Figures 4 and
    10 show, and :func:`jamie_sc.pl.alignment_scores` draws.

    Parameters
    ----------
    mdata
        Two or more modalities, some of whose cells share a name.
    source, target
        Modality to impute from and modality to predict; default every ordered two.
    labels_key
        obs column with cell types, for the label transfer accuracy; default none.
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
        Passed to :func:`jamie_sc.tl.integrate`: `model`, `recipe`, `params`, `layer`, `device`, ....

    Returns
    -------
    One row for each split, paired fraction, source and target:

    `split`, `paired_fraction`, `source`, `target`, `n_train`, `n_pairs`, `n_test`
        What was done: numbers of cells measured in all modalities, trained on, still paired there, and held out.
    `lta`, `foscttm`
        Label transfer accuracy (trained on the target's latents, scored on the source's; NaN without `labels_key`) and
        fraction of samples closer than the true match, both of the held-out cells.
    `pearson`, `auroc`
        Mean over the target's features, imputed against measured.
    `pearson_knn`, `auroc_knn`
        The same for the baseline; NaN, as the next, where fewer than `n_neighbors` pairs are left.
    `pearson_better`, `auroc_better`, `n_features`
        Number of features that are imputed better than by the baseline, of how many.
    `pearson_pvalue`, `auroc_pvalue`
        Two-tailed binomial test of these numbers.
    `seconds`
        Time of the training.

    Raises
    ------
    ValueError
        If no cells are left to train on or to test on, if `paired_fraction` is not between 0 and 1, or below 1 together with
        `correspondence`, and as :func:`jamie_sc.tl.integrate` does.

    See Also
    --------
    jamie_sc.pl.alignment_scores : draw the scores over the fraction of cells that are paired.

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
    """
    data = read_modalities(mdata, modalities=kwargs.get("modalities"), layer=kwargs.get("layer"), at_least=2)
    names = [m.name for m in data]
    directions = [(a, b) for a, b in permutations(names, 2) if source in (None, a) and target in (None, b)]
    if not directions:
        msg = f"There is nothing to impute from {source!r} to {target!r}. The modalities are {names}."
        raise ValueError(msg)
    for option, value in {"n_splits": n_splits, "n_neighbors": n_neighbors}.items():
        if value < 1:
            msg = f"{option} is {value}: at least 1 is needed."
            raise ValueError(msg)
    fractions = _check_fractions(paired_fraction, kwargs.get("correspondence"))
    if labels_key is not None:  # known to exist before anything is trained
        for name in names:
            obs_column(mdata, name, labels_key)
    complete = _complete_cells(mdata, data)
    generator = np.random.default_rng(rng)
    if test_cells is None:
        splits = _splits(complete, test_fraction, n_splits, generator)
    else:
        splits = [_check_test_cells(pd.Index(test_cells), complete, names)]
    starts = _starts(generator, len(splits))
    runs = list(product(range(len(splits)), fractions))
    rows = []
    for split, fraction in tqdm(runs, desc="trainings", disable=None if progress is None else not progress):
        test, start = splits[split], starts[split]
        known = complete.difference(test)
        train = _training_cells(mdata, names, test, known, fraction, start)
        pairs = known[known.isin(train.obs_names)]
        started = perf_counter()
        integrate(train, rng=deepcopy(start), progress=False, key_added="evaluate", **kwargs)
        seconds = perf_counter() - started
        model = from_state(train.uns["evaluate"]["model"])
        cells = {name: read_for_model(mdata, model, name) for name in {name for pair in directions for name in pair}}
        for a, b in directions:
            scores = _score(
                mdata, model, cells[a], cells[b], test=test, pairs=pairs, labels_key=labels_key, k=n_neighbors
            )
            done = {"split": split, "paired_fraction": fraction, "source": a, "target": b, "n_train": len(known)}
            rows.append(done | scores | {"seconds": seconds})
    return pd.DataFrame(rows)


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
    mdata: MuData, names: list[str], test: pd.Index, known: pd.Index, fraction: float, start: np.random.Generator
) -> MuData:
    """All cells but those held out, of which a fraction of those measured in all modalities stay paired."""
    train = mdata[~mdata.obs_names.isin(test)]
    if fraction == 1:
        return copy_of(train)
    seed = deepcopy(start).integers(2**63, size=2)  # the same in each training of the split
    return hide_pairs(train, names, cells=known, n_left=round(fraction * len(known)), rng=np.random.default_rng(seed))


def _splits(cells: pd.Index, test_fraction: float, n_splits: int, rng: np.random.Generator) -> list[pd.Index]:
    n_test = int(test_fraction * len(cells))
    if not 2 <= n_test < len(cells):
        msg = f"test_fraction={test_fraction} of {len(cells)} cells leaves {n_test} to test on: at least 2, and not all, are needed."
        raise ValueError(msg)
    return [cells[rng.permutation(len(cells))[:n_test]] for _ in range(n_splits)]


def _score(
    mdata: MuData,
    model: Model,
    source: Modality,
    target: Modality,
    *,
    test: pd.Index,
    pairs: pd.Index,
    labels_key: str | None,
    k: int,
) -> dict[str, Any]:
    """All scores of one direction; cells of both modalities are taken by name, in the same order."""

    def cells(m: Modality, names: pd.Index) -> tuple[Any, NDArray[np.float32] | None]:
        at = m.obs_names.get_indexer(names)
        return m.X[at], None if m.rep is None else m.rep[at]

    latents = [model.encode(m.name, *cells(m, test)) for m in (source, target)]
    embedded = [model.embed(latent) for latent in latents]
    measured, imputed = _dense(cells(target, test)[0]), model.decode(target.name, latents[0])
    baseline = _nearest(cells(source, pairs)[0], cells(target, pairs)[0], cells(source, test)[0], k)
    scores: dict[str, Any] = {"n_pairs": len(pairs), "n_test": len(test), "lta": np.nan}
    if labels_key is not None:
        labels = [obs_column(mdata, m.name, labels_key).loc[test].astype(str).to_numpy() for m in (source, target)]
        scores["lta"] = metrics.label_transfer_accuracy(*embedded, *labels)
    scores["foscttm"] = metrics.foscttm(*embedded)
    for name, metric in (("pearson", metrics.pearson), ("auroc", metrics.auroc)):
        ours = metric(measured, imputed)
        scores |= {name: np.nanmean(ours), f"{name}_knn": np.nan, f"{name}_better": np.nan, f"{name}_pvalue": np.nan}
        if baseline is not None:
            theirs = metric(measured, baseline)
            test_of = metrics.sign_test(ours, theirs)
            scores |= {f"{name}_knn": np.nanmean(theirs), f"{name}_better": test_of.n_better}
            scores[f"{name}_pvalue"] = test_of.pvalue
    return scores | {"n_features": measured.shape[1]}


def _nearest(X: Any, Y: Any, X_new: Any, k: int) -> NDArray | None:
    """The paper's baseline: average of the k nearest training cells, in the source's standardised features."""
    if X.shape[0] < k:
        return None
    scaler = StandardScaler(with_mean=False).fit(X)
    return KNeighborsRegressor(k).fit(scaler.transform(X), _dense(Y)).predict(scaler.transform(X_new))


def _dense(X: Any) -> NDArray[np.float32]:
    return X.toarray() if hasattr(X, "toarray") else X
