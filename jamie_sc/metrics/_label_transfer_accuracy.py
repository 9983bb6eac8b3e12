"""Label transfer accuracy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.neighbors import KNeighborsClassifier

from ._arrays import embedding_pair, label_codes

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def label_transfer_accuracy(
    x: ArrayLike,
    y: ArrayLike,
    labels_x: ArrayLike,
    labels_y: ArrayLike,
    *,
    n_neighbors: int | None = None,
) -> float:
    """Accuracy of a nearest-neighbour classifier trained on `y` and asked for the labels of `x` (JAMIE section 4.9).

    The two modalities need not share cells. Swap the arguments for the other direction.

    Parameters
    ----------
    x
        Embedding whose labels are predicted (n_x cells x latent dimensions).
    y
        Embedding whose labels are known (n_y cells x latent dimensions).
    labels_x
        One label, such as the cell type, for each row of `x`.
    labels_y
        One label for each row of `y`.
    n_neighbors
        Neighbours that vote, by Euclidean distance. By default the rule of the published code,
        ``int(0.2 * min(n_x, n_y) / n_classes)`` and at least 1, where the classes are those of either modality.

    Returns
    -------
    The fraction of cells of `x` whose label is predicted correctly, from 0 to 1.

    Raises
    ------
    ValueError
        If the embeddings differ in width, are empty or hold NaN; if there is not one label for each cell or one is
        missing; if the two modalities have no label in common; if `n_neighbors` is not between 1 and n_y.

    Examples
    --------
    >>> import jamie_sc as jsc
    >>> rna, ephys = [[0.0], [0.1], [5.0], [5.1]], [[0.2], [4.9]]
    >>> jsc.metrics.label_transfer_accuracy(rna, ephys, ["L4", "L4", "L6", "L4"], ["L4", "L6"])
    0.75
    """
    x, y = embedding_pair(x, y, same_cells=False)
    codes_x, classes_x = label_codes(labels_x, "labels_x", n_cells=len(x))
    codes_y, classes_y = label_codes(labels_y, "labels_y", n_cells=len(y))
    if classes_x.intersection(classes_y).empty:
        msg = f"labels_x and labels_y have no label in common: {list(classes_x[:3])} and {list(classes_y[:3])}, …"
        raise ValueError(msg)
    if n_neighbors is None:
        n_neighbors = max(1, int(0.2 * min(len(x), len(y)) / len(classes_x.union(classes_y))))
    if not 1 <= n_neighbors <= len(y):
        msg = f"n_neighbors is {n_neighbors}, but must be between 1 and the {len(y)} cells of y."
        raise ValueError(msg)
    classifier = KNeighborsClassifier(n_neighbors).fit(y, codes_y)
    predicted = classes_y.take(classifier.predict(x))
    return float(np.mean(classes_x.take(codes_x) == predicted))
