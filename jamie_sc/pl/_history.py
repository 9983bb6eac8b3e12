"""Draw the loss terms of a training run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt

from ..get import history as get_history

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from mudata import MuData

KAPPA = "κ, weight of the KL term"


def history(mdata: MuData, *, key: str | None = None, ax: Axes | None = None, show: bool | None = None) -> Axes | None:
    """Draw loss terms and κ over optimiser steps (the paper's Supplementary Figure 12).

    Parameters
    ----------
    mdata
        A MuData that :func:`jamie_sc.tl.integrate` wrote to.
    key
        Which integration, where `mdata` holds several.
    ax
        Axes to draw into; default new ones.
    show
        Show the figure and return nothing; default if no `ax` is given.

    Returns
    -------
    The axes, or `None` when shown: a line for each loss term on a logarithmic scale, unweighted; and κ, the weight of the KL
    term (section 4.7), on axes of its own at the right.

    Raises
    ------
    KeyError
        If there is no trained model.

    Examples
    --------
    >>> import jamie_sc as jsc
    >>> mdata = jsc.datasets.simulated(n_cells=100, n_features=(20, 30))
    >>> jsc.tl.integrate(mdata, params={"max_steps": 20})
    >>> ax = jsc.pl.history(mdata, show=False)
    """
    frame = get_history(mdata, key=key)
    show = ax is None if show is None else show
    if ax is None:
        _, ax = plt.subplots(figsize=(7, 4), layout="constrained")
    for term in frame:
        if term not in ("total", "kappa"):
            ax.plot(frame.index, frame[term], label=str(term).replace("_", " "), linewidth=1.5)
    ax.set(xlabel="optimiser step", ylabel="loss term, unweighted", yscale="log")
    ax.spines[["top", "right"]].set_visible(False)
    lines = list(ax.lines)
    if "kappa" in frame:
        right = ax.twinx()
        lines += right.plot(frame.index, frame["kappa"], label=KAPPA, color="0.5", linestyle="--", linewidth=1.5)
        right.set(ylabel=KAPPA, ylim=(0, 1.03))
        right.spines["top"].set_visible(False)
    if lines:
        ax.legend(handles=lines, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), borderaxespad=5)
    if show:
        plt.show()
        return None
    return ax
