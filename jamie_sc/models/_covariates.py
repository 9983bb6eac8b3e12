"""Batches as what a decoder reads: one-hot, side by side for several keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Given = Mapping[str, NDArray[np.object_]]
    Known = Mapping[str, Mapping[str, float]]


def shares(batches: Given) -> dict[str, dict[str, float]]:
    """For each key, its categories and the fraction of the cells that each has."""
    known = {key: [category for category in values if category is not None] for key, values in batches.items()}
    counts = {key: np.unique(names, return_counts=True) for key, names in known.items()}
    return {key: dict(zip(names.tolist(), (n / n.sum()).tolist(), strict=True)) for key, (names, n) in counts.items()}


def one_hot(known: Known, given: Given, n: int) -> NDArray[np.float32]:
    """Cells x categories of all keys; where a key's category is unknown, or not given, the fractions that each has."""
    parts = [np.empty((n, 0), dtype=np.float32)]
    for key, fractions in known.items():
        part = np.tile(np.array(list(fractions.values()), dtype=np.float32), (n, 1))
        column: dict[Any, int] = {category: i for i, category in enumerate(fractions)}
        found = np.array([column.get(category, -1) for category in given.get(key, [None] * n)])
        part[found >= 0] = np.eye(len(fractions), dtype=np.float32)[found[found >= 0]]
        parts.append(part)
    return np.concatenate(parts, axis=1)


def unknown(known: Known, given: Given) -> dict[str, list[str]]:
    """For each key, the categories that are not known; "missing" stands for no category at all."""
    strange = {
        key: {"missing" if c is None else str(c) for c in given.get(key, [None]) if c not in known[key]}
        for key in known
    }
    return {key: sorted(found) for key, found in strange.items() if found}


def n_categories(known: Known) -> int:
    """Width of `one_hot`."""
    return sum(len(fractions) for fractions in known.values())
