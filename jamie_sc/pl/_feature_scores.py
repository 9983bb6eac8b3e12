"""Draw how well each feature is imputed, by one method against another."""

from __future__ import annotations

from textwrap import fill
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt

from ..metrics import sign_test

if TYPE_CHECKING:
    from typing import Any, Literal

    import numpy as np
    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from ..metrics import SignTest

NAMES = {"pearson": "Pearson correlation", "auroc": "AUROC", "rmse": "RMSE (s.d.)", "js_distance": "JS distance"}
FEW = 200  # features, drawn as large dots
MANY = 10_000  # more are drawn as pixels in a vector graphic
SMALLEST_P = 1e-100
BEHIND_TEXT = {"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 1}


def feature_scores(
    scores: pd.DataFrame,
    *,
    metric: Literal["pearson", "auroc", "rmse", "js_distance"] = "pearson",
    method: str | None = None,
    baseline: str = "knn",
    ax: Axes | None = None,
    show: bool | None = None,
) -> Axes | None:
    """Draw the score of each imputed feature, a method against a baseline (the paper's Figure 3f).

    Each dot is a feature, and the red line is where both methods are equal. On either side of it stands how many features the
    method of that side imputes better, and in the title the two-tailed binomial test of these numbers
    (:func:`jamie_sc.metrics.sign_test`).

    Parameters
    ----------
    scores
        A row for each feature and method (and split), as ``jamie_sc.tl.evaluate(..., by="feature")`` returns them, with the
        columns `feature`, `method` and the metric. Scores of several splits are averaged first.
    metric
        Column to draw: `"pearson"` or `"auroc"`, where higher is better, or `"rmse"` (in standard deviations of the feature)
        or `"js_distance"`, where lower is.
    method
        Method on the y axis; default the one that is neither `"knn"` nor `"ridge"` nor the baseline.
    baseline
        Method on the x axis.
    ax
        Axes to draw into; default new ones.
    show
        Show the figure and return nothing; default if no `ax` is given.

    Returns
    -------
    The axes, or `None` when shown. A feature without a score of both methods is left out.

    Raises
    ------
    KeyError
        If a column is missing.
    ValueError
        If `scores` holds several directions or paired fractions, or no feature with scores of both methods.

    See Also
    --------
    jamie_sc.tl.evaluate : measure the scores.

    Examples
    --------
    >>> import pandas as pd
    >>> import jamie_sc as jsc
    >>> scores = pd.DataFrame(
    ...     {
    ...         "feature": ["Pvalb", "Sst", "Vip"] * 2,
    ...         "method": ["jamie"] * 3 + ["knn"] * 3,
    ...         "pearson": [0.7, 0.6, 0.3, 0.5, 0.4, 0.35],
    ...     }
    ... )
    >>> ax = jsc.pl.feature_scores(scores, show=False)
    >>> ax.get_title()
    'two-tailed binomial p = 1'
    """
    _check(scores, metric)
    method, x, y = _pairs(scores, metric, method, baseline)
    show = ax is None if show is None else show
    if ax is None:
        _, ax = plt.subplots(figsize=(4.5, 4.8), layout="constrained")
    few = len(x) <= FEW
    ax.scatter(x, y, s=24 if few else 7, alpha=0.7 if few else 0.4, linewidths=0, rasterized=len(x) > MANY)
    low, high = min(x.min(), y.min()), max(x.max(), y.max())
    margin = 0.05 * (high - low) or 0.05
    limits = low - margin, high + margin
    ax.plot(limits, limits, color="red", linewidth=1)
    ax.set(xlim=limits, ylim=limits, aspect="equal")
    ax.set(xlabel=fill(f"{NAMES[metric]}, {baseline}", 40), ylabel=fill(f"{NAMES[metric]}, {method}", 40))
    test = sign_test(y, x)
    above, below = (method, baseline) if metric in ("pearson", "auroc") else (baseline, method)
    look: dict[str, Any] = {"transform": ax.transAxes, "fontsize": "small", "bbox": BEHIND_TEXT}
    ax.text(0.03, 0.97, _count(test.n_better, above), ha="left", va="top", **look)
    ax.text(0.97, 0.03, _count(test.n_worse, below), ha="right", va="bottom", **look)
    ax.set_title(_title(scores, test), fontsize="medium")
    if show:
        plt.show()
        return None
    return ax


def _check(scores: pd.DataFrame, metric: str) -> None:
    if metric not in NAMES:
        msg = f"metric is {metric!r}, but must be one of {list(NAMES)}."
        raise ValueError(msg)
    if missing := [column for column in ("feature", "method", metric) if column not in scores]:
        msg = (
            f"scores has no column {' and no column '.join(map(repr, missing))}: give it what "
            "jamie_sc.tl.evaluate(..., by='feature') returns."
        )
        raise KeyError(msg)
    if varying := [c for c in ("source", "target", "paired_fraction") if c in scores and scores[c].nunique() > 1]:
        choices = scores[varying].drop_duplicates().to_dict("records")
        queries = [" and ".join(f"{column} == {value!r}" for column, value in choice.items()) for choice in choices]
        msg = f"scores holds {len(queries)} runs ({'; '.join(queries)}). Choose the rows of one: scores.query({queries[0]!r})."
        raise ValueError(msg)


def _pairs(
    scores: pd.DataFrame, metric: str, method: str | None, baseline: str
) -> tuple[str, NDArray[np.float64], NDArray[np.float64]]:
    """The method, and of each feature the scores of the baseline and of the method, averaged over splits."""
    methods = scores["method"].unique().tolist()
    others = [name for name in methods if name not in ("knn", "ridge", baseline)]
    if method is None and len(others) == 1:
        method = others[0]
    if method is None or method not in methods or baseline not in methods or method == baseline:
        msg = f"method is {method!r} and baseline {baseline!r}. Choose two of those that scores has: {methods}."
        raise ValueError(msg)
    rows = [column for column in ("split", "feature") if column in scores]
    table = scores.pivot_table(index=rows, columns="method", values=metric, observed=True)
    both = table.reindex(columns=[baseline, method]).dropna().groupby("feature", observed=True).mean()
    if both.empty:
        msg = f"No feature has a number in {metric!r} of both {method!r} and {baseline!r}."
        raise ValueError(msg)
    return method, both[baseline].to_numpy(), both[method].to_numpy()


def _count(n: int, method: str) -> str:
    return f"{n} feature{'' if n == 1 else 's'}\n" + fill(f"{method} better", 20)


def _title(scores: pd.DataFrame, test: SignTest) -> str:
    lines = []
    if {"source", "target"} <= set(scores):
        lines.append(f"{scores['target'].iloc[0]} from {scores['source'].iloc[0]}")
    pvalue = f"p = {test.pvalue:.2g}" if test.pvalue > SMALLEST_P else f"p < {SMALLEST_P:.0e}"
    ties = f", {test.n_ties} equal" if test.n_ties else ""
    return "\n".join([*lines, f"two-tailed binomial {pvalue}{ties}"])
