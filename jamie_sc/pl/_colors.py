"""Colours of labels."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import scanpy as sc

from .._core._obs import colors_of

if TYPE_CHECKING:
    import pandas as pd
    from mudata import MuData


def label_colors(mdata: MuData, column: str, values: pd.Series) -> dict[str, str]:
    """A colour for each label of an obs column, in the order of its categories: the user's, else those that scanpy gives.

    `values` is the whole column, so that a label keeps its colour where only some of the cells are drawn.
    """
    labels = values.astype("category").cat.remove_unused_categories().cat.rename_categories(str)
    colors = colors_of(mdata, column, labels) or _default(len(labels.cat.categories))
    return dict(zip(labels.cat.categories, colors, strict=False))  # the default may have more


def _default(n: int) -> list[str]:
    """At least `n` colours: those of matplotlib's cycle where it has as many, else a palette of scanpy."""
    palettes = sc.pl.palettes
    for colors in (plt.rcParams["axes.prop_cycle"].by_key()["color"], palettes.default_20, palettes.default_28):
        if n <= len(colors):
            return colors
    return [color for color, _ in zip(cycle(palettes.default_102), range(n), strict=False)]
