"""Read a MuData once: matrices, feature names, and the row that each cell has in the MuData."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import scipy.sparse as sp
from mudata import MuData

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from anndata import AnnData
    from numpy.typing import NDArray

T = TypeVar("T")

IMPUTED_FLAG = "jamie_imputed"
"""obs column that marks the cells that `tl.impute(extend=True)` added: they were never measured."""


@dataclass(frozen=True)
class Modality:
    """One modality as the models see it."""

    name: str
    X: NDArray[np.float32] | sp.csr_matrix
    """Cells x features, in the modality's own order, float32."""
    obs_names: pd.Index
    var_names: pd.Index
    rows: NDArray[np.intp]
    """Row of each cell in the MuData."""
    rep: NDArray[np.float32] | None = None
    """Cells x dimensions: what the encoder is given instead of `X`."""
    layer: str | None = None
    """Layer that `X` was read from."""
    use_rep: str | None = None
    """Key of `.obsm` that `rep` was read from."""
    likelihood: str | None = None
    """What the user says of the values' distribution."""
    batches: Mapping[str, NDArray[np.object_]] = field(default_factory=dict)
    """For each key of obs that holds a batch, each cell's; None where it is unknown."""
    labels: NDArray[np.object_] | None = None
    """Each cell's label; None where it is unknown."""

    @property
    def n_obs(self) -> int:
        """Number of cells."""
        return self.X.shape[0]

    def take(self, rows: NDArray[np.intp] | NDArray[np.bool_]) -> Modality:
        """These cells, in this order."""
        rep = None if self.rep is None else self.rep[rows]
        labels = None if self.labels is None else self.labels[rows]
        batches = {key: values[rows] for key, values in self.batches.items()}
        names, cells = self.obs_names[rows], self.rows[rows]
        return replace(self, X=self.X[rows], obs_names=names, rows=cells, rep=rep, labels=labels, batches=batches)


def dense(X: Any) -> Any:
    """A matrix as an array, whether it is sparse or not."""
    return X.toarray() if hasattr(X, "toarray") else X


def check_mudata(mdata: MuData) -> None:
    """Raise if this is no MuData of cells x features, one row a cell."""
    if not isinstance(mdata, MuData):
        msg = f"Expected a MuData, got {type(mdata).__name__}. Build one: mudata.MuData({{'rna': adata, ...}})."
        raise TypeError(msg)
    if mdata.axis != 0:
        msg = f"The MuData has axis={mdata.axis}: its modalities share features. jamie_sc needs axis=0, shared cells."
        raise ValueError(msg)


def per_modality(option: str, value: T | Mapping[str, T] | None, names: Sequence[str]) -> dict[str, T | None]:
    """Spread an option that is one value, or a mapping from modality to value, over the modalities."""
    if not isinstance(value, Mapping):
        return dict.fromkeys(names, value)
    if unknown := set(value) - set(names):
        msg = f"{option} names the modalities {sorted(unknown)}, but those in use are {list(names)}."
        raise KeyError(msg)
    return {name: value.get(name) for name in names}


def modality_names(mdata: MuData, modalities: Sequence[str] | None) -> list[str]:
    """The modalities in use: all, or those named, which must be there."""
    check_mudata(mdata)
    if isinstance(modalities, str):
        modalities = [modalities]
    names = list(mdata.mod) if modalities is None else list(modalities)
    for name in names:
        if name not in mdata.mod:
            msg = f"There is no modality {name!r}. The MuData has {list(mdata.mod)}."
            raise KeyError(msg)
    if len(set(names)) < len(names):
        msg = f"modalities={names} names a modality twice."
        raise ValueError(msg)
    return names


def cell_index(mdata: MuData, modalities: Sequence[str] | None = None) -> dict[str, NDArray[np.intp]]:
    """For each modality, the row in the MuData of each cell that was measured in it."""
    names = modality_names(mdata, modalities)
    return {name: cell_rows(mdata, name)[measured_cells(mdata.mod[name])] for name in names}


def read_modalities(
    mdata: MuData,
    *,
    modalities: Sequence[str] | None = None,
    layer: str | Mapping[str, str] | None = None,
    use_rep: str | Mapping[str, str] | None = None,
    at_least: int = 1,
) -> list[Modality]:
    """Read and check the modalities of a MuData; the MuData stays as it is."""
    names = modality_names(mdata, modalities)
    if len(names) < at_least:
        msg = f"Only {len(names)} modality ({', '.join(names)}) given, at least {at_least} are needed to find what they share."
        raise ValueError(msg)
    layers, reps = per_modality("layer", layer, names), per_modality("use_rep", use_rep, names)
    return [_read_modality(mdata, name, layers[name], reps[name]) for name in names]


def _read_modality(mdata: MuData, name: str, layer: str | None, use_rep: str | None) -> Modality:
    mod = mdata.mod[name]
    rows = cell_rows(mdata, name)
    measured = measured_cells(mod)
    if not mod.var_names.is_unique:
        twice = mod.var_names[mod.var_names.duplicated()].unique()
        msg = (
            f"Modality {name!r} has {len(twice)} feature names more than once ({some(twice)}). "
            f"Make them unique: mdata[{name!r}].var_names_make_unique(); mdata.update()."
        )
        raise ValueError(msg)
    X = _as_float32(mod.X if layer is None else _lookup(mod.layers, layer, f"mdata[{name!r}].layers"), name)[measured]
    if 0 in X.shape:
        msg = f"Modality {name!r} is empty: {X.shape[0]} cells x {X.shape[1]} features."
        raise ValueError(msg)
    check_values(X, name, where=f"layers[{layer!r}]" if layer else "X")
    rep = None
    if use_rep is not None and use_rep != "X":
        rep = np.asarray(_lookup(mod.obsm, use_rep, f"mdata[{name!r}].obsm"), dtype=np.float32)[measured]
        check_values(rep, name, where=f"obsm[{use_rep!r}]")
    return Modality(
        name, X, mod.obs_names[measured], mod.var_names, rows[measured], rep, layer, None if rep is None else use_rep
    )


def measured_cells(mod: AnnData) -> NDArray[np.bool_]:
    """True for the cells that were measured, False for those that `tl.impute(extend=True)` added."""
    if IMPUTED_FLAG not in mod.obs:
        return np.ones(mod.n_obs, dtype=bool)
    return ~mod.obs[IMPUTED_FLAG].astype("boolean").fillna(value=False).to_numpy(dtype=bool)


def cell_rows(mdata: MuData, name: str) -> NDArray[np.intp]:
    """Row that each cell of a modality has in the MuData; names, never positions, say which cell is which."""
    mod = mdata.mod[name]
    if not mod.obs_names.is_unique:
        twice = mod.obs_names[mod.obs_names.duplicated()].unique()
        msg = (
            f"Modality {name!r} has {len(twice)} cell names more than once ({some(twice)}), so it is unclear which cells "
            f"correspond. Give each cell its own name, the same in every modality: mdata[{name!r}].obs_names = ..., "
            "then build the MuData anew."
        )
        raise ValueError(msg)
    rows = mdata.obs_names.get_indexer(mod.obs_names)
    if (rows < 0).any():
        msg = (
            f"{(rows < 0).sum()} cells of modality {name!r} are unknown to the MuData: the modality was changed since. "
            "Call mdata.update() first."
        )
        raise ValueError(msg)
    return rows


def read_latent(mdata: MuData, name: str, key: str) -> tuple[NDArray[np.float32], pd.Index]:
    """Latent of the cells of one modality that have one, and their names."""
    mod = mdata.mod[name]
    latent = np.asarray(_lookup(mod.obsm, key, f"mdata[{name!r}].obsm"), dtype=np.float32)
    known = np.isfinite(latent).all(axis=1)
    return latent[known], mod.obs_names[known]


def check_values(X: NDArray | sp.csr_matrix, name: str, *, where: str) -> None:
    """Raise if the matrix holds NaN or infinite values, or nothing but constants."""
    values = X.data if sp.issparse(X) else X
    finite = np.isfinite(values)
    if not finite.all():
        bad = sp.coo_matrix(X)  # NaN is stored, so the same line serves dense and sparse
        bad_rows, bad_columns = bad.row[~np.isfinite(bad.data)], bad.col[~np.isfinite(bad.data)]
        msg = (
            f"{where} of modality {name!r} holds {(~finite).sum()} NaN or infinite values, in {len(np.unique(bad_rows))} cells "
            f"(first: row {bad_rows.min()}) and {len(np.unique(bad_columns))} features (first: column {bad_columns.min()}). "
            f"Drop these cells or fill the values first, for example with sklearn.impute.SimpleImputer."
        )
        raise ValueError(msg)
    low, high = (
        (X.min(axis=0), X.max(axis=0)) if not sp.issparse(X) else (X.min(axis=0).toarray(), X.max(axis=0).toarray())
    )
    if X.shape[0] > 1 and (low == high).all():
        msg = f"{where} of modality {name!r} is constant: each of its {X.shape[1]} features has one value in all {X.shape[0]} cells."
        raise ValueError(msg)


def _lookup(container: Mapping, key: str, where: str) -> Any:
    if key not in container:
        msg = f"There is no {where}[{key!r}]. It has {[k for k in container if k is not None]}."
        raise KeyError(msg)
    return container[key]


def _as_float32(X: Any, name: str) -> NDArray[np.float32] | sp.csr_matrix:
    """Dense, CSR, CSC, backed, any real type -> dense or CSR, float32; never dense from sparse."""
    if X is None:
        msg = f"Modality {name!r} has no X. Name the layer that holds its values: layer={{{name!r}: ...}}."
        raise ValueError(msg)
    if hasattr(X, "to_memory"):  # a sparse matrix of a backed file
        X = X.to_memory()
    elif not sp.issparse(X):
        X = np.asarray(X[:])  # dense, or an h5py.Dataset of a backed file
    if X.dtype.kind not in "biuf":
        msg = f"The values of modality {name!r} have the type {X.dtype}, which is not a real number."
        raise ValueError(msg)
    X = X.tocsr() if hasattr(X, "tocsr") else X
    return X.astype(np.float32, copy=False)


def some(names: pd.Index, n: int = 3) -> str:
    """The first names, for a message."""
    return ", ".join(map(repr, names[:n])) + (", ..." if len(names) > n else "")
