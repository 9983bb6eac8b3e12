"""Read cells the way a trained model wants them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from .._core._modalities import read_modalities
from .._logging import logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
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
    return data if order is None else replace(data, X=data.X[:, order], var_names=data.var_names[order])


def check_target(mdata: MuData, model: Model, name: str) -> None:
    """Raise unless the features of a modality to write to are those the model decodes to."""
    fitted = model.modality(name)
    if name in mdata.mod and tuple(mdata.mod[name].var_names) != fitted.var_names:
        feature_order(fitted.var_names, mdata.mod[name].var_names, name)
        msg = (
            f"The features of modality {name!r} are not in the order that the model was trained on, or there are others besides. "
            f"Bring them there: mdata.mod[{name!r}] = mdata[{name!r}][:, list(model features)].copy(); mdata.update(). "
            f"jamie_sc.get.imputed(mdata, target={name!r}, ...) needs no such order."
        )
        raise ValueError(msg)


def feature_order(wanted: Sequence[str], given: pd.Index, name: str) -> NDArray[np.intp] | None:
    """Columns of the wanted features among those given; None where they are the same already."""
    if tuple(given) == tuple(wanted):
        return None
    order = given.get_indexer(list(wanted))
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
