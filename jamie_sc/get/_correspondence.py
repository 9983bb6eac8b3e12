"""The pairs of cells that tie two modalities together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from .._core._modalities import cell_index

if TYPE_CHECKING:
    from mudata import MuData


def correspondence(mdata: MuData, *, modality_a: str, modality_b: str) -> pd.DataFrame:
    """List the cells that correspond, by name.

    Parameters
    ----------
    mdata
        Annotated modalities of partly the same cells.
    modality_a, modality_b
        The two modalities.

    Returns
    -------
    One row a pair: `cell_a` and `cell_b`, names of the cells in the two modalities, and `weight`, the entry of the
    correspondence matrix F: 1 for a shared name.

    Raises
    ------
    KeyError
        If a modality does not exist.
    ValueError
        If a modality has a cell name more than once.

    Examples
    --------
    >>> import jamie_sc as jsc
    >>> mdata = jsc.datasets.simulated(n_cells=100, n_features=(20, 30), paired_fraction=0.5)
    >>> len(jsc.get.correspondence(mdata, modality_a="modality1", modality_b="modality2"))
    50
    """
    index = cell_index(mdata, [modality_a, modality_b])
    names = mdata.obs_names[np.intersect1d(index[modality_a], index[modality_b], assume_unique=True)].to_numpy()
    return pd.DataFrame({"cell_a": names, "cell_b": names, "weight": np.ones(len(names))})
