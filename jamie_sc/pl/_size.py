"""Size of new figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def fit_figure(ax: Axes, width: float, height: float) -> None:
    """Make a figure, laid out as "constrained", as large as its axes (so many inches) and the names around them take."""
    figure = ax.figure.canvas.figure
    names = figure.get_tightbbox()
    figure.set_size_inches(names.width + width, names.height + height)  # so large that the layout cannot fail
    figure.draw_without_rendering()
    others = figure.get_size_inches() - np.array(ax.bbox.size) / figure.dpi
    figure.set_size_inches(others[0] + width, others[1] + height)
    figure.draw_without_rendering()
