"""Draw cells, and cut the sparse correspondence down to the batch (Algorithm 1, lines 8, 9 and 11)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import scipy.sparse as sp
    from numpy.typing import NDArray


class Links(NamedTuple):
    """Entries of F^ab within a batch: rows in modality a, rows in modality b, weights."""

    i: torch.Tensor
    j: torch.Tensor
    weight: torch.Tensor


@dataclass(frozen=True)
class Batch:
    """Cells of one optimiser step."""

    index: list[torch.Tensor]
    """For each modality, the rows drawn."""
    links: dict[tuple[int, int], Links]
    """For each two modalities a < b that have any here, the sub-matrix of F^ab."""


class Batches:
    """Batches of cells, the same cells in every modality that has them, without end.

    Cells are grouped by the modalities they were measured in, and each group is gone through in random order, over and over.
    A group's share of the batch grows with its size to the power `tempering`: at 1 every cell is seen equally often, at 1/2
    a few paired cells among many unpaired ones still fill their part of each batch.
    """

    def __init__(
        self,
        rows: Sequence[NDArray[np.intp]],
        correspondence: Mapping[tuple[int, int], sp.csr_matrix],
        *,
        batch_size: int,
        tempering: float,
        rng: np.random.Generator,
        device: torch.device,
    ) -> None:
        cells, where = np.unique(np.concatenate(rows), return_inverse=True)
        self._position = np.full((len(rows), len(cells)), -1)  # of each cell in each modality
        for k, part in enumerate(np.split(where, np.cumsum([len(r) for r in rows])[:-1])):
            self._position[k, part] = np.arange(len(part))
        _, group = np.unique(self._position >= 0, axis=1, return_inverse=True)
        self._groups = [_Deck(np.flatnonzero(group.ravel() == g), rng) for g in range(group.max() + 1)]
        sizes = np.array([len(deck.cards) for deck in self._groups])
        self.n_cells = len(cells)
        self.batch_size = min(batch_size, len(cells))
        self.steps_per_epoch = int(np.ceil(len(cells) / self.batch_size))
        self._shares = _shares(sizes, self.batch_size, tempering)
        self._correspondence = {ab: F.tocsr() for ab, F in correspondence.items() if F.nnz}
        self._device = device

    def draw(self) -> Batch:
        """The next batch."""
        cells = np.concatenate([deck.deal(n) for deck, n in zip(self._groups, self._shares, strict=True)])
        index = [position[position >= 0] for position in self._position[:, cells]]
        links = {ab: self._links(F, index[ab[0]], index[ab[1]]) for ab, F in self._correspondence.items()}
        return Batch(
            index=[torch.from_numpy(rows).to(self._device) for rows in index],
            links={ab: link for ab, link in links.items() if len(link.weight)},
        )

    def _links(self, F: sp.csr_matrix, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> Links:
        place = np.full(F.shape[1], -1)
        place[columns] = np.arange(len(columns))
        part = F[rows]
        i = np.repeat(np.arange(len(rows)), np.diff(part.indptr))
        j = place[part.indices]
        inside = j >= 0
        arrays = (i[inside], j[inside], part.data[inside].astype(np.float32))
        return Links(*(torch.from_numpy(array).to(self._device) for array in arrays))


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


def _shares(sizes: NDArray[np.intp], batch_size: int, tempering: float) -> NDArray[np.intp]:
    """Cells of each group in a batch: at least 2 where it has them, never more than it has."""
    weight = sizes**tempering
    shares = np.minimum(np.maximum(np.round(batch_size * weight / weight.sum()), 2), sizes)
    return shares.astype(int)
