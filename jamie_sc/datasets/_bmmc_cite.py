"""CITE-seq of human bone marrow."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from anndata import AnnData, OldFormatWarning, read_h5ad
from scipy.sparse import csr_matrix

from .._compat import make_mudata
from ._fetch import fetch

if TYPE_CHECKING:
    from pathlib import Path

    from mudata import MuData


def bmmc_cite() -> MuData:
    """Cells of human bone marrow: genes and surface proteins of the same 600 cells, in two batches.

    CITE-seq of Luecken et al. (2021), the starter subset of the NeurIPS 2021 competition. The files are found or
    downloaded by :func:`fetch`.

    Returns
    -------
    A MuData of two modalities, each with its raw counts in `layers["counts"]`:

    `rna` : 600 cells, 1,000 genes
        `X` is log1p of the counts over the cell's total times 1,000. Sparse (CSR).
    `adt` : 600 cells, 134 proteins
        `X` is log1p of the counts minus the cell's mean (CLR). A protein that shares its name with a gene has the
        prefix `adt:`, so that feature names are unique across the modalities.

    The source's own `X`, normalised in another way, is left out. The MuData and its modalities carry
    `obs["cell_type"]` (41 fine types), `obs["batch"]` and `obs["pseudotime_order_GEX"]`, `obs["pseudotime_order_ADT"]`
    (NaN off the trajectory); the modalities also have the source's other columns.

    Examples
    --------
    >>> import jamie_sc as jsc
    >>> mdata = jsc.datasets.bmmc_cite()  # doctest: +SKIP
    >>> mdata["adt"].shape  # doctest: +SKIP
    (600, 134)
    """
    files = fetch("bmmc_cite")
    rna, adt = (_read(files[f"openproblems_bmmc_cite_starter.output_{name}.h5ad"]) for name in ("rna", "mod2"))
    counts = rna.layers["counts"]
    rna.X = (counts.multiply(1000 / counts.sum(axis=1))).tocsr().log1p()
    logs = np.log1p(adt.layers["counts"].toarray())
    adt.X = logs - logs.mean(axis=1, keepdims=True)
    adt.var_names = [f"adt:{name}" if name in rna.var_names else name for name in adt.var_names]

    mdata = make_mudata({"rna": rna, "adt": adt})
    shared = ["cell_type", "batch", "pseudotime_order_GEX", "pseudotime_order_ADT"]
    mdata.obs = rna.obs.loc[mdata.obs_names, shared]
    return mdata


def _read(path: Path) -> AnnData:
    """The counts of the source's file (CSR, single precision) with what it says about cells and features."""
    with warnings.catch_warnings():  # the pinned files are in an old format, which a user cannot mend
        warnings.simplefilter("ignore", OldFormatWarning)
        adata = read_h5ad(path)
    counts = csr_matrix(adata.layers["counts"], dtype=np.float32)
    return AnnData(obs=adata.obs, var=adata.var, layers={"counts": counts})
