"""Loss terms of a training run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from .._core._slots import find_slots

if TYPE_CHECKING:
    from mudata import MuData


def history(mdata: MuData, *, key: str | None = None) -> pd.DataFrame:
    """Loss terms over training.

    Parameters
    ----------
    mdata
        A MuData that :func:`jamie_sc.tl.integrate` wrote to.
    key
        Which integration, where `mdata` holds several.

    Returns
    -------
    One row an epoch, indexed by the optimiser `step` it ended with; a column for each loss term, unweighted (Equations 4 to
    7), their weighted sum `total` (Equation 1), and `kappa`, the weight of the KL term (section 4.7).

    Raises
    ------
    KeyError
        If there is no trained model.

    Examples
    --------
    >>> import jamie_sc as jsc
    >>> mdata = jsc.datasets.simulated(n_cells=100, n_features=(20, 30))
    >>> jsc.tl.integrate(mdata, params={"max_steps": 20})
    >>> "reconstruction" in jsc.get.history(mdata)
    True
    """
    slots = find_slots(mdata, key)
    frame = (
        pd.DataFrame(dict(mdata.uns[slots.uns].get("history", {"step": []}))).astype({"step": int}).set_index("step")
    )
    last = [column for column in ("total", "kappa") if column in frame]
    return frame[[*sorted(frame.columns.difference(last)), *last]]  # an .h5mu keeps no order
