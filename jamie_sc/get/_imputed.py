"""Imputed values as an AnnData."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pandas as pd
from anndata import AnnData

from .._core._obs import obs_of
from .._core._slots import find_slots
from ..models import from_state
from ..tl._conditions import conditions_of
from ..tl._read import columns_of, read_for_model

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mudata import MuData


def imputed(
    mdata: MuData,
    *,
    source: str,
    target: str,
    var_names: str | Sequence[str] | None = None,
    library: float | Literal["observed"] | None = None,
    batch: str | Mapping[str, str] | None = None,
    key: str | None = None,
) -> AnnData:
    """Impute a modality for every cell that has another one.

    Unlike :func:`jamie_sc.tl.impute` it writes nothing, and needs no row of the cell in the target modality.

    Parameters
    ----------
    mdata
        A MuData that :func:`jamie_sc.tl.integrate` or :func:`jamie_sc.tl.map_query` wrote to.
    source
        Modality whose values are known.
    target
        Modality to predict.
    var_names
        Features of the target wanted; default all.
    library, batch
        Depth and batch that cells are imputed for, as in :func:`jamie_sc.tl.impute`.
    key
        Which integration, where `mdata` holds several.

    Returns
    -------
    Cells that have the source x features of the target, values in `X` on the scale of the values trained on, float32, `.obs`
    from the source and the MuData, the latent in `.obsm["X_jamie"]`.

    Raises
    ------
    KeyError
        If there is no trained model, or it has no such modality or feature.
    ValueError
        If the source's features are not those the model was trained on, or `library` or `batch` does not suit it.

    Examples
    --------
    >>> import jamie_sc as jsc
    >>> mdata = jsc.datasets.simulated(n_cells=100, n_features=(20, 30))
    >>> jsc.tl.integrate(mdata, params={"max_steps": 20})
    >>> jsc.get.imputed(mdata, source="modality1", target="modality2", var_names=["modality2:3"]).shape
    (100, 1)
    """
    slots = find_slots(mdata, key)
    model = from_state(mdata.uns[slots.uns]["model"])
    columns, wanted = columns_of(model, target, var_names)
    data = read_for_model(mdata, model, source)
    latent = model.encode(source, data.X, data.rep)
    given = conditions_of(mdata, model, data, target, batch=batch, library=library)
    X = model.decode(target, latent, columns, given)
    return AnnData(X, obs_of(mdata, data), pd.DataFrame(index=wanted), obsm={slots.obsm: model.embed(latent)})
