"""Fraction of samples closer than the true match."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.spatial.distance import cdist

from ._arrays import embedding_pair

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def foscttm(
    x: ArrayLike,
    y: ArrayLike,
    *,
    ties: Literal["strict", "half"] = "strict",
    chunk_size: int = 256,
) -> float:
    r"""Fraction of samples closer than the true match (JAMIE section 4.9): 0 is a perfect alignment, 0.5 is chance.

    With Euclidean distances :math:`d_{ij} = \lVert x_i - y_j \rVert` of :math:`N` cells,

    .. math::
        \frac{1}{2N} \sum_i \left[ \frac{\#\{j : d_{ji} < d_{ii}\}}{N} + \frac{\#\{j : d_{ij} < d_{ii}\}}{N} \right].

    Parameters
    ----------
    x
        Embedding of the first modality (cells x latent dimensions).
    y
        Embedding of the second modality, of the same shape. Row i of `x` and of `y` is the same cell.
    ties
        What a cell :math:`j \neq i` at exactly the distance of the true match counts: nothing (``"strict"``, as in the
        papers) or one half (``"half"``). An embedding that collapsed to one point is all ties: it scores 0 under
        ``"strict"``, as if it were perfect, and :math:`(N - 1) / 2N` under ``"half"``, as a random embedding does.
    chunk_size
        Rows of the distance matrix held at a time. Memory is `chunk_size` x cells, and the result does not depend on
        it.

    Returns
    -------
    The fraction, from 0 to :math:`(N - 1) / N`.

    Raises
    ------
    ValueError
        If `x` and `y` differ in shape, are empty or hold NaN or infinite values.

    Examples
    --------
    >>> import numpy as np
    >>> import jamie_sc as jsc
    >>> x = np.arange(4.0)[:, None]
    >>> jsc.metrics.foscttm(x, x)
    0.0
    >>> jsc.metrics.foscttm(x, x[::-1])  # each end of the line was matched to the other end
    0.5
    >>> jsc.metrics.foscttm(np.zeros((4, 2)), np.zeros((4, 2)), ties="half")
    0.375
    """
    x, y = embedding_pair(x, y, same_cells=True)
    if ties not in ("strict", "half"):
        msg = f"ties is 'strict' or 'half', not {ties!r}."
        raise ValueError(msg)
    if chunk_size < 1:
        msg = f"chunk_size must be at least 1, not {chunk_size}."
        raise ValueError(msg)
    n = len(x)
    chunks = [slice(start, min(start + chunk_size, n)) for start in range(0, n, chunk_size)]
    # The same routine as for all distances below, so that two pairs equally far apart compare as equal.
    true_match = np.concatenate([cdist(x[rows], y[rows]).diagonal() for rows in chunks])
    closer = tied = 0
    for rows in chunks:
        distances = cdist(x[rows], y)
        np.fill_diagonal(distances[:, rows], np.nan)  # the true match itself is neither closer nor tied
        for threshold in (true_match[rows, None], true_match):  # other y around x_i, other x around y_i
            closer += int(np.count_nonzero(distances < threshold))
            if ties == "half":
                tied += int(np.count_nonzero(distances == threshold))
    return (closer + tied / 2) / (2 * n * n)
