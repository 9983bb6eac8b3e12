"""Which cells correspond by a learned embedding: the matching with which CLUE won the competition (Equation 16)."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from .._core._modalities import Modality, cell_index, check_mudata, read_latent
from .._core._slots import find_slots
from ..metrics._jaccard import jaccard, neighbourhoods

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData
    from numpy.typing import NDArray

    from .._core._pairing import Correspondence

CHUNK = 256
"""Cells whose matches are looked up at once."""


def read_embedding(mdata: MuData, *, modalities: Sequence[str] | None, key: str | None) -> tuple[list[Modality], str]:
    """The modalities embedded, latents as their values (NaN where a cell has none); and which integration it was."""
    check_mudata(mdata)
    slots = find_slots(mdata, key)
    embedded = [name for name, mod in mdata.mod.items() if slots.obsm in mod.obsm]
    index = cell_index(mdata, embedded if modalities is None else modalities)
    data = []
    for name, rows in index.items():
        latent, known = read_latent(mdata, name, slots.obsm)
        cells = mdata.obs_names[rows]
        values = pd.DataFrame(latent, index=known).reindex(cells).to_numpy(np.float32)
        data.append(Modality(name, values, cells, pd.RangeIndex(latent.shape[1]), rows))
    if len(data) < 2:
        msg = f"Only {len(data)} modality ({', '.join(index)}) with an embedding {slots.obsm!r}: cells are matched between two."
        raise ValueError(msg)
    return data, slots.uns


def match_latent(
    data: Sequence[Modality], F: Correspondence, *, n_neighbors: int, n_matches: int
) -> dict[tuple[int, int], tuple[sp.csr_matrix, dict[str, Any]]]:
    """Coupling and record of each two modalities with cells to match; known pairs are in the coupling, too."""
    found = {}
    for (a, b), known in F.items():
        rows, columns = _to_match(data[a], known.getnnz(axis=1)), _to_match(data[b], known.getnnz(axis=0))
        if not (len(rows) and len(columns)):
            continue
        for m, cells in ((data[a], rows), (data[b], columns)):
            if not 1 <= n_neighbors <= len(cells):
                msg = f"n_neighbors={n_neighbors}, but {len(cells)} cells of {m.name!r} are to be matched: give 1 to {len(cells)}."
                raise ValueError(msg)
        x, y = np.asarray(data[a].X[rows]), np.asarray(data[b].X[columns])
        matches = _matches(x, y, n_neighbors=n_neighbors, n_matches=n_matches)
        best = [matches.max(axis=axis).toarray().mean() for axis in (1, 0)]
        record = {"n_cells": np.array([len(rows), len(columns)]), "jaccard": np.array(best, dtype=float)}
        placed = sp.csr_matrix((matches.data, (rows[matches.row], columns[matches.col])), shape=known.shape)
        found[a, b] = known.maximum(placed).tocsr(), record
    return found


def _to_match(modality: Modality, n_partners: NDArray[np.integer]) -> NDArray[np.intp]:
    """Cells with an embedding and without a partner."""
    return np.flatnonzero((n_partners == 0) & np.isfinite(np.asarray(modality.X)).all(axis=1))


def _matches(x: NDArray[np.float32], y: NDArray[np.float32], *, n_neighbors: int, n_matches: int) -> sp.coo_matrix:
    """Equation 16, the best of each row and of each column. No row is empty: a cell's neighbours are among its matches."""
    around = neighbourhoods(x, y, n_neighbors=n_neighbors)
    best = []
    for graphs in (around, around[::-1]):
        blocks = jaccard(*graphs, n_neighbors=n_neighbors, chunk_size=CHUNK)
        best.append(sp.vstack([_largest(block, n_matches) for block in blocks], format="csr"))
    return sp.coo_matrix(best[0].maximum(best[1].T))


def _largest(block: sp.csr_array, n: int) -> sp.csr_array:
    """The block with the n largest entries of each row."""
    for start, stop in pairwise(block.indptr):
        if stop - start > n:
            others = np.argpartition(block.data[start:stop], -n)[:-n]
            block.data[start + others] = 0
    block.eliminate_zeros()
    return block
