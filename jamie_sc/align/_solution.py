"""What a solver of the correspondence gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from scipy import sparse


@dataclass(frozen=True)
class Solution:
    """A coupling of the cells of two modalities, and how good it is."""

    coupling: NDArray[np.float32] | sparse.csr_matrix
    """Entry i, j is how much of cell i of the first modality is matched with cell j of the second (n_x x n_y)."""
    objective: float
    """What the method minimises, at this coupling and in the units of the distances that were given."""
    row_residual: float
    """Largest absolute violation of the constraints on the sums of the coupling's rows."""
    column_residual: float
    """Largest absolute violation of the constraints on the sums of the coupling's columns."""
    n_iter: int
    """Number of iterations that were run."""
    converged: bool
    """Whether the stopping rule was met; if not, the iterations were used up or cut short."""
    epsilon: float | None = None
    """Entropy of the coupling at the end, where the method has one."""
    rivals: tuple[float, ...] = ()
    """Objectives of unlike solutions that are nearly as good, in units of the best one's."""
