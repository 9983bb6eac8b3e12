"""What a decoder reads of cells besides their latent: the batch to decode for, and the depth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from .._core._modalities import measured_cells
from .._logging import logger
from ..models._covariates import unknown
from ..models._reducers import totals
from ._read import read_for_model

if TYPE_CHECKING:
    from mudata import MuData
    from numpy.typing import NDArray

    from .._core._modalities import Modality
    from ..models._base import Conditions, FittedModality, Model


def conditions_of(
    mdata: MuData,
    model: Model,
    cells: Modality,
    target: str,
    *,
    batch: str | Mapping[str, str] | None = None,
    library: float | Literal["observed"] | None = None,
) -> Conditions:
    """Of cells that are to be decoded to the target: their own batches, or those given; the typical library size, or others."""
    m = model.modality(target)
    given = _batches_given(m, batch)
    cells = replace(
        cells, batches={**cells.batches, **{key: np.full(cells.n_obs, name) for key, name in given.items()}}
    )
    for key, names in unknown(m.batches, cells.batches).items():
        logger.warning(
            "obs[%r] of some cells is %s, of which the model has no %r: they are decoded as an average over the batches that it "
            "knows, %s. Choose one of these with batch=...",
            key,
            ", ".join(map(repr, names[:5])) + (", ..." if len(names) > 5 else ""),
            target,
            list(m.batches[key]),
        )
    return model.conditions(target, cells.n_obs, cells.batches, _library(mdata, model, cells, m, library))


def _batches_given(m: FittedModality, batch: str | Mapping[str, str] | None) -> dict[str, str]:
    """Category of each key given, which the model must know."""
    if batch is None:
        return {}
    if not isinstance(batch, Mapping) and len(m.batches) == 1:
        batch = {next(iter(m.batches)): batch}
    if not isinstance(batch, Mapping):
        msg = f"batch={batch!r}: the model of {m.name!r} has the batch keys {list(m.batches)}; give a mapping of these."
        raise ValueError(msg)
    batch = {key: str(name) for key, name in batch.items()}
    for key, name in batch.items():
        if name not in m.batches.get(key, {}):
            known = {key: list(names) for key, names in m.batches.items()}
            msg = f"batch={{{key!r}: {name!r}}}: the model of {m.name!r} has no such batch. It knows {known}."
            raise ValueError(msg)
    return batch


def _library(
    mdata: MuData, model: Model, cells: Modality, m: FittedModality, library: float | Literal["observed"] | None
) -> NDArray[np.float32] | None:
    """Library size of each cell, NaN for the typical one."""
    if library is None:
        return None
    if m.library is None:
        msg = f"library={library!r}: {m.name!r} has no library size, its likelihood is {m.likelihood!r}. Leave it out."
        raise ValueError(msg)
    sizes = np.full(cells.n_obs, np.nan, dtype=np.float32)
    if library == "observed":
        if m.name not in mdata.mod or not measured_cells(mdata.mod[m.name]).any():
            return sizes
        measured = read_for_model(mdata, model, m.name)
        at = measured.obs_names.get_indexer(cells.obs_names)
        sizes[at >= 0] = totals(measured.X)[at[at >= 0]]
    elif isinstance(library, str) or not 0 < library < np.inf:
        msg = f'library={library!r}: give a positive number of counts a cell, or "observed".'
        raise ValueError(msg)
    else:
        sizes[:] = library
    return sizes
