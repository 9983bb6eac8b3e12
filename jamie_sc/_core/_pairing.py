"""Which cells correspond: shared names, as sparse matrices."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse as sp

from .._logging import logger

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from ._modalities import Modality


def correspondence(a: Modality, b: Modality) -> sp.csr_matrix:
    """F of two modalities, cells of a x cells of b: 1 where both are the same cell by name."""
    _, i, j = np.intersect1d(a.rows, b.rows, assume_unique=True, return_indices=True)
    ones = np.ones(len(i), dtype=np.float32)
    return sp.csr_matrix((ones, (i, j)), shape=(a.n_obs, b.n_obs))


def correspondences(modalities: Sequence[Modality]) -> dict[tuple[int, int], sp.csr_matrix]:
    """F of each two modalities, by their positions in the list; an error if some modality has no partner at all."""
    pairs = {(a, b): correspondence(modalities[a], modalities[b]) for a, b in combinations(range(len(modalities)), 2)}
    for k, modality in enumerate(modalities):
        if not any(F.nnz for ab, F in pairs.items() if k in ab):
            others = ", ".join(repr(m.name) for m in modalities if m is not modality)
            example = repr(modality.name)
            msg = (
                f"No cell of modality {example} shares its name with a cell of {others}, so nothing says which cells "
                f"correspond. Give the same cell the same name in both, mdata[{example}].obs_names = ..., build the MuData "
                "anew, and check with jamie_sc.pp.pairing(mdata)."
            )
            raise ValueError(msg)
    return pairs


def count_pairs(index: Mapping[str, NDArray[np.intp]], obs_names: pd.Index) -> pd.DataFrame:
    """Paired, single and ambiguous cells of each two modalities, given the rows of their cells in the MuData."""
    counts = []
    for (a, rows_a), (b, rows_b) in combinations(index.items(), 2):
        shared = obs_names[np.intersect1d(rows_a, rows_b, assume_unique=True)]
        n = len(shared)
        ambiguous = sum(name.isdecimal() for name in shared)
        counts.append((a, b, n, len(rows_a) - n, len(rows_b) - n, ambiguous))
    return pd.DataFrame(counts, columns=["modality_a", "modality_b", "paired", "only_a", "only_b", "ambiguous"])


def log_pairs(counts: pd.DataFrame) -> None:
    """One line for each two modalities."""
    for row in counts.itertuples():
        a, b = row.modality_a, row.modality_b
        logger.info(
            "pairing %s - %s: %d paired cells, %d only %s, %d only %s", a, b, row.paired, row.only_a, a, row.only_b, b
        )
        if row.ambiguous:
            msg = (
                "%d of the %d cells paired between %s and %s have a bare row number as name: "
                "make sure that these are the same cells, not two data sets with default names"
            )
            logger.warning(msg, row.ambiguous, row.paired, a, b)
