"""Draw measured beside imputed values of a few features."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import to_rgba

from .._core._modalities import dense, some
from ..metrics import js_distance
from ..metrics._arrays import feature_blocks
from ._imputed import read_labelled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from mudata import MuData
    from numpy.typing import NDArray

    from ._imputed import Labelled


def measured_vs_imputed(
    mdata: MuData,
    *,
    source: str,
    target: str,
    labels_key: str,
    features: str | Sequence[str] | None = None,
    n_features: int = 2,
    key: str | None = None,
    cells: Sequence[str] | None = None,
    ax: Axes | Sequence[Axes] | None = None,
    show: bool | None = None,
) -> list[Axes] | None:
    r"""Draw boxplots of measured and of imputed values by label, for a few features (the paper's Figure 3e).

    Boxes span the quartiles with a line at the median, whiskers reach the furthest cells within 1.5 times the
    interquartile range, and the cells beyond are points.

    Parameters
    ----------
    mdata
        A MuData that :func:`jamie_sc.tl.impute` wrote to.
    source
        Modality imputed from.
    target
        Modality that was imputed, and measured in the same cells.
    labels_key
        obs column of labels, such as cell types; cells without a label are left out. Colours kept in
        `.uns["<labels_key>_colors"]` are used.
    features
        Features to draw. Default: those that tell labels apart and are imputed alike, that is with the highest
        :math:`\eta^2 (1 - d)`. :math:`\eta^2` is the share of the variance of the measured values that lies between
        labels, and :math:`d` the JS distance between measured and imputed values, averaged over labels. Chosen this
        way, they show what works best. Features with one value in all cells come last.
    n_features
        How many to choose, where `features` are not given.
    key
        Which integration, where `mdata` holds several.
    cells
        Names of the cells to draw, such as those held out from training; default all measured and imputed ones.
    ax
        Two axes for each feature, row by row: the measured values of all features, then the imputed ones; default new
        ones.
    show
        Show the figure and return nothing; default if no `ax` is given.

    Returns
    -------
    The axes, row by row, or `None` when shown. The title of a feature has its JS distance, averaged over labels.

    Raises
    ------
    KeyError
        If the target was not imputed from the source, or there is no such obs column, cell or feature.
    ValueError
        If no cell has measured and imputed values and a label, if there is no feature to draw, or if the number of axes
        is not twice that of the features.

    Examples
    --------
    >>> import jamie_sc as jsc
    >>> mdata = jsc.datasets.simulated(n_cells=100, n_features=(20, 30))
    >>> jsc.tl.integrate(mdata, params={"max_steps": 20})
    >>> jsc.tl.impute(mdata, source="modality1", target="modality2")
    >>> axes = jsc.pl.measured_vs_imputed(
    ...     mdata, source="modality1", target="modality2", labels_key="cell_type", features="modality2:3", show=False
    ... )
    """
    if n_features < 1:
        msg = f"n_features must be at least 1, not {n_features}."
        raise ValueError(msg)
    data = read_labelled(mdata, source=source, target=target, labels_key=labels_key, key=key, cells=cells)
    columns = _telling(data, n_features) if features is None else _columns(data, features, target)
    measured, imputed = data.measured[:, columns], data.imputed[:, columns]
    measured = dense(measured)
    distances = js_distance(measured, imputed, labels=data.labels).mean(axis=1)
    show = ax is None if show is None else show
    axes = _axes(ax, n_features=len(columns), n_labels=len(data.colors))
    for j, column in enumerate(columns):
        axes[0, j].set_title(f"{data.var_names[column]}\nJS distance {distances[j]:.2f}", fontsize="medium")
        for panel, values in zip(axes[:, j], (measured[:, j], imputed[:, j]), strict=True):
            _draw_boxes(panel, values, data)
        low, high = zip(*(panel.get_ylim() for panel in axes[:, j]), strict=True)
        for panel in axes[:, j]:
            panel.set_ylim(min(low), max(high))
        axes[0, j].tick_params(labelbottom=False)
    axes[0, 0].set_ylabel("measured")
    axes[1, 0].set_ylabel(f"imputed from {source}")
    if ax is None:  # room for the names of the labels, which may be long
        figure = axes[0, 0].figure
        names = [name.get_window_extent().height for name in axes[1, 0].get_xticklabels()]
        figure.set_figheight(figure.get_figheight() + max(names) / figure.dpi)
    if show:
        plt.show()
        return None
    return list(axes.ravel())


# Which features -----------------------------------------------------------------------------------------------------


def _columns(data: Labelled, features: str | Sequence[str], target: str) -> NDArray[np.intp]:
    """Columns of the features asked for."""
    wanted = pd.Index([features] if isinstance(features, str) else list(features))
    columns = data.var_names.get_indexer(wanted)
    if not len(wanted):
        msg = "features is empty: name at least one, or leave it out to have n_features chosen."
        raise ValueError(msg)
    if (columns < 0).any():
        msg = f"There is no feature {some(wanted[columns < 0])} in {target!r}. Its features begin with {some(data.var_names)}."
        raise KeyError(msg)
    return columns


def _telling(data: Labelled, n: int) -> NDArray[np.intp]:
    """Columns of the features that tell labels apart and are imputed alike, best first; constant ones last."""
    similarity = 1 - js_distance(data.measured, data.imputed, labels=data.labels).mean(axis=1).to_numpy()
    blocks = feature_blocks(data.measured, data.imputed)
    score = similarity * np.concatenate([_between_labels(measured, data.labels) for measured, _ in blocks])
    return np.argsort(-score, kind="stable")[:n]  # NaN comes last


def _between_labels(values: NDArray[np.float64], labels: NDArray[np.object_]) -> NDArray[np.float64]:
    """Share of each feature's variance that lies between labels, eta squared; NaN where it is constant."""
    table = pd.DataFrame(values)  # of float32 values: sums in float64 are exact where all are the same
    return (table.groupby(labels).transform("mean").var() / table.var()).to_numpy()


# Panels -------------------------------------------------------------------------------------------------------------


def _axes(ax: Axes | Sequence[Axes] | None, *, n_features: int, n_labels: int) -> NDArray[np.object_]:
    """Two rows of axes, a column for each feature."""
    if ax is None:
        size = (n_features * max(2.5, 0.16 * n_labels) + 0.5, 4.5)
        return plt.subplots(2, n_features, figsize=size, squeeze=False, layout="constrained")[1]
    given = np.ravel(np.array(ax, dtype=object))
    if len(given) != 2 * n_features:
        msg = (
            f"{n_features} features take {2 * n_features} axes, the upper row first; ax has {len(given)}. "
            f"Make them with matplotlib.pyplot.subplots(2, {n_features})."
        )
        raise ValueError(msg)
    return given.reshape(2, n_features)


def _draw_boxes(ax: Axes, values: NDArray, data: Labelled) -> None:
    """A box for each label in its colour."""
    drawn = ax.boxplot(
        [values[data.labels == label] for label in data.colors],
        widths=0.7,
        patch_artist=True,
        medianprops={"color": "black", "linewidth": 1.2},
        boxprops={"linewidth": 0.8},
        whiskerprops={"linewidth": 0.8},
        capprops={"linewidth": 0.8},
        flierprops={"marker": ".", "markersize": 3, "rasterized": len(values) > 10_000},
    )
    for box, points, color in zip(drawn["boxes"], drawn["fliers"], data.colors.values(), strict=True):
        box.set_facecolor(to_rgba(color, 0.6))
        points.set(markerfacecolor=color, markeredgecolor=color)
    ax.set_xticks(range(1, len(data.colors) + 1), list(data.colors))
    ax.tick_params(axis="x", rotation=90, labelsize="small")
    ax.spines[["top", "right"]].set_visible(False)
