"""Patch-seq of the mouse motor cortex."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData

from .._compat import make_mudata
from ._fetch import fetch

if TYPE_CHECKING:
    from mudata import MuData

CATEGORIES = ["RNA type", "Mouse", "Mouse gender", "Mouse genotype", "Cre"]
LAYERS = ["Targeted layer", "Inferred layer"]
NUMBERS = ["Mouse age", "Soma depth (µm)", "Cortical thickness (µm)", "RNA type confidence"]
LAYER_2_3 = 44230.0  # a spreadsheet took "2/3" for a date, and this is its number


def patchseq_motor() -> MuData:
    """Neurons of the mouse motor cortex: gene expression and electrophysiology of the same 1,208 cells.

    Patch-seq of Scala et al. (2021), in the selection of the JAMIE paper. The files are found or downloaded by
    :func:`fetch`. Needs pyreadr: ``pip install "jamie_sc[datasets]"``.

    Returns
    -------
    A MuData of two modalities:

    `rna` : 1,208 cells, 1,286 genes
        Raw read counts of Smart-seq2, in `X` and in `layers["counts"]`. Neither normalised nor logarithmic; the
        benchmarks standardise them as they are.
    `ephys` : 1,208 cells, 29 features
        Electrophysiological measurements in `X`, each in the unit that its name gives.

    It and its modalities carry `obs["cell_type"]` (9 families), `obs["batch"]` (the sequencing batch) and, in the
    columns of the source, type, layer, depth and mouse. Layer 2/3, which the source holds as the number 44230 (a
    spreadsheet's date), is mended, and depths that are words ("Slice Lost") are NaN.

    Examples
    --------
    >>> import jamie_sc as jsc
    >>> mdata = jsc.datasets.patchseq_motor()  # doctest: +SKIP
    >>> mdata.obs["cell_type"].value_counts()  # doctest: +SKIP
    """
    try:
        import pyreadr
    except ImportError as error:
        msg = 'patchseq_motor() reads an R data file, which needs pyreadr: pip install "jamie_sc[datasets]"'
        raise ImportError(msg) from error
    tables = pyreadr.read_r(fetch("patchseq_motor")["motor_data_filtered.rda"])
    obs = _obs(tables["meta"])
    mdata = make_mudata({"rna": _adata(tables["gdata"].T, obs), "ephys": _adata(tables["edata"], obs)})
    mdata["rna"].layers["counts"] = mdata["rna"].X.copy()
    mdata.obs = obs.loc[mdata.obs_names]
    return mdata


def _adata(table: pd.DataFrame, obs: pd.DataFrame) -> AnnData:
    """Cells by features, in the order of obs."""
    table = table.loc[obs.index]
    var = pd.DataFrame(index=table.columns.astype(str).rename(None))
    return AnnData(np.ascontiguousarray(table, dtype=np.float32), obs=obs.copy(), var=var)


def _obs(meta: pd.DataFrame) -> pd.DataFrame:
    """The columns of the cells that an analysis wants, typed."""
    meta = meta.set_index(pd.Index(meta["Cell"].astype(str), name=None))
    obs = pd.DataFrame(
        {
            "cell_type": meta["RNA family"].astype("category"),
            "batch": pd.Categorical(meta["Sequencing batch"].astype(int)).rename_categories(str),
        },
        index=meta.index,
    )
    for column in LAYERS:
        obs[column] = meta[column].map(lambda x: "2/3" if x == LAYER_2_3 else f"{x:.0f}").astype("category")
    obs[CATEGORIES] = meta[CATEGORIES].astype("category")
    obs[NUMBERS] = meta[NUMBERS].apply(pd.to_numeric, errors="coerce")
    return obs
