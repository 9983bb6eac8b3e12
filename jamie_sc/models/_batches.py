"""Mix F with what was inferred, draw cells, and cut both down to the batch (Algorithm 1 of JAMIE, lines 3, 8, 9 and 11)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import scipy.sparse as sp
import torch

from .._core._pairing import rows_to_one

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from ._base import Correspondence

    Entries = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]


class Links(NamedTuple):
    """Entries of F^ab within a batch: rows in modality a, rows in modality b, weights."""

    i: torch.Tensor
    j: torch.Tensor
    weight: torch.Tensor


def both_ways(links: Mapping[tuple[int, int], Links]) -> list[tuple[tuple[int, int], Links]]:
    """F^ab and its transpose F^ba."""
    return [*links.items(), *(((b, a), Links(link.j, link.i, link.weight)) for (a, b), link in links.items())]


@dataclass(frozen=True)
class Batch:
    """Cells of one optimiser step."""

    index: list[torch.Tensor]
    """For each modality, the rows drawn."""
    links: dict[tuple[int, int], Links]
    """For each two modalities a < b that have any here, the sub-matrix of F^ab, its columns and rows scaled (line 11)."""
    inferred: dict[tuple[int, int], Links]
    """For each a and b that have any here, the sub-matrix of the inferred F^ab; rows sum to 1."""


class Batches:
    """Batches of cells, the same cells in every modality that has them, without end.

    Cells are grouped by the modalities they were measured in and whether they have a partner, and each group is gone
    through in random order, over and over. A group's share of the batch grows with its size to the power `tempering`:
    at 1 every cell is seen equally often, at 1/2 a few paired cells among many unpaired ones still fill their part of
    each batch.

    A cell that corresponds to cells of another name brings one of them along, drawn by weight; so however sparse the
    correspondence and large the data, every such cell finds a partner in its batch. Groups of cells without any partner have
    at most the share `lone` of it, where there are others.
    """

    def __init__(
        self,
        rows: Sequence[NDArray[np.intp]],
        correspondence: Mapping[tuple[int, int], sp.csr_matrix],
        inferred: Mapping[tuple[int, int], sp.csr_matrix] | None = None,
        *,
        batch_size: int,
        tempering: float,
        lone: float = 1.0,
        unit_columns: bool = False,
        rng: np.random.Generator,
        device: torch.device,
    ) -> None:
        cell, self._position = _places(rows)
        n_cells = self._position.shape[1]
        self._links = {ab: SubMatrix(F, unit_columns=unit_columns) for ab, F in correspondence.items() if F.nnz}
        self._inferred = {ab: SubMatrix(F) for ab, F in (inferred or {}).items() if F.nnz}
        self._partners = _Partners(cell, correspondence, n_cells)
        groups = _groups(np.vstack([self._position >= 0, self._partners.any]))
        sizes = np.array([len(group) for group in groups])
        linked = np.array([self._partners.any[group[0]] for group in groups])
        self.batch_size = min(batch_size, n_cells)
        self.steps_per_epoch = int(np.ceil(n_cells / self.batch_size))
        self.n_linked = int(sizes[linked].sum()) or n_cells
        cost = np.array([1 + self._partners.brings[group].mean() for group in groups])
        shares = _shares(sizes, tempering, linked, lone)
        self._dealt = _whole(self.batch_size * shares / (shares * cost).sum(), sizes)
        self._decks = [_Deck(group, rng) for group in groups]
        self._rng, self._device = rng, device

    def draw(self) -> Batch:
        """The next batch."""
        dealt = np.concatenate([deck.deal(n) for deck, n in zip(self._decks, self._dealt, strict=True)])
        brought = np.setdiff1d(self._partners.draw(dealt, self._rng), dealt)
        cells = np.concatenate([dealt, brought])
        index = [position[position >= 0] for position in self._position[:, cells]]
        links = {ab: F.scaled(index[ab[0]], index[ab[1]]) for ab, F in self._links.items()}
        inferred = {ab: F.rows_to_one(index[ab[0]], index[ab[1]]) for ab, F in self._inferred.items()}
        return Batch(
            index=[torch.from_numpy(rows).to(self._device) for rows in index],
            links=self._tensors(links),
            inferred=self._tensors(inferred),
        )

    def _tensors(self, links: Mapping[tuple[int, int], Entries]) -> dict[tuple[int, int], Links]:
        return {
            ab: Links(*(torch.from_numpy(array).to(self._device) for array in link))
            for ab, link in links.items()
            if len(link[0])
        }


def mix(known: Correspondence, inferred: Correspondence, rho: float) -> tuple[Correspondence, Correspondence]:
    """F^ab <- rho F^ab + (1 - rho) F~^ab (Algorithm 1, line 3) for a < b; and F~^ab both for a < b and for b < a.

    F~ is clamped to F in the rows of cells that have a partner there: what is known needs no inference. Its rows sum to 1, so
    F~^ab and F~^ba are two matrices; the mix takes the mean of the one and of the other transposed.
    """
    turned = {(b, a): rows_to_one(F.T) for (a, b), F in inferred.items()}
    both = known | {(b, a): sp.csr_matrix(F.T) for (a, b), F in known.items()}
    clamped = {ab: _clamp(F, both[ab]) for ab, F in (turned | inferred).items()}
    mixed = {
        (a, b): sp.csr_matrix(rho * known[a, b] + (1 - rho) * 0.5 * (F + clamped[b, a].T))
        for (a, b), F in clamped.items()
        if a < b
    }
    return known | mixed, clamped


def _clamp(inferred: sp.csr_matrix, known: sp.csr_matrix) -> sp.csr_matrix:
    """The inferred correspondence, but F in those rows where it has any."""
    unknown = (np.diff(known.indptr) == 0).astype(np.float32)
    return sp.csr_matrix(known + sp.diags(unknown) @ inferred)


def stratified(
    rows: Sequence[NDArray[np.intp]], correspondence: Correspondence, fraction: float, rng: np.random.Generator
) -> list[NDArray[np.bool_]]:
    """For each modality, which of its cells to hold out: a fraction of those with the same modalities and partners or none.

    A cell goes in all of its modalities, so that pairs are among those held out wherever there are any.
    """
    cell, position = _places(rows)
    partners = _Partners(cell, correspondence, position.shape[1])
    held = np.zeros(position.shape[1], dtype=bool)
    for group in _groups(np.vstack([position >= 0, partners.any])):
        held[rng.permutation(group)[: math.ceil(fraction * len(group))]] = True
    return [held[part] for part in cell]


def _places(rows: Sequence[NDArray[np.intp]]) -> tuple[list[NDArray[np.intp]], NDArray[np.intp]]:
    """Number of the cell in each row of each modality; and row of each cell in each modality, -1 where it has none."""
    cells, where = np.unique(np.concatenate(rows), return_inverse=True)
    cell = np.split(where, np.cumsum([len(r) for r in rows])[:-1])
    position = np.full((len(rows), len(cells)), -1)
    for place, part in zip(position, cell, strict=True):
        place[part] = np.arange(len(part))
    return cell, position


class SubMatrix:
    """Cuts a sparse matrix down to some of its rows and columns; the cost is that of the entries in these rows."""

    def __init__(self, F: sp.csr_matrix, *, unit_columns: bool = False) -> None:
        self.F = F.tocsr(copy=True)
        self.F.eliminate_zeros()
        self._unit_columns = unit_columns
        totals = (np.asarray(self.F.sum(axis=axis)).ravel() for axis in (1, 0))
        self._row_totals, self._column_totals = (np.minimum(total, 1) for total in totals)
        self._place = np.full(F.shape[1], -1)

    def cut(self, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> Entries:
        """F[rows][:, columns]: rows, columns and weights of its entries."""
        self._place[columns] = np.arange(len(columns))
        part = self.F[rows]
        i = np.repeat(np.arange(len(rows)), np.diff(part.indptr))
        j = self._place[part.indices]
        self._place[columns] = -1
        inside = j >= 0
        return i[inside], j[inside], part.data[inside].astype(np.float32)

    def scaled(self, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> Entries:
        """The sub-matrix, its columns and rows scaled to the sum 1 (Algorithm 1, line 11), or to less if all of F has less.

        The algorithm brings columns to 1 whatever they have. If they keep less, values below 1 stay what they are to the user,
        a confidence; and as rows are as good as columns, each entry is the mean of both ways of scaling.
        """
        i, j, weight = self.cut(rows, columns)
        by_column = weight / np.bincount(j, weight, len(columns))[j]
        if self._unit_columns:
            return i, j, by_column.astype(np.float32)
        by_row = weight / np.bincount(i, weight, len(rows))[i]
        mean = 0.5 * (by_row * self._row_totals[rows[i]] + by_column * self._column_totals[columns[j]])
        return i, j, mean.astype(np.float32)

    def rows_to_one(self, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> Entries:
        """The sub-matrix, each of its rows brought to the sum 1, as in Equation 8.

        The algorithm says columns, but it is rows that Equation 9 averages over.
        """
        i, j, weight = self.cut(rows, columns)
        return i, j, (weight / np.bincount(i, weight, len(rows))[i]).astype(np.float32)


class _Partners:
    """For each cell, the cells it corresponds to, itself included where it has a shared name; to draw one by weight."""

    def __init__(
        self, cell: Sequence[NDArray[np.intp]], correspondence: Mapping[tuple[int, int], sp.csr_matrix], n: int
    ) -> None:
        parts = [(a, b, F.tocoo()) for (a, b), F in correspondence.items()]
        i = np.concatenate([np.empty(0, dtype=int), *(cell[a][F.row] for a, _, F in parts)])
        j = np.concatenate([np.empty(0, dtype=int), *(cell[b][F.col] for _, b, F in parts)])
        weight = np.concatenate([np.empty(0), *(F.data for *_, F in parts)])
        links = sp.csr_matrix((weight, (i, j)), shape=(n, n))
        self._links = sp.csr_matrix(links + links.T)
        self._sums = np.concatenate([[0.0], np.cumsum(self._links.data)])
        start, end = self._links.indptr[:-1], self._links.indptr[1:]
        self._from, self._to = self._sums[start], self._sums[end]
        own = self._links.diagonal()
        self.any = end > start
        """Which cells have a partner, themselves in another modality included."""
        self.brings = np.divide(self._to - self._from - own, self._to - self._from, out=np.zeros(n), where=self.any)
        """How likely each cell brings another one."""

    def draw(self, cells: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.intp]:
        """One partner for each of the cells that have any but themselves."""
        cells = cells[self.brings[cells] > 0]
        at = rng.uniform(self._from[cells], self._to[cells]) if len(cells) else np.empty(0)
        entry = np.searchsorted(self._sums, at, side="right") - 1
        return self._links.indices[np.minimum(entry, self._links.indptr[cells + 1] - 1)].astype(np.intp)


class _Deck:
    """Cells dealt in random order without replacement, shuffled anew when they run out."""

    def __init__(self, cards: NDArray[np.intp], rng: np.random.Generator) -> None:
        self.cards, self._rng = cards, rng
        self._left = cards[:0]

    def deal(self, n: int) -> NDArray[np.intp]:
        if len(self._left) < n:
            held = self._left
            # Those held come first and go back to the end, so that no cell is twice in a batch.
            fresh = self._rng.permutation(np.setdiff1d(self.cards, held, assume_unique=True))
            self._left = np.concatenate([held, fresh, self._rng.permutation(held)])
        dealt, self._left = self._left[:n], self._left[n:]
        return dealt


def _groups(kind: NDArray[np.bool_]) -> list[NDArray[np.intp]]:
    """Columns that are alike, together."""
    _, group = np.unique(kind, axis=1, return_inverse=True)
    return [np.flatnonzero(group.ravel() == g) for g in range(group.max() + 1)]


def _shares(sizes: NDArray[np.intp], tempering: float, linked: NDArray[np.bool_], lone: float) -> NDArray[np.float64]:
    """Share of each group: by its size to a power, those without any partner `lone` at most, if there are others."""
    shares = sizes**tempering / (sizes**tempering).sum()
    if linked.any() and shares[~linked].sum() > lone:
        shares[~linked] *= lone / shares[~linked].sum()
        shares[linked] *= (1 - lone) / shares[linked].sum()
    return shares


def _whole(wanted: NDArray[np.float64], sizes: NDArray[np.intp]) -> NDArray[np.intp]:
    """Whole cells of each group: at least 2 where it has them, never more than it has."""
    return np.minimum(np.maximum(np.round(wanted), 2), sizes).astype(int)
