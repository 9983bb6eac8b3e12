"""Draw how alike measured and imputed values are, feature by feature."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt

from ..metrics import js_distance as js_distances
from ._imputed import read_labelled

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from matplotlib.axes import Axes
    from mudata import MuData

ROWS = 21  # of the legend


def js_distance(
    mdata: MuData,
    *,
    source: str,
    target: str,
    labels_key: str,
    key: str | None = None,
    cells: Sequence[str] | None = None,
    n_bins: int = 20,
    ax: Axes | None = None,
    show: bool | None = None,
) -> Axes | None:
    """Draw the cumulative distribution of similarity, 1 - JS distance, over features (the paper's Figure 3d).

    Similarity is that of the distributions of measured and imputed values within the cells of one label. The higher a
    line, the better; a line that is low on the left only has a few features that are imputed badly.

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
    key
        Which integration, where `mdata` holds several.
    cells
        Names of the cells to compare, such as those held out from training; default all measured and imputed ones.
    n_bins
        Number of bins of the histograms, see :func:`jamie_sc.metrics.js_distance`: the fewer cells a label has, the
        fewer bins they fill alike by chance.
    ax
        Axes to draw into; default new ones.
    show
        Show the figure and return nothing; default if no `ax` is given.

    Returns
    -------
    The axes, or `None` when shown: a line for each label (its number of cells in the legend), and in black that of each
    feature's average over labels. The title has the mean and the standard deviation of the JS distance over features and labels.

    Raises
    ------
    KeyError
        If the target was not imputed from the source, or there is no such obs column or cell.
    ValueError
        If no cell has measured and imputed values and a label, or `n_bins` is less than 2.

    Examples
    --------
    >>> import jamie_sc as jsc
    >>> mdata = jsc.datasets.simulated(n_cells=100, n_features=(20, 30))
    >>> jsc.tl.integrate(mdata, params={"max_steps": 20})
    >>> jsc.tl.impute(mdata, source="modality1", target="modality2")
    >>> ax = jsc.pl.js_distance(mdata, source="modality1", target="modality2", labels_key="cell_type", show=False)
    """
    data = read_labelled(mdata, source=source, target=target, labels_key=labels_key, key=key, cells=cells)
    distances = js_distances(data.measured, data.imputed, labels=data.labels, n_bins=n_bins)
    show = ax is None if show is None else show
    figure = None
    if ax is None:
        figure, ax = plt.subplots(figsize=(4.8, 4), layout="constrained")
    look: dict[str, Any] = {"orientation": "horizontal", "clip_on": False}
    for label, color in data.colors.items():
        name = f"{label} ({(data.labels == label).sum()})"
        ax.ecdf(1 - distances[label], color=color, linewidth=1, label=name, **look)
    average = 1 - distances.mean(axis=1)
    ax.ecdf(average, color="black", linewidth=2.5, label="average over labels", **look)
    values = distances.to_numpy()
    ax.set(
        title=f"{target} from {source}\nJS distance {values.mean():.3f} ± {values.std():.3f} (s.d.)",
        xlabel="fraction of features",
        ylabel="similarity, 1 \N{MINUS SIGN} JS distance",
        xlim=(0, 1),
        ylim=(0, 1),
    )
    ax.spines[["top", "right"]].set_visible(False)
    n_columns = -(-len(ax.lines) // ROWS)
    place: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1, 0.5), "borderaxespad": 1.5}
    legend = ax.legend(title=labels_key, ncols=n_columns, fontsize="small", frameon=False, **place)
    if figure is not None:  # room for the legend, whose names may be long and many
        box = legend.get_window_extent()
        figure.set_size_inches(4.8 + box.width / figure.dpi, max(4, box.height / figure.dpi + 0.4))
    if show:
        plt.show()
        return None
    return ax
