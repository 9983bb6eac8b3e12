"""scGEM of cells on their way to pluripotency."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData

from .._compat import make_mudata
from ._fetch import fetch

if TYPE_CHECKING:
    from pathlib import Path

    from mudata import MuData

CELL_TYPES = ["BJ", "d8", "d16T+", "d24T+", "iPS"]  # the source numbers them 1 to 5, in the order of the experiment


def scgem() -> MuData:
    """Fibroblasts reprogrammed to stem cells: gene expression and DNA methylation of the same 177 cells.

    scGEM of Cheow et al. (2016), in the form that the authors of UnionCom publish. The files are found or downloaded by
    :func:`fetch`.

    Returns
    -------
    A MuData of two modalities:

    `rna` : 177 cells, 34 genes
        Expression by quantitative PCR, on a logarithmic scale: 2 to 26 where a gene was detected and 0 where it was not
        (62 % of the values). Two genes, `gene28` and `gene30`, are detected in no cell.
    `methylation` : 177 cells, 27 loci
        1 where a CpG locus is methylated and 0 where it is not; no fractions.

    Both are float32 and dense. The source names neither genes nor loci nor cells, so they are numbered in its order. Cell
    i of both modalities is the same cell. The MuData and its modalities carry `obs["cell_type"]`, in the order of the
    experiment: `BJ` (the fibroblasts), `d8`, `d16T+`, `d24T+` (days of reprogramming) and `iPS`.

    Examples
    --------
    >>> import jamie_sc as jsc
    >>> mdata = jsc.datasets.scgem()  # doctest: +SKIP
    >>> mdata["methylation"].shape  # doctest: +SKIP
    (177, 27)
    """
    files = fetch("scgem")
    mdata = make_mudata(
        {
            "rna": _read(files["scGEM_GeneExpression.txt"], files["scGEM_type1.txt"], "gene"),
            "methylation": _read(files["scGEM_DNAmethylation.txt"], files["scGEM_type2.txt"], "locus"),
        }
    )
    mdata.obs["cell_type"] = mdata["rna"].obs["cell_type"].loc[mdata.obs_names]
    return mdata


def _read(values: Path, types: Path, feature: str) -> AnnData:
    """The table of one modality, its cells and features numbered from 1."""
    X = np.loadtxt(values, dtype=np.float32, ndmin=2)
    names = [CELL_TYPES[int(number) - 1] for number in np.loadtxt(types)]
    obs = pd.DataFrame({"cell_type": pd.Categorical(names, CELL_TYPES)}, index=_numbered("cell", len(X)))
    return AnnData(X, obs=obs, var=pd.DataFrame(index=_numbered(feature, X.shape[1])))


def _numbered(what: str, n: int) -> list[str]:
    return [f"{what}{i}" for i in range(1, n + 1)]
