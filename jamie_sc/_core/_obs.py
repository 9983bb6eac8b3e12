"""Annotation of cells, from the modality and from the MuData."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from mudata import MuData

    from ._modalities import Modality


def obs_of(mdata: MuData, modality: Modality) -> pd.DataFrame:
    """Obs of a modality's cells; columns that only the MuData has are added."""
    own = mdata.mod[modality.name].obs.loc[modality.obs_names]
    shared = mdata.obs.loc[modality.obs_names]
    return pd.concat([own, shared[[c for c in shared if c not in own]]], axis=1)


def obs_column(mdata: MuData, modality: str, column: str) -> pd.Series:
    """One obs column for the cells of a modality: the modality's own, else the MuData's (`rna:batch` means that of `rna`)."""
    mod = mdata.mod[modality]
    for frame in (mod.obs, mdata.obs):
        for name in (column, column.removeprefix(f"{modality}:"), f"{modality}:{column}"):
            if name in frame:
                return frame.loc[mod.obs_names, name]
    known = sorted({*mdata.obs, *mod.obs})
    msg = f"There is no obs column {column!r} in the MuData or in its modality {modality!r}. There are {known}."
    raise KeyError(msg)


def colors_of(mdata: MuData, column: str, values: pd.Series) -> list[str] | None:
    """The user's colours of a categorical column, where `.uns` of the MuData or of a modality keeps as many as needed."""
    if not isinstance(values.dtype, pd.CategoricalDtype):
        return None
    for holder in (mdata, *mdata.mod.values()):
        colors = holder.uns.get(f"{column}_colors")
        categories = holder.obs[column].astype("category").cat.categories if column in holder.obs else []
        if colors is not None and len(colors) == len(categories):
            by_name = dict(zip(map(str, categories), colors, strict=True))
            if set(values.cat.categories) <= set(by_name):
                return [by_name[c] for c in values.cat.categories]
    return None
