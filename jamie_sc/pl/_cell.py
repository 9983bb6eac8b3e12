"""Draw one cell's imputed against its measured values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import scipy.sparse as sp
from scipy.stats import pearsonr
from sklearn.metrics import r2_score
from sklearn.preprocessing import StandardScaler

from ._imputed import read_imputed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.text import Annotation, Text
    from matplotlib.transforms import Bbox
    from mudata import MuData
    from numpy.typing import NDArray

    from ._imputed import Imputed

CHUNK = 1000  # cells that are dense at a time
PLACES = [(side * 5, up * 4 * far) for far in (1, 3, 5, 8, 11, 14) for up in (1, -1) for side in (-1, 1)]
"""Where a name may be, in points from its point; the first is away from the diagonal, for a point above it."""


def cell(
    mdata: MuData,
    *,
    source: str,
    target: str,
    cell: str | None = None,
    standardize: bool = True,
    n_labels: int = 5,
    key: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
) -> Axes | None:
    """Draw one cell's imputed against its measured values, a point for each feature (the paper's Supplementary Figure 2).

    Parameters
    ----------
    mdata
        A MuData that :func:`jamie_sc.tl.impute` wrote to.
    source
        Modality imputed from.
    target
        Modality that was imputed, and measured in the same cell.
    cell
        Name of the cell; default the one whose R² is the median over all measured and imputed cells.
    standardize
        Draw, and score, each feature as standard deviations from its mean, both those of its measured values in all
        cells: features differ in unit and size, and the largest would decide R² alone. False for the values themselves.
    n_labels
        Name this many features, those furthest from the diagonal.
    key
        Which integration, where `mdata` holds several.
    ax
        Axes to draw into; default new ones.
    show
        Show the figure and return nothing; default if no `ax` is given.

    Returns
    -------
    The axes, or `None` when shown. In the corner R², which is 1 where all points lie on the diagonal and can be negative,
    and the Pearson correlation with its p-value, over features.

    Raises
    ------
    KeyError
        If the target was not imputed from the source, or the cell was not both measured and imputed.
    ValueError
        If no cell was, or the target has fewer than 2 features.

    Examples
    --------
    >>> import jamie_sc as jsc
    >>> mdata = jsc.datasets.simulated(n_cells=100, n_features=(20, 30))
    >>> jsc.tl.integrate(mdata, params={"max_steps": 20})
    >>> jsc.tl.impute(mdata, source="modality1", target="modality2")
    >>> ax = jsc.pl.cell(mdata, source="modality1", target="modality2", cell="cell3", show=False)
    """
    data = read_imputed(mdata, source=source, target=target, key=key)
    if len(data.var_names) < 2:
        msg = f"{target!r} has only the feature {data.var_names[0]!r}: there is nothing to correlate within one cell."
        raise ValueError(msg)
    scaler = StandardScaler(with_mean=False).fit(data.measured) if standardize else None
    row = _median_row(data, scaler) if cell is None else data.rows([cell])[0]
    measured, imputed = (values[0] for values in _dense(data, scaler, [row]))
    show = ax is None if show is None else show
    if ax is None:
        _, ax = plt.subplots(figsize=(4.5, 4.5), layout="constrained")
    ax.scatter(measured, imputed, s=14, alpha=0.6, linewidths=0, rasterized=len(measured) > 10_000)
    low, high = min(measured.min(), imputed.min()), max(measured.max(), imputed.max())
    limits = low - 0.1 * (high - low), high + 0.1 * (high - low)
    ax.axline((low, low), slope=1, color="0.4", linestyle="--", linewidth=1, zorder=0)
    unit = " (s.d. from the mean)" if standardize else ""
    ax.set(title=data.obs_names[row], xlabel=f"measured{unit}", ylabel=f"imputed from {source}{unit}")
    ax.set(xlim=limits, ylim=limits, box_aspect=1)
    ax.spines[["top", "right"]].set_visible(False)
    corner = ax.text(0.03, 0.97, _scores(measured, imputed), transform=ax.transAxes, va="top", fontsize="small")
    furthest = np.argsort(-np.abs(imputed - measured), kind="stable")[:n_labels]
    _name_points(ax, np.column_stack([measured, imputed]), {i: data.var_names[i] for i in furthest}, corner)
    if show:
        plt.show()
        return None
    return ax


def _dense(
    data: Imputed, scaler: StandardScaler | None, rows: Sequence[int] | NDArray[np.intp]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Measured and imputed values of some cells, standardised by the measured ones."""
    block, imputed = data.measured[rows], data.imputed[rows].astype(np.float64)
    measured = np.asarray(block.toarray() if sp.issparse(block) else block, dtype=np.float64)
    if scaler is None:
        return measured, imputed
    return (measured - scaler.mean_) / scaler.scale_, (imputed - scaler.mean_) / scaler.scale_


def _median_row(data: Imputed, scaler: StandardScaler | None) -> int:
    """The cell with the median R² over features."""
    rows = data.rows()
    r2 = []
    for start in range(0, len(rows), CHUNK):
        measured, imputed = _dense(data, scaler, rows[start : start + CHUNK])
        r2.append(r2_score(measured.T, imputed.T, multioutput="raw_values"))
    return rows[np.argsort(np.concatenate(r2), kind="stable")[(len(rows) - 1) // 2]]


def _scores(measured: NDArray[np.float64], imputed: NDArray[np.float64]) -> str:
    """What is written in the corner; a constant has no correlation."""
    text = f"R² = {r2_score(measured, imputed):z.2f}"
    if np.ptp(measured) > 0 and np.ptp(imputed) > 0:
        r, p = pearsonr(measured, imputed)
        text += f"\nPearson r = {r:z.2f} ({f'p = {p:.1g}' if p > 0 else 'p < 1e-300'})"
    return text.replace("-", "\N{MINUS SIGN}")


def _name_points(ax: Axes, points: NDArray[np.float64], names: dict[int, str], corner: Text) -> None:
    """Write names beside their points, each where it covers no other name and the fewest points."""
    ax.figure.canvas.figure.draw_without_rendering()  # what lies where is known once the figure is laid out
    drawn, taken = ax.transData.transform(points), [corner.get_window_extent()]
    frame = ax.get_window_extent().padded(-10)  # pixels, in case the layout still changes

    def cost(box: Bbox) -> tuple[int, int]:
        outside = not (frame.contains(*box.min) and frame.contains(*box.max))
        return outside + sum(box.overlaps(other) for other in taken), box.count_contains(drawn)

    for i, name in names.items():
        text = ax.annotate(name, points[i], (0, 0), textcoords="offset points", fontsize="x-small")
        away = 1 if points[i, 1] > points[i, 0] else -1
        places = [(away * dx, away * dy) for dx, dy in PLACES]
        costs = [cost(_put(text, place)) for place in places]
        place = places[costs.index(min(costs))]
        taken.append(_put(text, place))
        line = {"arrowstyle": "-", "color": "0.5", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2}
        ax.annotate("", points[i], place, textcoords="offset points", arrowprops=line)


def _put(text: Annotation, place: tuple[int, int]) -> Bbox:
    """Move a name so many points from its point, and return where it is then."""
    dx, dy = text.xyann = place
    text.set(ha="left" if dx > 0 else "right", va="bottom" if dy > 0 else "top")
    return text.get_window_extent()
