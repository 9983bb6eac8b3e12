"""Which cells correspond, as sparse matrices: shared names, values the user gives, and what `tl.match_cells` inferred."""

from __future__ import annotations

from itertools import combinations, permutations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
from scipy.sparse.csgraph import connected_components

from .._logging import logger
from ._modalities import some

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mudata import MuData
    from numpy.typing import NDArray

    from ._modalities import Modality

    Correspondence = dict[tuple[int, int], sp.csr_matrix]

INFERRED = "correspondence"
"""Key of obsp and uns under which `tl.match_cells` leaves what it inferred."""


def correspondence(a: Modality, b: Modality) -> sp.csr_matrix:
    """F of two modalities, cells of a x cells of b: 1 where both are the same cell by name."""
    _, i, j = np.intersect1d(a.rows, b.rows, assume_unique=True, return_indices=True)
    ones = np.ones(len(i), dtype=np.float32)
    return sp.csr_matrix((ones, (i, j)), shape=(a.n_obs, b.n_obs))


def correspondences(modalities: Sequence[Modality], given: sp.csr_matrix | None = None) -> Correspondence:
    """F of each two modalities a < b, by their positions in the list: shared names, and values given for MuData rows."""
    found = {}
    for a, b in combinations(range(len(modalities)), 2):
        F = correspondence(modalities[a], modalities[b])
        found[a, b] = F if given is None else F.maximum(_block(given, modalities[a], modalities[b])).tocsr()
    return found


def _block(links: sp.csr_matrix, a: Modality, b: Modality) -> sp.csr_matrix:
    """Rows of a x columns of b; the entries of each row in ascending order, whatever the order of the MuData was."""
    block = links[a.rows][:, b.rows].tocsr()
    block.sort_indices()
    return block.astype(np.float32)


def sure_pairs(F: sp.csr_matrix) -> NDArray[np.intp]:
    """Entries of 1 that are alone in their row and column: cells known to be the same."""
    entries = F.tocoo()
    single = (F.getnnz(axis=1)[entries.row] == 1) & (F.getnnz(axis=0)[entries.col] == 1) & (entries.data == 1)
    return np.stack([entries.row, entries.col], axis=1)[single].astype(np.intp)


def check_linked(modalities: Sequence[Modality], *correspondence: Correspondence) -> None:
    """Raise if some modality has no partner at all."""
    for k, modality in enumerate(modalities):
        if not any(F.nnz for found in correspondence for ab, F in found.items() if k in ab):
            others = ", ".join(repr(m.name) for m in modalities if m is not modality)
            example = repr(modality.name)
            msg = (
                f"No cell of modality {example} shares its name with a cell of {others}, so nothing says which cells "
                f"correspond. Give the same cell the same name in both, mdata[{example}].obs_names = ..., build the MuData "
                "anew, and check with jamie_sc.pp.pairing(mdata); give what is known as correspondence=...; or, where "
                "nothing is known, let jamie_sc.tl.match_cells(mdata) infer it."
            )
            raise ValueError(msg)


def read_correspondence(mdata: MuData, given: str | Any, index: Mapping[str, NDArray[np.intp]]) -> sp.csr_matrix:
    """What the user says corresponds, MuData cells x MuData cells: symmetric, checked, without the diagonal.

    An entry (i, j) and an entry (j, i) are the same link, the larger counts. `index` has the rows of each modality's cells;
    links of cells in none of these are left alone.
    """
    where = f"mdata.obsp[{given!r}]" if isinstance(given, str) else "correspondence"
    links = _links(mdata, given, where)
    _check_weights(links, mdata, where)
    links = (links - sp.diags(links.diagonal())).tocsr()
    links = links.maximum(links.T).tocsr()
    links.eliminate_zeros()
    _check_modalities(links, mdata, where, index)
    return links


def _links(mdata: MuData, given: str | Any, where: str) -> sp.csr_matrix:
    if isinstance(given, str) and given not in mdata.obsp:
        msg = f"There is no {where}. The MuData has {list(mdata.obsp)}."
        raise KeyError(msg)
    matrix: Any = mdata.obsp[given] if isinstance(given, str) else given
    sparse: bool = sp.issparse(matrix)
    if not sparse:
        msg = f"{where} is a dense {type(matrix).__name__}; it must be sparse: scipy.sparse.csr_matrix(...)."
        raise TypeError(msg)
    if matrix.shape != (mdata.n_obs, mdata.n_obs):
        msg = (
            f"{where} has the shape {matrix.shape}; it must be (cells, cells) of the MuData, {(mdata.n_obs, mdata.n_obs)}, rows "
            "and columns in the order of mdata.obs_names."
        )
        raise ValueError(msg)
    return sp.csr_matrix(matrix, dtype=np.float32, copy=True)


def _check_weights(links: sp.csr_matrix, mdata: MuData, where: str) -> None:
    row = np.repeat(np.arange(links.shape[0]), np.diff(links.indptr))
    checks = {
        "NaN or infinite": ~np.isfinite(links.data),
        "negative": links.data < 0,
        "greater than 1": links.data > 1,
    }
    for what, bad in checks.items():
        if bad.any():
            msg = (
                f"{where} holds {bad.sum()} values that are {what}, first for cell {mdata.obs_names[row[bad][0]]!r}. A value "
                "says how surely two cells correspond, between 0 and 1: divide each row by its sum, for example."
            )
            raise ValueError(msg)
    empty = (np.diff(links.indptr) > 0) & (np.asarray(links.sum(axis=1)).ravel() == 0)
    if empty.any():
        msg = (
            f"{where} has entries for {empty.sum()} cells that are all zero ({some(mdata.obs_names[empty])}), so these cells "
            "correspond to nothing. Give them a weight, or drop the entries: .eliminate_zeros()."
        )
        raise ValueError(msg)


def _check_modalities(links: sp.csr_matrix, mdata: MuData, where: str, index: Mapping[str, NDArray[np.intp]]) -> None:
    """Raise where two cells are linked that were measured in one modality, the same, and in no other."""
    measured = np.zeros((mdata.n_obs, len(index)), dtype=bool)
    for k, rows in enumerate(index.values()):
        measured[rows, k] = True
    alone = measured.sum(axis=1) == 1
    modality = measured.argmax(axis=1)
    entries = links.tocoo()
    bad = alone[entries.row] & alone[entries.col] & (modality[entries.row] == modality[entries.col])
    if bad.any():
        first = np.flatnonzero(bad)[0]
        names = mdata.obs_names[[entries.row[first], entries.col[first]]]
        msg = (
            f"{where} has {bad.sum() // 2} links between cells that are both in modality "
            f"{list(index)[modality[entries.row[first]]]!r} and in no other, such as {names[0]!r} and {names[1]!r}. A "
            "correspondence links a cell of one modality to a cell of another."
        )
        raise ValueError(msg)


def read_inferred(mdata: MuData, key: str = INFERRED) -> sp.csr_matrix | None:
    """What `tl.match_cells` left, MuData cells x MuData cells; None where nobody called it."""
    return _links(mdata, key, f"mdata.obsp[{key!r}]") if is_inferred(mdata, key) else None


def inferred_correspondences(modalities: Sequence[Modality], links: sp.csr_matrix) -> Correspondence:
    """What was inferred for each two modalities, a and b either way round: cells of a x cells of b, rows sum to 1."""
    blocks = {
        (a, b): rows_to_one(_block(links, modalities[a], modalities[b]))
        for a, b in permutations(range(len(modalities)), 2)
    }
    return {ab: block for ab, block in blocks.items() if block.nnz}


def is_inferred(mdata: MuData, key: str) -> bool:
    """True if `tl.match_cells` wrote obsp[key]."""
    record = mdata.uns.get(key)
    return key in mdata.obsp and isinstance(record, dict) and "params" in record


def rows_to_one(F: Any) -> sp.csr_matrix:
    """The matrix, each of its rows scaled to the sum 1; empty rows stay."""
    sums = np.asarray(F.sum(axis=1)).ravel()
    return sp.csr_matrix(sp.diags(np.divide(1, sums, out=np.zeros_like(sums), where=sums > 0)) @ F)


def n_alone(F: sp.csr_matrix) -> tuple[int, int]:
    """How many cells of each modality have no partner; where both have some, these may be one another's."""
    return int((F.getnnz(axis=1) == 0).sum()), int((F.getnnz(axis=0) == 0).sum())


def some_cells(
    modalities: Sequence[Modality], F: Correspondence, wanted: Sequence[NDArray[np.bool_]]
) -> tuple[list[Modality], Correspondence]:
    """Some of the cells of each modality, and what is left of their correspondence."""
    cells = [m.take(w) for m, w in zip(modalities, wanted, strict=True)]
    return cells, {(a, b): block[wanted[a]][:, wanted[b]].tocsr() for (a, b), block in F.items()}


def tied_by_others(F: Correspondence, n: int, *, at_least: int) -> set[tuple[int, int]]:
    """Which two of n modalities share no cell, but each shares so many with a third, or along a chain of others.

    What the chain tells is surer than geometry, which may come out mirrored.
    """
    strong = [ab for ab, part in F.items() if part.nnz >= at_least]
    i, j = np.array(strong, dtype=np.intp).reshape(-1, 2).T
    graph = sp.coo_matrix((np.ones(len(i)), (i, j)), shape=(n, n))
    _, component = connected_components(graph, directed=False)
    return {(a, b) for (a, b), part in F.items() if part.nnz == 0 and component[a] == component[b]}


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
