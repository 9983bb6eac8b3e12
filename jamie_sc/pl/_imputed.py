"""Read the cells that were measured in one modality and imputed from another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from .._core._modalities import measured_cells, modality_names, read_modalities, some
from .._core._obs import obs_column
from .._core._slots import find_slots
from ..models import from_state
from ._colors import label_colors

if TYPE_CHECKING:
    from collections.abc import Sequence

    import scipy.sparse as sp
    from mudata import MuData
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Imputed:
    """All measured cells of the target modality, and what was imputed for them."""

    source: str
    target: str
    measured: NDArray[np.float32] | sp.csr_matrix
    """The values that the model was trained on."""
    imputed: NDArray[np.float32]
    """Rows of NaN for the cells that lack the source."""
    obs_names: pd.Index
    var_names: pd.Index

    def rows(self, cells: Sequence[str] | None = None) -> NDArray[np.intp]:
        """Rows of the named cells; default all those with imputed values."""
        has = np.flatnonzero(~np.isnan(self.imputed).any(axis=1))
        if not len(has):
            msg = (
                f"No cell of {self.target!r} was both measured and imputed from {self.source!r}, so there is nothing to "
                "compare: no cell has both modalities."
            )
            raise ValueError(msg)
        if cells is None:
            return has
        wanted, names = pd.Index([cells] if isinstance(cells, str) else list(cells)), self.obs_names[has]
        if not len(wanted):
            msg = "cells is empty: name at least one cell, or leave it out for all of them."
            raise ValueError(msg)
        if not (known := wanted.isin(names)).all():
            msg = (
                f"{(~known).sum()} of {len(wanted)} cells were not both measured in {self.target!r} and imputed from "
                f"{self.source!r}: {some(wanted[~known])}. {len(names)} cells were, such as {some(names)}."
            )
            raise KeyError(msg)
        return self.obs_names.get_indexer(wanted)


@dataclass(frozen=True)
class Labelled:
    """Cells x features, measured and imputed, and the label of each cell."""

    measured: NDArray[np.float32] | sp.csr_matrix
    imputed: NDArray[np.float32]
    labels: NDArray[np.object_]
    var_names: pd.Index
    colors: dict[str, str]
    """The colour of each label that has cells, in the order to draw them."""


def read_imputed(mdata: MuData, *, source: str, target: str, key: str | None) -> Imputed:
    """Read the values that were measured in a modality, and those that `tl.impute` wrote beside them."""
    slots = find_slots(mdata, key)
    mod = mdata.mod[modality_names(mdata, [target])[0]]
    if slots.imputed(source) not in mod.layers:
        msg = (
            f"mdata[{target!r}].layers has no {slots.imputed(source)!r}: {target!r} was not imputed from {source!r}. "
            f"Run jamie_sc.tl.impute(mdata, source={source!r}, target={target!r}) first."
        )
        raise KeyError(msg)
    layer = from_state(mdata.uns[slots.uns]["model"]).modality(target).layer
    data = read_modalities(mdata, modalities=[target], layer=layer)[0]
    imputed = mod.layers[slots.imputed(source)][measured_cells(mod)]
    return Imputed(source, target, data.X, imputed, data.obs_names, data.var_names)


def read_labelled(
    mdata: MuData, *, source: str, target: str, labels_key: str, key: str | None, cells: Sequence[str] | None
) -> Labelled:
    """Read the cells that have measured and imputed values and a label."""
    data = read_imputed(mdata, source=source, target=target, key=key)
    column = obs_column(mdata, target, labels_key)
    rows = data.rows(cells)
    labels = column.loc[data.obs_names[rows]]
    if not (known := labels.notna().to_numpy()).any():
        msg = f"None of the {len(rows)} cells has a label in the obs column {labels_key!r}."
        raise ValueError(msg)
    rows, names = rows[known], labels[known].astype(str).to_numpy(dtype=object)
    colors = {label: color for label, color in label_colors(mdata, labels_key, column).items() if label in set(names)}
    return Labelled(data.measured[rows], data.imputed[rows], names, data.var_names, colors)
