"""Draw how well methods align, or how alignment depends on the pairs that are known."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    import pandas as pd
    from matplotlib.axes import Axes

CHANCE = 0.5  # FOSCTTM of a random embedding
MARKERS = "osD^vPX<>p"  # so that methods tell apart without colour too


def alignment_scores(scores: pd.DataFrame, *, ax: Axes | None = None, show: bool | None = None) -> Axes | None:
    """Draw label transfer accuracy against FOSCTTM, or both over the fraction of cells that are paired.

    The first is the paper's Figure 3c, a point for each method, best at the top left. The second, for scores with a column
    `paired_fraction`, is its Supplementary Figures 4 and 10.

    Parameters
    ----------
    scores
        A row for each run, as :func:`jamie_sc.tl.evaluate` returns them, with the columns `lta` and `foscttm`; and, where
        there are, `method` (a name), `paired_fraction` (0 to 1), and `pearson` with `source` and `target` (imputation).
        Several rows of a method, such as its splits, are drawn faintly and their mean firmly.
    ax
        Axes to draw into; default new ones.
    show
        Show the figure and return nothing; default if no `ax` is given.

    Returns
    -------
    The axes, or `None` when shown: a point for each method, named in the legend; or with several `paired_fraction` a line for each score (and
    each direction of imputation), its style by method.

    Raises
    ------
    KeyError
        If a column is missing.
    ValueError
        If there are no rows, or no numbers in them.

    Examples
    --------
    >>> import pandas as pd
    >>> import jamie_sc as jsc
    >>> scores = pd.DataFrame({"method": ["JAMIE", "CCA"], "lta": [0.90, 0.27], "foscttm": [0.002, 0.366]})
    >>> ax = jsc.pl.alignment_scores(scores, show=False)
    """
    _check(scores)
    show = ax is None if show is None else show
    if ax is None:
        _, ax = plt.subplots(figsize=(6, 4), layout="constrained")
    ax.spines[["top", "right"]].set_visible(False)
    named = scores.assign(method=scores["method"].astype(str) if "method" in scores else "")
    if _has_fractions(scores):
        _draw_lines(ax, named)
    else:
        _draw_points(ax, named)
    if show:
        plt.show()
        return None
    return ax


def _has_fractions(scores: pd.DataFrame) -> bool:
    """True if there is something to draw lines over."""
    return "paired_fraction" in scores and scores["paired_fraction"].nunique() > 1


def _check(scores: pd.DataFrame) -> None:
    missing = [column for column in ("lta", "foscttm") if column not in scores]
    if missing:
        msg = (
            f"scores has no column {' and no column '.join(map(repr, missing))}: give it what jamie_sc.tl.evaluate returns, "
            "or a table of 'lta' and 'foscttm', one row for each method or run."
        )
        raise KeyError(msg)
    needed = ["foscttm"] if _has_fractions(scores) else ["lta", "foscttm"]
    if scores[needed].dropna().empty:
        msg = f"None of the {len(scores)} rows of scores has numbers in {' and '.join(map(repr, needed))}."
        if len(scores) and scores["lta"].isna().all():
            msg += " For 'lta' jamie_sc.tl.evaluate needs labels_key=, the obs column with cell types."
        raise ValueError(msg)


# Figure 3c ----------------------------------------------------------------------------------------------------------


def _draw_points(ax: Axes, scores: pd.DataFrame) -> None:
    """LTA against FOSCTTM: the mean of each method, named in the legend, and its runs."""
    kept = scores[["foscttm", "lta", "method"]].dropna()
    colors, markers = cycle(_colors()), cycle(MARKERS)
    for i, (method, runs) in enumerate(kept.groupby("method", sort=False)):
        mean = runs[["foscttm", "lta"]].mean()
        look: dict[str, Any] = {"color": next(colors), "marker": next(markers), "clip_on": False}
        if len(runs) > 1:
            ax.scatter(runs["foscttm"], runs["lta"], s=14, alpha=0.3, linewidths=0, **look)
        on_top = 3 + 1 / (i + 1)  # the first method
        ax.scatter(
            mean["foscttm"],
            mean["lta"],
            s=55,
            edgecolors="white",
            linewidths=0.6,
            zorder=on_top,
            label=method or None,
            **look,
        )
    right = max(0.1, 1.1 * kept["foscttm"].max())
    bottom = max(0.0, np.floor(10 * kept["lta"].min() - 0.5) / 10)
    ax.set(
        xlabel="FOSCTTM (lower is better)",
        ylabel="label transfer accuracy",
        xlim=(-0.03 * right, right),
        ylim=(bottom - 0.03 * (1 - bottom), 1 + 0.03 * (1 - bottom)),
    )
    if right > CHANCE:
        ax.axvline(CHANCE, color="0.7", linewidth=1, linestyle=":", zorder=0)
        foot = ax.get_xaxis_transform()
        ax.text(CHANCE - 0.01 * right, 0.01, "chance", transform=foot, color="0.5", ha="right", fontsize="small")
    if (scores["method"] != "").any():
        ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))


def _colors() -> list[str]:
    return plt.rcParams["axes.prop_cycle"].by_key()["color"]


# Supplementary Figures 4 and 10 -------------------------------------------------------------------------------------


def _draw_lines(ax: Axes, scores: pd.DataFrame) -> None:
    """A line for each score over the fraction of cells that are paired, and each run as a faint point."""
    styles = dict(zip(scores["method"].unique(), cycle(["-", "--", ":", "-."]), strict=False))
    colors = cycle(_colors())
    handles = []
    for name, rows, column in _lines(scores):
        color = next(colors)
        ax.scatter(rows["paired_fraction"], rows[column], color=color, s=12, alpha=0.3, linewidths=0)
        for method, group in rows.groupby("method", sort=False):
            mean = group.groupby("paired_fraction")[column].mean().dropna()
            label = f"{name} {method}".strip()
            ax.plot(mean.index, mean, color=color, linestyle=styles[method], marker="o", markersize=5, label=label)
        handles.append(Line2D([], [], color=color, marker="o", markersize=5, label=name))
    if len(styles) > 1:
        handles += [Line2D([], [], color="0.4", linestyle=style, label=name) for name, style in styles.items()]
    lowest = min(0.0, *(rows[column].min() for _, rows, column in _lines(scores)))
    ax.set(xlabel="cells that are paired", ylabel="score", ylim=(lowest - 0.03, 1.03))
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    ax.legend(handles=handles, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))


def _lines(scores: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame, str]]:
    """Name, rows and column of each line that has numbers."""
    named = [("LTA", scores, "lta"), ("FOSCTTM (lower is better)", scores, "foscttm")]
    if "pearson" in scores:
        if {"source", "target"} <= set(scores):
            groups = scores.groupby(["source", "target"], sort=False)
            named += [(f"Pearson, {a} \N{RIGHTWARDS ARROW} {b}", rows, "pearson") for (a, b), rows in groups]
        else:
            named.append(("Pearson", scores, "pearson"))
    for name, rows, column in named:
        if rows[column].notna().any():
            yield name, rows, column
