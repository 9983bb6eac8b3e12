"""What is lost without features, as a data frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from .._core._slots import find_result

if TYPE_CHECKING:
    from mudata import MuData


def feature_impact(mdata: MuData, *, key: str | None = None) -> pd.DataFrame:
    """What :func:`jamie_sc.tl.feature_impact` found, the largest loss first.

    Parameters
    ----------
    mdata
        A MuData that :func:`jamie_sc.tl.feature_impact` wrote to.
    key
        Name of the result (`key_added`), where `mdata` holds several.

    Returns
    -------
    One row for each feature or set, indexed by its name, sorted by `impact`, or in the order given for sets:

    `n_features`
        Features that are replaced (or kept).
    `score`, `sd`
        The score without them, and its standard error over cells.
    `impact`
        What the score loses: that with all features, which is in the frame's `attrs["baseline"]`, minus `score`.
    `pvalue`
        One-tailed paired t-test over cells.
    `random_score`, `random_sd`
        With sets: mean and standard deviation of the score of random sets as large.

    Raises
    ------
    KeyError
        If there is no such result.

    Examples
    --------
    >>> import jamie_sc as jsc
    >>> mdata = jsc.datasets.simulated(n_cells=100, n_features=(20, 30))
    >>> jsc.tl.integrate(mdata, params={"max_steps": 20})
    >>> sets = {"first": ["modality1:0", "modality1:1"]}
    >>> jsc.tl.feature_impact(mdata, source="modality1", labels_key="cell_type", sets=sets)
    >>> jsc.get.feature_impact(mdata)["n_features"]
    name
    first    2
    Name: n_features, dtype: int64
    """
    _, record = find_result(mdata, holding="baseline", made_by="jamie_sc.tl.feature_impact", key=key)
    frame = pd.DataFrame(dict(record["table"])).set_index("name")
    frame["impact"] = float(record["baseline"]) - frame["score"]
    first = ["n_features", "score", "sd", "impact", "pvalue"]
    frame = frame[[*first, *(column for column in ("random_score", "random_sd") if column in frame)]]
    if not record["params"]["of_sets"]:
        frame = frame.sort_values("impact", ascending=False, kind="stable")
    frame.attrs["baseline"] = float(record["baseline"])
    return frame
