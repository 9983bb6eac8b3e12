"""Draw what is lost without features."""

from __future__ import annotations

from textwrap import fill
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.lines import Line2D
from scipy.stats import false_discovery_control

from .._core._slots import find_result
from ..get import feature_impact as get_impact
from ._size import fit_figure

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    import pandas as pd
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from mudata import MuData

COLOR, RANDOM = "C0", "0.55"
FDR = 0.05
UPRIGHT = 8  # sets whose names are not turned


def feature_impact(
    mdata: MuData,
    *,
    n_features: int = 14,
    n_random: int = 6,
    key: str | None = None,
    rng: int | np.random.Generator | None = 0,
    ax: Axes | None = None,
    show: bool | None = None,
) -> Axes | None:
    """Draw the score with features replaced, beside the score with all features (the paper's Figure 6a).

    A point is the score where one feature, or one set, is replaced by its background, and its bar the standard error of that
    over cells; the red line and band are the same for all features. The axis need not begin at 0: it spans points, bars and
    band, so that losses far smaller than what the choice of cells decides look small. Losses are tested within cells, which
    is sharper: one may be significant (a full point) although its bar and the band overlap.

    Parameters
    ----------
    mdata
        A MuData that :func:`jamie_sc.tl.feature_impact` wrote to.
    n_features
        Features of largest impact to draw. Of sets, all are drawn, in the order given.
    n_random
        Other features to draw for comparison, in grey. Sets are compared with random sets as large, where there are:
        their mean and standard deviation.
    key
        Name of the result (`key_added`), where `mdata` holds several.
    rng
        Seed of the other features drawn.
    ax
        Axes to draw into; default new ones.
    show
        Show the figure and return nothing; default if no `ax` is given.

    Returns
    -------
    The axes, or `None` when shown. Points are full where the loss is significant at a false discovery rate of 5 % among all
    features or sets tried (Benjamini-Hochberg, on `pvalue` of :func:`jamie_sc.get.feature_impact`). The legend says how many
    more features have as much impact as the last one drawn.

    Raises
    ------
    KeyError
        If there is no such result.
    ValueError
        If `n_features` is below 1 or `n_random` below 0.

    Examples
    --------
    >>> import jamie_sc as jsc
    >>> mdata = jsc.datasets.simulated(n_cells=100, n_features=(20, 30))
    >>> jsc.tl.integrate(mdata, params={"max_steps": 20})
    >>> jsc.tl.feature_impact(mdata, source="modality1", labels_key="cell_type")
    >>> ax = jsc.pl.feature_impact(mdata, show=False)
    """
    if n_features < 1 or n_random < 0:
        msg = f"n_features={n_features}, n_random={n_random}: one feature at least, and no fewer than no random ones."
        raise ValueError(msg)
    _, record = find_result(mdata, holding="baseline", made_by="jamie_sc.tl.feature_impact", key=key)
    table = get_impact(mdata, key=key).assign(significant=lambda t: false_discovery_control(t["pvalue"]) <= FDR)
    of_sets = bool(record["params"]["of_sets"])
    shown = table if of_sets else _choose(table, n_features, n_random, np.random.default_rng(rng))
    show = ax is None if show is None else show
    new = ax is None
    if ax is None:
        _, ax = plt.subplots(layout="constrained")
    upright = len(shown) <= UPRIGHT and (new or _width(ax) >= len(shown))
    handles = _draw_sets(ax, shown, upright=upright) if of_sets else _draw_features(ax, shown, _ties(table, n_features))
    handles.insert(0, _draw_baseline(ax, record))
    ax.set(title=_title(record["params"]), ylabel=_ylabel(record["params"]), xlim=(-0.6, len(shown) - 0.4))
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(handles=handles, frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    if new:
        fit_figure(ax, max(3, len(shown) * (1.1 if of_sets and upright else 0.3)), 2.8)
    if show:
        plt.show()
        return None
    return ax


def _choose(table: pd.DataFrame, n_features: int, n_random: int, rng: np.random.Generator) -> pd.DataFrame:
    """The first features, and some of the others."""
    others = np.arange(n_features, len(table))
    drawn = np.sort(rng.permutation(others)[:n_random])
    shown = table.iloc[[*range(min(n_features, len(table))), *drawn]]
    return shown.assign(random=np.arange(len(shown)) >= n_features)


def _ties(table: pd.DataFrame, n_features: int) -> int:
    """Features beyond those drawn that have the impact of the last one."""
    rest = table["impact"].iloc[n_features:]
    return int(np.isclose(rest, table["impact"].iloc[:n_features].iloc[-1], rtol=0, atol=1e-9).sum())


def _draw_features(ax: Axes, shown: pd.DataFrame, ties: int) -> list[Artist]:
    places = np.arange(len(shown))
    random = shown["random"].to_numpy()
    for which, color in ((~random, COLOR), (random, RANDOM)):
        _draw_points(ax, places[which], shown[which], color)
    ax.set_xticks(places, shown.index, rotation=90)
    for label, other in zip(ax.get_xticklabels(), random, strict=True):
        label.set_color(RANDOM if other else "black")
    more = f"\n({ties:,} more have that of the last)" if ties else ""
    handles = [_handle(COLOR, f"largest impact{more}"), _handle(RANDOM, "others, at random")]
    return _keys(shown, handles if random.any() else handles[:1])


def _width(ax: Axes) -> float:
    """In inches."""
    return ax.get_window_extent().width / ax.figure.dpi


def _draw_sets(ax: Axes, shown: pd.DataFrame, *, upright: bool) -> list[Artist]:
    places = np.arange(len(shown))
    compared = "random_score" in shown
    _draw_points(ax, places - (0.12 if compared else 0), shown, COLOR)
    handles = [_handle(COLOR, "set")]
    if compared:
        score, sd = shown["random_score"], shown["random_sd"]
        ax.errorbar(places + 0.12, score, sd, fmt="D", markersize=5, color=RANDOM, elinewidth=1, capsize=3)
        handles.append(_handle(RANDOM, "random sets as large,\nmean \N{PLUS-MINUS SIGN} s.d.", marker="D"))
    sizes = [f"{n:,} feature{'s' * (n != 1)}" for n in shown["n_features"]]
    if not upright:
        labels = [f"{name}, {size}" for name, size in zip(shown.index, sizes, strict=True)]
        ax.set_xticks(places, labels, rotation=90)
    else:
        labels = [f"{fill(str(name), 13)}\n{size}" for name, size in zip(shown.index, sizes, strict=True)]
        ax.set_xticks(places, labels)
    return _keys(shown, handles)


def _draw_points(ax: Axes, places: np.ndarray, rows: pd.DataFrame, color: str) -> None:
    """Scores with their standard errors; full where the loss is significant."""
    ax.errorbar(places, rows["score"], rows["sd"], fmt="none", ecolor=color, elinewidth=1, zorder=2)
    faces = [color if full else "white" for full in rows["significant"]]
    ax.scatter(places, rows["score"], s=36, facecolors=faces, edgecolors=color, zorder=3)


def _draw_baseline(ax: Axes, record: Mapping[str, Any]) -> Artist:
    score, sd = float(record["baseline"]), float(record["baseline_sd"])
    ax.axhspan(score - sd, score + sd, color="tab:red", alpha=0.12, linewidth=0, zorder=0)
    label = f"all features: {score:.3f} \N{PLUS-MINUS SIGN} {sd:.3f}"
    return ax.axhline(score, color="tab:red", linewidth=1.5, zorder=1, label=label)


def _keys(shown: pd.DataFrame, handles: list[Artist]) -> list[Artist]:
    """The colours, and what full and empty points mean, of those that are there."""
    full = shown["significant"]
    if full.any():
        handles.append(_handle("0.2", f"loss significant (FDR {FDR:.0%})"))
    if not full.all():
        handles.append(_handle("0.2", "not significant", markerfacecolor="white"))
    return [*handles, _handle("0.2", "standard error over cells", marker="|", markersize=12)]


def _handle(color: str, label: str, *, marker: str = "o", markersize: int = 6, **look: Any) -> Artist:
    return Line2D([], [], color=color, marker=marker, markersize=markersize, linestyle="none", label=label, **look)


def _title(params: Mapping[str, Any]) -> str:
    """What was replaced, by what, and what was scored in how many cells."""
    of = f"{params['source']} features"
    what = f"sets of {of}" if params["of_sets"] else f"{of}, one at a time,"
    what = f"all {of} but the set" if params["keep"] else what
    by = "their means" if params["background"] == "mean" else "those of other cells"
    return f"{what} replaced by {by}\n{int(params['n_cells']):,} cells"


def _ylabel(params: Mapping[str, Any]) -> str:
    if params["metric"] == "lta":
        return f"label transfer accuracy\n({params['labels_key']} of {params['source']} by {params['target']})"
    n = int(params["n_targets"])
    of = params["near"] if n == 1 and "near" in params else f"{params['target']}, mean over {n:,} features"
    return f"Pearson correlation\nof measured and imputed\n({of})"
