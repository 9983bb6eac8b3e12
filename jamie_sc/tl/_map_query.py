"""Embed new cells with a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from mudata import MuData

from .._compat import copy_of
from .._core._modalities import check_mudata
from .._core._slots import Slots, find_slots
from .._logging import logger
from ..models import from_state, load
from ..models._base import Model
from ._integrate import write_latents
from ._read import read_for_model

if TYPE_CHECKING:
    from os import PathLike
    from typing import Any


def map_query(
    query: MuData,
    reference: MuData | Model | str | PathLike[str],
    *,
    key: str | None = None,
    key_added: str | None = None,
    copy: bool = False,
) -> MuData | None:
    """Embed new cells with a trained model, without training again.

    Parameters
    ----------
    query
        New cells with any of the modalities that the model knows, one is enough. Other modalities are left alone.
    reference
        A MuData that :func:`jamie_sc.tl.integrate` trained, a model, or the folder of a saved one.
    key
        Which integration, where the reference holds several.
    key_added
        Name of every slot on the query; default the reference's.
    copy
        Return a copy instead of writing into `query`.

    Returns
    -------
    `None`, or the copy. Writes the slots of :func:`jamie_sc.tl.integrate` on the query, the model included, so that
    :func:`jamie_sc.tl.impute` and `jamie_sc.get` work on it.

    Raises
    ------
    KeyError
        If the reference holds no model, or the query none of its modalities or lacks a layer.
    ValueError
        If features that the model reads are missing from the query. Their order does not matter, and further ones are
        left out.

    Examples
    --------
    >>> import jamie_sc as jsc
    >>> mdata = jsc.datasets.simulated(n_cells=100, n_features=(20, 30))
    >>> reference, query = mdata[:80], mdata[80:]
    >>> jsc.tl.integrate(reference, params={"max_steps": 20})
    >>> jsc.tl.map_query(query, reference)
    >>> query.obsm["X_jamie"].shape
    (20, 32)
    """
    check_mudata(query)
    slots, record, model = _trained(reference, key)
    names = [m.name for m in model.modalities if m.name in query.mod]
    if not names:
        msg = f"The query has the modalities {list(query.mod)}, the model knows {[m.name for m in model.modalities]}: none in common."
        raise KeyError(msg)
    data = [read_for_model(query, model, name) for name in names]

    query = copy_of(query) if copy else query
    slots = slots if key_added is None else Slots.of(model.name, key_added)
    params = record["params"] | {"obsm": slots.obsm}
    kept: dict[str, Any] = {name: record[name] for name in ("history", "pairing") if name in record}
    write_latents(query, slots, model, data, kept | {"params": params, "model": model.state()})
    logger.info("mapped %d cells by their %s: added %r (obsm)", query.n_obs, " and ".join(names), slots.obsm)
    return query if copy else None


def _trained(reference: MuData | Model | str | PathLike[str], key: str | None) -> tuple[Slots, dict[str, Any], Model]:
    """The slots and the record of an integration, and its model, wherever they lie."""
    if isinstance(reference, MuData):
        slots = find_slots(reference, key)
        record = reference.uns[slots.uns]
        return slots, record, from_state(record["model"])
    model = reference if isinstance(reference, Model) else load(Path(reference))
    names = np.array([m.name for m in model.modalities])
    return Slots.of(model.name), {"params": {"model": model.name, "modalities": names}}, model
