"""Which features of one modality an imputed feature, the embedding or a cell type rests on."""

from __future__ import annotations

import time
from dataclasses import dataclass
from operator import index
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from .._compat import copy_of
from .._core._modalities import some
from .._core._obs import obs_column
from .._core._slots import find_slots, result_key
from .._core._write import write_explanation
from .._logging import logger
from ..models import from_state
from ._read import columns_of, read_for_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData
    from numpy.typing import NDArray

    from .._core._modalities import Modality
    from ..models._base import Model


def explain(
    mdata: MuData,
    *,
    source: str,
    target: str | None = None,
    features: str | Sequence[str] | None = None,
    latent: int | Sequence[int] | None = None,
    labels_key: str | None = None,
    cells: int | Sequence[str] = 100,
    background: Literal["mean"] | int | Sequence[str] = "mean",
    key: str | None = None,
    key_added: str | None = None,
    rng: int | np.random.Generator | None = 0,
    progress: bool | None = None,
    copy: bool = False,
) -> MuData | None:
    r"""SHAP values: how much each feature of a cell adds to what the model makes of it (section 4.12, Figure 6b).

    For a cell :math:`x` and a background :math:`z`, the values :math:`\phi_i` of its features share out what the cell
    differs by: :math:`f(x) = E[f(z)] + \sum_i \phi_i`. Here :math:`f` is the whole way from the source's features: scaling,
    PCA, encoder, decoder and back to the target's features (`target`); or the way to the latent (`latent`); or from there to
    a classifier of labels (`labels_key`). Give one of the three.

    Parameters
    ----------
    mdata
        A MuData that :func:`jamie_sc.tl.integrate` or :func:`jamie_sc.tl.map_query` wrote to.
    source
        Modality whose features are to explain.
    target
        Modality whose imputed features are explained.
    features
        Features of the target; default all of them, which takes as many times longer.
    latent
        Dimensions of the posterior mean (Equation 2) that are explained, counted from 0. `X_jamie` is the same vector brought
        to one length, so its dimensions have the same signs and order, not the same scale.
    labels_key
        obs column with labels. A logistic regression predicts them from the latents of all of the source's cells; what is
        explained is the logit of each label (of two labels: of the second against the first).
    cells
        Names of the cells to explain, or how many to draw at random.
    background
        What "without this feature" means. `"mean"`: the feature has the mean of the cells trained on, so the base value
        is the output for an average cell, and values say what sets this cell apart from it. A number: as many cells of
        the source, drawn at random; the base value is the mean output over them, and values are averages over replacing a
        feature by that of another cell. Names: these cells, for instance those of one type, to ask what sets a cell apart
        from that type. Time grows with their number.
    key
        Which integration, where `mdata` holds several.
    key_added
        Name of the slots; default `jamie_shap`. Another call with the same name replaces them.
    rng
        Seed of the cells drawn.
    progress
        Show a bar; default only on a terminal or in a notebook.
    copy
        Return a copy instead of writing into `mdata`.

    Returns
    -------
    `None`, or the copy. Writes

    `mdata.mod[source].varm["jamie_shap" | key_added]`
        Mean absolute SHAP value over the cells, (features of the source, outputs), a DataFrame; 0 for features that the
        model does not know. ``["Tau"].nlargest(20)`` gives the top twenty for an output "Tau". A ``/`` in a name is written ``|``.
    `mdata.uns["jamie_shap" | key_added]`
        `values`, (cells, features, outputs), float32, `base_values`, the names `cells`, `features` and `outputs`, and
        `params`; :func:`jamie_sc.get.shap` returns it as :class:`shap.Explanation`.

    Values are in the units of the output: those of the target's values, of the latent, or log-odds.

    Raises
    ------
    KeyError
        If there is no trained model, or no such modality, feature, cell or obs column.
    ValueError
        If not exactly one of `target`, `latent` and `labels_key` is given, an output is given twice, a number of cells is
        below 1, a latent dimension does not exist, there are fewer than two labels, the source's encoder reads `use_rep`, not
        features, or `key_added` is the name of an integration.
    FloatingPointError
        If the values do not add up to the output within 1 % of its spread.

    See Also
    --------
    jamie_sc.get.shap : the values as the shap package wants them.
    jamie_sc.pl.shap_waterfall : the values of one cell.
    jamie_sc.pl.shap_beeswarm : the values of all cells.
    jamie_sc.tl.feature_impact : what is lost where a feature is taken away.

    Notes
    -----
    Values are those of Deep SHAP (:class:`shap.DeepExplainer`), which approximates Shapley values fast enough for all genes:
    on the motor cortex they correlate by 0.92 with those of :class:`shap.PermutationExplainer`. Counts that the encoder logs
    are explained after that: the cell's total stays as it is. Values beyond five standard deviations are clipped, as they
    are for the encoder.

    Of a target with a likelihood of counts (CLUE) what is explained is the logarithm of each feature's expected count, less the
    mean of these over all features: which no library size changes. Of zeros and ones it is the log-odds. Targets with
    batches are decoded as the average over these.

    Examples
    --------
    >>> import jamie_sc as jsc
    >>> mdata = jsc.datasets.simulated(n_cells=100, n_features=(20, 30))
    >>> jsc.tl.integrate(mdata, params={"max_steps": 20})
    >>> jsc.tl.explain(mdata, source="modality1", target="modality2", features="modality2:3", cells=10)
    >>> mdata["modality1"].varm["jamie_shap"].shape
    (20, 1)
    """
    started = time.perf_counter()
    slots = find_slots(mdata, key)
    name = result_key(mdata, key_added or f"{slots.uns}_shap")
    model = from_state(mdata.uns[slots.uns]["model"])
    data = read_for_model(mdata, model, source)
    outputs = _outputs(mdata, model, data, target=target, features=features, latent=latent, labels_key=labels_key)
    generator = np.random.default_rng(rng)
    rows = _rows(data, cells, generator, "cells")
    read = model.modality(source).inputs
    if isinstance(background, str) and background == "mean":
        reference = read.average[None]
    else:
        reference = read.features(data.X[_rows(data, background, generator, "background")])
    values, base = outputs.explain(read.features(data.X[rows]), reference, progress)

    mdata = copy_of(mdata) if copy else mdata
    given = {"target": target, "labels_key": labels_key, "layer": data.layer}
    record = {
        "params": {"integration": slots.uns, "source": source, "n_background": len(reference)}
        | {option: value for option, value in given.items() if value is not None},
        "values": values,
        "base_values": base,
        "cells": data.obs_names[rows].to_numpy(dtype=object),
        "features": data.var_names.to_numpy(dtype=object),
        "outputs": np.array(outputs.names, dtype=object),
    }
    columns = [_column(output) for output in outputs.names]
    importance = pd.DataFrame(np.abs(values).mean(axis=0), index=data.var_names, columns=columns)
    write_explanation(mdata, source, name, importance=importance, record=record)
    logger.info(
        "finished explain (%.1f s): added %r, mean |SHAP| (mdata[%r].varm) and the values of %d cells (mdata.uns)",
        time.perf_counter() - started,
        name,
        source,
        len(rows),
    )
    return mdata if copy else None


@dataclass(frozen=True)
class _Outputs:
    """What is explained: names, the way to it, and a linear layer after that."""

    names: list[str]
    model: Model
    source: str
    target: str | None = None
    columns: NDArray[np.intp] | None = None
    head: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None

    def explain(
        self,
        cells: NDArray[np.float32],
        background: NDArray[np.float32],
        progress: bool | None,  # noqa: FBT001
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """SHAP values and base values."""
        from ..models._shapley import shapley_values  # torch is imported on first use

        road = self.model.road(self.source, self.target, self.columns)
        return shapley_values(road, cells, background, head=self.head, progress=progress)


def _outputs(
    mdata: MuData,
    model: Model,
    data: Modality,
    *,
    target: str | None,
    features: str | Sequence[str] | None,
    latent: int | Sequence[int] | None,
    labels_key: str | None,
) -> _Outputs:
    given = [n for n, v in {"target": target, "latent": latent, "labels_key": labels_key}.items() if v is not None]
    if len(given) != 1 or (features is not None and target is None):
        msg = (
            f"Give one of target= (with features=), latent= and labels_key=, which say what is explained; got {given}."
        )
        raise ValueError(msg)
    if target is not None:
        columns, wanted = columns_of(model, target, features)
        _check_names(list(wanted))
        return _Outputs(list(wanted), model, data.name, target, columns)
    latents = model.encode(data.name, data.X, data.rep)
    if latent is not None:
        dims = [index(d) for d in np.atleast_1d(np.asarray(latent, dtype=object))]
        if not dims or min(dims) < 0 or max(dims) >= latents.shape[1]:
            msg = f"latent={latent}: the dimensions go from 0 to {latents.shape[1] - 1}; give one or more of them."
            raise ValueError(msg)
        names = [f"latent {d}" for d in dims]
        _check_names(names)
        pick = np.eye(latents.shape[1], dtype=np.float32)[dims]
        return _Outputs(names, model, data.name, head=(pick, np.zeros(len(dims), np.float32)))
    labels = obs_column(mdata, data.name, str(labels_key)).loc[data.obs_names]
    names, weights, bias = _classifier(latents, labels, str(labels_key))
    return _Outputs(names, model, data.name, head=(weights, bias))


def _check_names(outputs: list[str]) -> None:
    """Raise if outputs would have the same column."""
    columns = pd.Index([_column(name) for name in outputs])
    if not columns.is_unique:
        msg = f"Outputs are given twice: {some(columns[columns.duplicated()])}. Each has a column of its own."
        raise ValueError(msg)


def _column(output: str) -> str:
    """Its name in varm; an .h5mu takes / for a group."""
    return output.replace("/", "|")


def _classifier(
    latents: NDArray[np.float32], labels: pd.Series, key: str
) -> tuple[list[str], NDArray[np.float32], NDArray[np.float32]]:
    """Labels, and weights and bias of a logistic regression from latents to their logits."""
    known = labels.notna().to_numpy()
    classes = labels[known].astype(str)
    if classes.nunique() < 2:
        msg = f"obs[{key!r}] has {classes.nunique()} labels among the cells to learn from: two at least are needed."
        raise ValueError(msg)
    scaler = StandardScaler().fit(latents[known])
    fitted = LogisticRegression(max_iter=2000).fit(scaler.transform(latents[known]), classes)
    weights = fitted.coef_ / scaler.scale_
    bias = fitted.intercept_ - weights @ scaler.mean_
    names = fitted.classes_ if len(weights) > 1 else fitted.classes_[1:]
    return [str(n) for n in names], weights.astype(np.float32), bias.astype(np.float32)


def _rows(data: Modality, wanted: int | Sequence[str], rng: np.random.Generator, option: str) -> NDArray[np.intp]:
    """Rows of the cells named, or of as many drawn at random."""
    if isinstance(wanted, int | np.integer):
        if wanted < 1:
            msg = f"{option}={wanted}: at least one cell is needed."
            raise ValueError(msg)
        return np.sort(rng.permutation(data.n_obs)[:wanted])
    names = pd.Index([wanted] if isinstance(wanted, str) else list(wanted))
    rows = data.obs_names.get_indexer(names)
    if (rows < 0).any() or not len(rows):
        msg = (
            f"{option}: {data.name!r} has no measured cells {some(names[rows < 0])}."
            if len(rows)
            else f"{option} is empty."
        )
        raise KeyError(msg)
    return rows
