"""Read what `tl.explain` found, for one output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from .._core._modalities import some
from .._core._slots import find_result
from ..get import shap as get_shap

if TYPE_CHECKING:
    import shap
    from mudata import MuData


@dataclass(frozen=True)
class Explained:
    """SHAP values of the cells explained that are still there."""

    values: shap.Explanation
    """(cells, features)"""
    cells: pd.Index
    source: str
    unit: str
    """What is explained, and its unit: "imputed Tau", "logit of Pvalb" or "latent 3"."""

    def row(self, cell: str) -> int:
        """Row of a cell."""
        if cell not in self.cells:
            msg = f"{cell!r} is none of the {len(self.cells)} cells that were explained: {some(self.cells)}."
            raise KeyError(msg)
        return list(self.cells).index(cell)


def read_explained(mdata: MuData, *, output: str | None, key: str | None) -> Explained:
    """Values of one output; `output` may be left out if only one was explained."""
    name, record = find_result(mdata, holding="base_values", made_by="jamie_sc.tl.explain", key=key)
    outputs = [str(o) for o in record["outputs"]]
    if output is None and len(outputs) > 1:
        msg = f"{len(outputs)} outputs were explained: {outputs}. Choose one with output=..."
        raise KeyError(msg)
    params, cells = record["params"], pd.Index(record["cells"])
    there = cells[cells.isin(mdata.mod[str(params["source"])].obs_names)]
    if there.empty:
        msg = f"None of the {len(cells)} cells explained is in mdata any more: run jamie_sc.tl.explain again."
        raise KeyError(msg)
    values = get_shap(mdata, output=output or outputs[0], key=name)
    unit = output or outputs[0]
    if "target" in params:
        unit = f"imputed {unit}"
    elif "labels_key" in params:
        unit = f"logit of {unit}"
    return Explained(values, there, str(params["source"]), unit)
