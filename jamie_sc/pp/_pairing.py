"""Count the cells that two modalities share."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._core._modalities import cell_index
from .._core._pairing import count_pairs, log_pairs

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from mudata import MuData


def pairing(mdata: MuData, *, modalities: Sequence[str] | None = None) -> pd.DataFrame:
    """Count paired, single and ambiguous cells of each two modalities.

    Cells correspond by their name in `obs_names`, never by position and never because two modalities have equally many.

    Parameters
    ----------
    mdata
        Annotated modalities of partly the same cells.
    modalities
        Names of the modalities to count; default all.

    Returns
    -------
    One row for each two modalities, also logged, with the columns

    `modality_a`, `modality_b`
        Names of the modalities.
    `paired`
        Number of cells measured in both.
    `only_a`, `only_b`
        Number of cells measured in one and not in the other (they may be in a third modality).
    `ambiguous`
        Number of the paired cells whose name is a bare row number such as `"17"`: two unrelated data sets with default
        names share such names by coincidence. Above zero this is also logged as a warning.

    Raises
    ------
    ValueError
        If a modality has a cell name more than once.

    Examples
    --------
    >>> import jamie_sc as jsc
    >>> mdata = jsc.datasets.simulated(n_cells=100, n_features=(20, 30), paired_fraction=0.5)
    >>> counts = jsc.pp.pairing(mdata)
    >>> int(counts["paired"][0])
    50
    """
    counts = count_pairs(cell_index(mdata, modalities), mdata.obs_names)
    log_pairs(counts)
    return counts
