"""Read cells the way a trained model wants them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from pandas.api.types import is_float_dtype

from .._core._modalities import read_modalities, some
from .._core._obs import obs_column
from .._core._write import read_reduction
from .._logging import logger
from ..models._reducers import Reducer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData
    from numpy.typing import NDArray

    from .._core._modalities import Modality
    from ..models._base import Model


def read_for_model(mdata: MuData, model: Model, name: str) -> Modality:
    """One modality with the layer, representation and features, in order, that the model was trained on."""
    fitted = model.modality(name)
    data = read_modalities(mdata, modalities=[name], layer=fitted.layer, use_rep=fitted.use_rep)[0]
    order = feature_order(fitted.var_names, data.var_names, name)
    if fitted.n_rep is not None and (data.rep is None or data.rep.shape[1] != fitted.n_rep):
        got = None if data.rep is None else data.rep.shape[1]
        msg = f"mdata[{name!r}].obsm[{fitted.use_rep!r}] has {got} dimensions, but the model was trained on {fitted.n_rep}."
        raise ValueError(msg)
    data = replace(data, batches=batches_of(mdata, name, data.obs_names, model.batch_keys))
    return data if order is None else replace(data, X=data.X[:, order], var_names=data.var_names[order])


def batches_of(
    mdata: MuData, name: str, cells: pd.Index, keys: Sequence[str], *, known: bool = False
) -> dict[str, NDArray[np.object_]]:
    """For each key of obs, the batch of a modality's cells as a string, None where it is unknown; a lacking key is left out.

    With `known`, both are errors.
    """
    found = {}
    for key in keys:
        try:
            values = strings(obs_column(mdata, name, key).loc[cells])
        except KeyError:
            if known:
                raise
            continue
        if known and (gone := pd.isna(values)).any():
            msg = (
                f"obs[{key!r}] says nothing of {gone.sum()} cells of modality {name!r}, such as {cells[gone][0]!r}. A batch_key has "
                "a value for every cell: fill it in, or leave these cells out."
            )
            raise ValueError(msg)
        found[key] = values
    return found


def as_keys(batch_key: str | Sequence[str] | None) -> list[str]:
    """Keys of obs that are given as one, several or none."""
    return [batch_key] if isinstance(batch_key, str) else list(batch_key or [])


def strings(column: pd.Series) -> NDArray[np.object_]:
    """Values as strings, None where there is none; whole numbers alike, whatever type a missing value made of them."""
    whole = is_float_dtype(column) and bool((column.dropna() % 1 == 0).all())
    names = [str(int(value) if whole else value) for value in column.dropna()]
    found = np.full(len(column), None, dtype=object)
    found[column.notna()] = names
    return found


def target_features(mdata: MuData, model: Model, name: str) -> NDArray[np.intp] | None:
    """Columns of what the model decodes, in the order of the modality to write to; None where that is the model's."""
    decoded = pd.Index(model.modality(name).var_names)
    if name not in mdata.mod or mdata.mod[name].var_names.equals(decoded):
        return None
    order = decoded.get_indexer(mdata.mod[name].var_names)
    if (unknown := order < 0).any():
        names = mdata.mod[name].var_names[unknown]
        msg = (
            f"{len(names)} features of modality {name!r} were not in the data the model was trained on, so it cannot impute "
            f"them: {', '.join(map(repr, names[:5]))}. Use jamie_sc.get.imputed(mdata, target={name!r}, ...), which has the "
            "model's own features, or keep only those in the MuData."
        )
        raise ValueError(msg)
    return order


def columns_of(
    model: Model, name: str, features: str | Sequence[str] | None
) -> tuple[NDArray[np.intp] | None, pd.Index]:
    """Columns of the features wanted among those that the model decodes, None for all of them; and their names."""
    decoded = pd.Index(model.modality(name).var_names)
    if features is None:
        return None, decoded
    wanted = pd.Index([features] if isinstance(features, str) else list(features))
    if not len(wanted):
        msg = f"No features of {name!r} are given; leave the option out for all of them."
        raise ValueError(msg)
    columns = decoded.get_indexer(wanted)
    if (columns < 0).any():
        msg = f"The model decodes no such feature of {name!r}: {some(wanted[columns < 0])}. They begin with {some(decoded)}."
        raise KeyError(msg)
    return columns, wanted


def feature_order(wanted: Sequence[str], given: pd.Index, name: str) -> NDArray[np.intp] | None:
    """Columns of the wanted features among those given; None where they are the same already."""
    if tuple(given) == tuple(wanted):
        return None
    order = given.get_indexer(pd.Index(wanted))
    if (missing := order < 0).any():
        names = [feature for feature, gone in zip(wanted, missing, strict=True) if gone]
        msg = (
            f"{len(names)} of the {len(wanted)} features that the model reads from modality {name!r} are missing: "
            f"{', '.join(map(repr, names[:5]))}{', ...' if len(names) > 5 else ''}. Feature names must be those of the data the "
            f"model was trained on; yours begin with {', '.join(map(repr, given[:3]))}."
        )
        raise ValueError(msg)
    if len(given) > len(wanted):
        logger.info("%d features of %r that the model does not know are left out", len(given) - len(wanted), name)
    return order


def in_order_of_names(mdata: MuData, data: Sequence[Modality]) -> tuple[list[Modality], NDArray[np.intp]]:
    """The modalities with cells and MuData rows sorted by name, so that the order they come in changes nothing; the order."""
    order = np.argsort(mdata.obs_names.to_numpy())
    rank = np.argsort(order)
    return [_sorted(m, rank[m.rows]) for m in data], order


def _sorted(modality: Modality, rank: NDArray[np.intp]) -> Modality:
    """The modality with its cells sorted by their rank."""
    order = np.argsort(rank)
    if (order[1:] > order[:-1]).all():
        return replace(modality, rows=rank)
    return replace(modality.take(order), rows=rank[order])


def stored_reducer(mdata: MuData, modality: Modality) -> Reducer | None:
    """The reducer that `pp.reduce` left in the MuData, unless nobody called it."""
    record = read_reduction(mdata, modality.name, modality.layer)
    if record is None:
        return None
    parts = {
        part: np.ascontiguousarray(record[part], np.float32)
        for part in ("mean", "scale", "components", "variance", "bounds")
    }
    ones, target_sum = np.ones_like(parts["variance"]), record["params"].get("target_sum")
    reducer = Reducer(**parts, shrinkage=ones, target_sum=target_sum)
    head = slice(0, 100)
    if len(reducer.mean) != modality.X.shape[1] or not np.allclose(
        reducer.transform(modality.X[head]), record["scores"][head], rtol=1e-3, atol=1e-2
    ):
        msg = (
            f"The values of modality {modality.name!r} are no longer those that jamie_sc.pp.reduce saw. "
            f"Call it again, or drop mdata[{modality.name!r}].uns['pca']."
        )
        raise ValueError(msg)
    return reducer
