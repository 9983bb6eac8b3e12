"""Write results into a MuData, cells matched by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp

from .._compat import no_pull
from ._modalities import IMPUTED_FLAG, measured_cells

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData
    from mudata import MuData
    from numpy.typing import NDArray

    from ._modalities import Modality
    from ._slots import Slots


def own(mdata: MuData) -> None:
    """Turn a view into a MuData of its own, as its first writing does; one that is no view stays as it is."""
    if mdata.is_view:
        with no_pull(mdata):
            mdata.obs = mdata.obs  # the setter copies the view first


def write_integration(
    mdata: MuData,
    slots: Slots,
    *,
    joint: NDArray[np.float32],
    latents: Mapping[str, tuple[pd.Index, NDArray[np.float32]]],
    record: dict[str, Any],
) -> None:
    """Write latents (for each modality: cell names, values) and the record of the run."""
    own(mdata)
    mdata.obsm[slots.obsm] = joint
    for name, (cells, values) in latents.items():
        mdata.mod[name].obsm[slots.obsm] = _in_order_of(mdata.mod[name], cells, values)
    mdata.uns[slots.uns] = record


def write_correspondence(
    mdata: MuData, key: str, *, links: sp.csr_matrix, confidence: NDArray[np.float64], record: dict[str, Any]
) -> None:
    """Write which cells of the MuData correspond, how sure that is, and how it was found."""
    own(mdata)
    mdata.obsp[key] = links
    with no_pull():
        mdata.obs = pd.DataFrame(mdata.obs).assign(**{f"{key}_confidence": confidence})
    mdata.uns[key] = record


def write_layer(mdata: MuData, modality: str, layer: str, cells: pd.Index, values: NDArray[np.float32]) -> None:
    """Write values of some cells into a layer; NaN for the other cells."""
    own(mdata)
    mdata.mod[modality].layers[layer] = _in_order_of(mdata.mod[modality], cells, values)


def drop_layers(mdata: MuData, modality: str, layers: Sequence[str]) -> None:
    """Remove those of the layers that are there."""
    own(mdata)
    for layer in layers:
        if layer in mdata.mod[modality].layers:
            del mdata.mod[modality].layers[layer]


def write_explanation(
    mdata: MuData, modality: str, key: str, *, importance: pd.DataFrame, record: dict[str, Any]
) -> None:
    """Write importances of features (rows) for outputs (columns), and the record; 0 for features that are not in it."""
    own(mdata)
    mod = mdata.mod[modality]
    mod.varm[key] = importance.reindex(mod.var_names, fill_value=0)
    mdata.uns[key] = record


def write_impact(
    mdata: MuData, modality: str, key: str, *, columns: pd.DataFrame | None, record: dict[str, Any]
) -> None:
    """Write the record, and what is known of single features as columns of var."""
    own(mdata)
    if columns is not None:
        with no_pull():
            mod = mdata.mod[modality]
            for name in columns:
                mod.var[name] = columns[name].reindex(mod.var_names)
    mdata.uns[key] = record


def write_reduction(
    mdata: MuData,
    modality: Modality,
    *,
    scores: NDArray[np.float32],
    loadings: NDArray[np.float32],
    record: dict[str, Any],
) -> None:
    """Write principal components where scanpy keeps them."""
    own(mdata)
    mod = mdata.mod[modality.name]
    mod.obsm["X_pca"] = _in_order_of(mod, modality.obs_names, scores)
    mod.varm["PCs"] = loadings
    mod.uns["pca"] = record


def read_reduction(mdata: MuData, name: str, layer: str | None) -> dict[str, Any] | None:
    """What `pp.reduce` wrote for a modality, or None; a PCA of another making has no mean and scale."""
    mod = mdata.mod[name]
    record = mod.uns.get("pca", {})
    if (
        not {"mean", "scale", "variance", "bounds"} <= set(record)
        or "PCs" not in mod.varm
        or record["params"]["layer"] != (layer or "X")
    ):
        return None
    scores = np.asarray(mod.obsm["X_pca"], dtype=np.float32)[measured_cells(mod)]
    return {**record, "components": np.asarray(mod.varm["PCs"]).T, "scores": scores}


def _in_order_of(mod: AnnData, cells: pd.Index, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rearrange rows to the order of a modality's cells; NaN where a cell has no value."""
    wanted = cells.get_indexer(mod.obs_names)
    out = values[wanted]
    out[wanted < 0] = np.nan
    return out


def extend_modality(
    mdata: MuData, modality: str, cells: pd.Index, *, var_names: Sequence[str], obsm: Mapping[str, NDArray[np.float32]]
) -> None:
    """Add cells that were not measured in a modality: NaN everywhere, and `True` in the flag column."""
    own(mdata)
    old = mdata.mod.get(modality)
    new = _blank_cells(old, cells, var_names)
    new.obsm.update(obsm)
    if old is not None:
        old = old.copy()
        if IMPUTED_FLAG not in old.obs:
            old.obs[IMPUTED_FLAG] = False
        new = ad.concat([old, new], join="outer", merge="first", uns_merge="first", pairwise=True)
        new.obs[IMPUTED_FLAG] = new.obs[IMPUTED_FLAG].astype(bool)
        if isinstance(old.X, sp.csc_matrix | sp.csc_array):  # concat made it CSR
            new.X = new.X.tocsc()
    with no_pull(mdata):
        mdata.mod[modality] = new
        mdata.update()


def _blank_cells(like: AnnData | None, cells: pd.Index, var_names: Sequence[str]) -> AnnData:
    """Cells without a measured value, with the slots that `like` has."""

    def blank(value: Any) -> Any:
        if isinstance(value, pd.DataFrame):
            return pd.DataFrame(np.nan, index=cells, columns=value.columns)
        nothing = np.full((len(cells), *value.shape[1:]), np.nan, dtype=np.float32)
        return sp.csr_matrix(nothing) if sp.issparse(value) else nothing

    obs = pd.DataFrame({IMPUTED_FLAG: np.ones(len(cells), dtype=bool)}, index=cells)
    if like is None:
        return ad.AnnData(
            np.full((len(cells), len(var_names)), np.nan, dtype=np.float32), obs, pd.DataFrame(index=list(var_names))
        )
    return ad.AnnData(
        None if like.X is None else blank(like.X),
        obs,
        pd.DataFrame(index=like.var_names),
        layers={key: blank(value) for key, value in like.layers.items() if key is not None},
        obsm={key: blank(value) for key, value in like.obsm.items()},
    )
