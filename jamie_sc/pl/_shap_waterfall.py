"""Draw how the features of one cell add up to what the model makes of it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import FancyArrow

from ._explained import read_explained
from ._size import fit_figure

if TYPE_CHECKING:
    from collections.abc import Iterator

    import shap
    from matplotlib.axes import Axes
    from matplotlib.text import Text
    from mudata import MuData
    from numpy.typing import NDArray


def shap_waterfall(
    mdata: MuData,
    *,
    cell: str | None = None,
    output: str | None = None,
    max_display: int = 10,
    key: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
) -> Axes | None:
    """Draw the SHAP values of one cell, from the base value to the cell's own (the paper's Figure 6b).

    From the bottom, each arrow is what a feature adds, red, or takes away, blue. They lead from E[f(X)], the value for the
    background, to f(x), the value for this cell. Beside each feature's name is its value in the cell, on the scale trained
    on. Drawn by :func:`shap.plots.waterfall`.

    Parameters
    ----------
    mdata
        A MuData that :func:`jamie_sc.tl.explain` wrote to.
    cell
        Name of a cell that was explained; default the one whose output lies furthest from the base value.
    output
        The imputed feature, latent dimension ("latent 3") or label; needed where several were explained.
    max_display
        Rows to draw; the last sums up all other features.
    key
        Name of the result (`key_added`), where `mdata` holds several.
    ax
        Axes to draw into, of a figure that pyplot made; default new ones.
    show
        Show the figure and return nothing; default if no `ax` is given.

    Returns
    -------
    The axes, or `None` when shown. The x axis is in the unit of the output: that of the imputed feature, log-odds of a label,
    or that of the latent; where the largest value is below 0.02, or 10,000 and more, in a power of ten of it that the label
    states.

    Raises
    ------
    KeyError
        If there is no such result, cell or output, or several outputs and none is chosen.
    ValueError
        If `max_display` is below 1, or the figure of `ax` is not one of pyplot's, into which the shap package draws.

    Examples
    --------
    >>> import jamie_sc as jsc
    >>> mdata = jsc.datasets.simulated(n_cells=100, n_features=(20, 30))
    >>> jsc.tl.integrate(mdata, params={"max_steps": 20})
    >>> jsc.tl.explain(mdata, source="modality1", latent=0, cells=10)
    >>> ax = jsc.pl.shap_waterfall(mdata, show=False)
    """
    import shap

    _check(max_display, ax)
    found = read_explained(mdata, output=output, key=key)
    row = int(np.argmax(np.abs(found.values.values.sum(axis=1)))) if cell is None else found.row(cell)
    values = found.values.values[row].astype(np.float64)
    power = _power(values)
    scaled = shap.Explanation(
        values=values / 10.0**power,
        base_values=float(found.values.base_values[row]) / 10.0**power,
        data=found.values.data[row],
        feature_names=found.values.feature_names,
    )
    show = ax is None if show is None else show
    new = ax is None
    if ax is None:
        _, ax = plt.subplots(layout="constrained")
    before = ax.figure.axes
    with _current(ax):
        shap.plots.waterfall(scaled, max_display=max_display, show=False)
    power_of_ten = rf" ($\times 10^{{{power}}}$)" if power else ""
    ax.set_title(f"{found.cells[row]}\n{found.unit} from {found.source}")
    ax.set_xlabel(f"{found.unit}{power_of_ten}", labelpad=18, fontsize=12)  # below E[f(X)]
    rows = _rows(scaled, max_display)
    if new:
        fit_figure(ax, 5.5, 0.5 * len(rows))
    else:
        ax.figure.canvas.figure.draw_without_rendering()
    twins = [other for other in ax.figure.axes if other is ax or other not in before]
    _fit_arrows(twins, ax, rows)
    if show:
        plt.show()
        return None
    return ax


def _check(max_display: int, ax: Axes | None) -> None:
    if max_display < 1:
        msg = f"max_display={max_display}: at least one row is needed."
        raise ValueError(msg)
    if ax is not None and ax.figure.canvas.manager is None:
        msg = "The shap package draws into figures of pyplot, which that of ax is not: make it with plt.subplots()."
        raise ValueError(msg)


def _power(values: NDArray[np.float64]) -> int:
    """Power of ten that brings values to where shap's two decimals are right; 0 where they are."""
    largest = np.abs(values).max()
    return 0 if largest == 0 or 0.02 <= largest < 1e4 else 3 * int(np.floor(np.log10(largest) / 3))


@contextmanager
def _current(ax: Axes) -> Iterator[None]:
    """Make the axes pyplot's current ones, and put back what shap changes: those, the figure's size, interactive mode."""
    root, former = ax.figure.canvas.figure, plt.gcf()
    own, width, height = root.gca(), *root.get_size_inches()
    plt.sca(ax)
    try:
        with plt.ioff():
            yield
    finally:
        root.set_size_inches(width, height)
        root.sca(own)
        plt.figure(former)


def _rows(explanation: shap.Explanation, max_display: int) -> list[tuple[float, float]]:
    """Where each arrow starts and how far it goes, from the bottom row up."""
    steps = explanation.values[np.argsort(-np.abs(explanation.values))]
    if len(steps) > max_display:
        steps = np.append(steps[: max_display - 1], steps[max_display - 1 :].sum())
    steps = steps[::-1]
    return list(zip(explanation.base_values + np.cumsum(steps) - steps, steps, strict=True))


def _fit_arrows(twins: list[Axes], ax: Axes, rows: list[tuple[float, float]]) -> None:
    """Bring arrows and numbers to the size of the axes: shap fits them to another, and turns the shortest arrows round."""
    arrows = [patch for patch in ax.patches if isinstance(patch, FancyArrow)][-len(rows) :]
    texts = ax.texts[-len(rows) :]
    for _ in range(2):  # again, on a scale that has room for the numbers
        for arrow, text in zip(arrows, texts, strict=True):
            _fit(ax, arrow, text, *rows[round(text.get_position()[1])])
        boxes = [text.get_window_extent().transformed(ax.transData.inverted()) for text in texts]
        low, high = ax.get_xlim()
        margin = 0.02 * (high - low)
        for twin in twins:
            twin.set_xlim(min(low, *(b.x0 - margin for b in boxes)), max(high, *(b.x1 + margin for b in boxes)))


def _fit(ax: Axes, arrow: FancyArrow, text: Text, start: float, step: float) -> None:
    """The number goes into its arrow, or beside it if that is too short."""
    low, high = ax.get_xlim()
    inch, sign = (high - low) / ax.bbox.width * ax.figure.dpi, np.sign(step) or 1.0
    head = min(0.08 * inch, 0.999 * abs(step))  # with no shaft at all, matplotlib loses the direction
    arrow.set_data(x=start, dx=step - sign * head, head_length=head)
    if text.get_window_extent().width / ax.figure.dpi * inch < abs(step):
        text.set(x=start + step / 2, ha="center", color="white")
    else:
        place = start + step + sign * inch * 5 / 72
        text.set(x=place, ha="left" if sign > 0 else "right", color=arrow.get_facecolor())
