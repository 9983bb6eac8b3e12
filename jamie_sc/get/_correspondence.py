"""The pairs of cells that tie two modalities together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from .._core._modalities import cell_index
from .._core._pairing import INFERRED, read_inferred

if TYPE_CHECKING:
    from mudata import MuData


def correspondence(mdata: MuData, *, modality_a: str, modality_b: str, key: str = INFERRED) -> pd.DataFrame:
    """List the cells that correspond: by name, and as :func:`jamie_sc.tl.match_cells` inferred.

    Parameters
    ----------
    mdata
        Annotated modalities, all, some or none of whose cells share a name.
    modality_a, modality_b
        The two modalities.
    key
        What :func:`jamie_sc.tl.match_cells` was told as `key_added`. Where it was not called, only names count.

    Returns
    -------
    One row a pair, sorted by `cell_a`, then the likelier first: `cell_a` and `cell_b`, names of the cells in the two
    modalities; `weight`, 1 for a shared name, else how much of the cell of `modality_a` is matched with that of
    `modality_b`, to a sum of 1 over its matches; and `inferred`, `False` for a shared name.

    Raises
    ------
    KeyError
        If a modality does not exist, or a `key` that is not the default.
    ValueError
        If a modality has a cell name more than once.

    See Also
    --------
    jamie_sc.pp.pairing : how many cells correspond by name.

    Examples
    --------
    >>> import jamie_sc as jsc
    >>> mdata = jsc.datasets.simulated(n_cells=100, n_features=(20, 30), paired_fraction=0.5)
    >>> len(jsc.get.correspondence(mdata, modality_a="modality1", modality_b="modality2"))
    50
    >>> jsc.tl.match_cells(mdata)
    >>> pairs = jsc.get.correspondence(mdata, modality_a="modality1", modality_b="modality2")
    >>> pairs.groupby("inferred")["cell_a"].nunique()
    inferred
    False    50
    True     25
    Name: cell_a, dtype: int64
    """
    index = cell_index(mdata, [modality_a, modality_b])
    rows_a, rows_b = index[modality_a], index[modality_b]
    shared = np.intersect1d(rows_a, rows_b, assume_unique=True)
    links = read_inferred(mdata, key)
    if links is None:
        if key != INFERRED:
            msg = f"jamie_sc.tl.match_cells left no mdata.obsp[{key!r}]. The MuData has {list(mdata.obsp)}."
            raise KeyError(msg)
        a, b, weight = shared, shared, np.ones(len(shared))
    else:
        block = links[rows_a][:, rows_b].tocoo()
        a, b = rows_a[block.row], rows_b[block.col]
        guessed = ~np.isin(a, shared) & ~np.isin(b, shared)  # a shared name is known, whatever was inferred
        a, b, weight = (
            np.concatenate([known, part[guessed]])
            for known, part in ((shared, a), (shared, b), (np.ones(len(shared)), block.data))
        )
    pairs = pd.DataFrame(
        {
            "cell_a": mdata.obs_names[a],
            "cell_b": mdata.obs_names[b],
            "weight": np.asarray(weight, dtype=float),
            "inferred": a != b,
        }
    )
    return pairs.sort_values(["cell_a", "weight", "cell_b"], ascending=[True, False, True], ignore_index=True)
