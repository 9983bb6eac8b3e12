"""Hide which cells correspond, to see what becomes of a method that knows fewer of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from .._compat import make_mudata
from ._obs import obs_column

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from mudata import MuData


def hide_pairs(
    mdata: MuData,
    modalities: Sequence[str],
    *,
    cells: pd.Index,
    n_left: int,
    rng: np.random.Generator,
    columns: Sequence[str] = (),
) -> MuData:
    """These modalities anew, in which all but `n_left` of the cells have another name in each modality.

    Each of a hidden cell's modalities becomes a cell of its own. Neither the order of the new names nor that of the rows,
    which are shuffled, tells what belonged together; and nothing of the MuData itself (`obs`, `obsm`, `obsp`, `uns`) is
    taken along, but for those `columns` of obs, which are given to each modality. The same generator hides, of a smaller
    `n_left`, the same cells and more, under the same names.
    """
    shuffled = cells[rng.permutation(len(cells))]
    hidden = shuffled[n_left:]
    prefix = _unused_prefix(mdata.obs_names)
    mods = {}
    for name in modalities:
        numbers = rng.permutation(len(shuffled))[n_left:]
        renamed = {cell: f"{prefix}{name}-{number}" for cell, number in zip(hidden, numbers, strict=True)}
        mod = mdata.mod[name][rng.permutation(mdata.mod[name].n_obs)].copy()
        for column in columns:
            mod.obs[column] = obs_column(mdata, name, column).loc[mod.obs_names]
        mod.obs_names = pd.Index([renamed.get(cell, cell) for cell in mod.obs_names], name=mod.obs_names.name)
        mods[name] = mod
    return make_mudata(mods)


def _unused_prefix(names: pd.Index) -> str:
    """A beginning that no name has."""
    prefix = "hidden-"
    while names.str.startswith(prefix).any():
        prefix = "_" + prefix
    return prefix
