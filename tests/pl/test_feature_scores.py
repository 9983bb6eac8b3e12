from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

import jamie_sc as jsc


@pytest.fixture
def scores():
    """Five features, of which jamie is better in three, knn in one, and both are equal in one; ridge is worst."""
    features = ["Pvalb", "Sst", "Vip", "Lamp5", "Sncg"]
    values = {"knn": [0.1, 0.2, 0.3, 0.4, 0.5], "jamie": [0.3, 0.6, 0.2, 0.4, 0.7], "ridge": [0.0] * 5}
    rows = [
        {
            "split": 0,
            "paired_fraction": 1.0,
            "source": "ephys",
            "target": "rna",
            "feature": feature,
            "method": method,
            "pearson": value,
            "auroc": value + 0.1,
            "rmse": value + 0.5,
            "js_distance": value,
        }
        for method, numbers in values.items()
        for feature, value in zip(features, numbers, strict=True)
    ]
    return pd.DataFrame(rows).sample(frac=1, random_state=0)


def dots(ax):
    return sorted(map(tuple, np.asarray(ax.collections[0].get_offsets()).round(6).tolist()))


def texts(ax):
    """What stands at the top left and at the bottom right."""
    left, right = ax.texts
    assert (left.get_ha(), left.get_va(), right.get_ha(), right.get_va()) == ("left", "top", "right", "bottom")
    assert [text.get_position()[0] < text.get_position()[1] for text in ax.texts] == [True, False]
    return [text.get_text() for text in ax.texts]


def test_a_dot_for_each_feature(scores):
    before = scores.copy()
    ax = jsc.pl.feature_scores(scores, show=False)
    assert isinstance(ax, Axes)
    pd.testing.assert_frame_equal(scores, before)
    assert dots(ax) == [(0.1, 0.3), (0.2, 0.6), (0.3, 0.2), (0.4, 0.4), (0.5, 0.7)]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Pearson correlation, knn", "Pearson correlation, jamie")
    assert texts(ax) == ["3 features\njamie better", "1 feature\nknn better"]
    assert ax.get_title() == "rna from ephys\ntwo-tailed binomial p = 0.62, 1 equal"  # 2 (1 + 4) / 16
    assert ax.get_xlim() == ax.get_ylim()
    assert ax.get_xlim()[0] < 0.1 < 0.7 < ax.get_xlim()[1]
    assert ax.get_aspect() == 1


def test_diagonal(scores):
    (line,) = jsc.pl.feature_scores(scores, show=False).lines
    assert to_hex(line.get_color()) == "#ff0000"
    np.testing.assert_array_equal(line.get_xdata(), line.get_ydata())
    assert tuple(line.get_xdata()) == line.axes.get_xlim()


@pytest.mark.parametrize(
    ("metric", "name"), [("auroc", "AUROC"), ("rmse", "RMSE (s.d.)"), ("js_distance", "JS distance")]
)
def test_metrics(scores, metric, name):
    ax = jsc.pl.feature_scores(scores, metric=metric, show=False)
    wide = scores.pivot(index="feature", columns="method", values=metric)
    assert dots(ax) == sorted(map(tuple, wide[["knn", "jamie"]].round(6).to_numpy().tolist()))
    assert ax.get_ylabel() == f"{name}, jamie"
    if metric == "auroc":
        assert texts(ax) == ["3 features\njamie better", "1 feature\nknn better"]
    else:  # lower is better, so knn is better in those above the line
        assert texts(ax) == ["3 features\nknn better", "1 feature\njamie better"]
    assert ax.get_xlim()[0] < wide.drop(columns="ridge").to_numpy().min()
    assert ax.get_xlim()[1] > wide.to_numpy().max()


def test_what_evaluate_returns(mdata):
    scores = jsc.tl.evaluate(mdata, by="feature", n_splits=2, params={"max_steps": 5}, progress=False)
    ax = jsc.pl.feature_scores(scores.query("source == 'adt'"), show=False)
    assert len(dots(ax)) == 25
    assert ax.get_ylabel() == "Pearson correlation, jamie"
    assert ax.get_title().startswith("rna from adt\n")


def test_splits_are_averaged(scores):
    """Each feature over the splits in which both methods have a score."""
    second = scores.assign(split=1, pearson=scores["pearson"] + 0.1)
    second.loc[(second["feature"] == "Sst") & (second["method"] == "knn"), "pearson"] = np.nan
    ax = jsc.pl.feature_scores(pd.concat([scores, second]), show=False)
    assert dots(ax) == [(0.15, 0.35), (0.2, 0.6), (0.35, 0.25), (0.45, 0.45), (0.55, 0.75)]


def test_methods(scores):
    ax = jsc.pl.feature_scores(scores, baseline="ridge", show=False)
    assert texts(ax) == ["5 features\njamie better", "0 features\nridge better"]
    ax = jsc.pl.feature_scores(scores, method="ridge", show=False)
    assert texts(ax) == ["0 features\nridge better", "5 features\nknn better"]
    renamed = scores.replace({"method": {"knn": "neighbours"}})
    assert jsc.pl.feature_scores(renamed, baseline="neighbours", show=False).get_ylabel().endswith("jamie")


def test_a_feature_without_a_score_is_left_out(scores):
    scores.loc[(scores["feature"] == "Vip") & (scores["method"] == "jamie"), "pearson"] = np.nan
    ax = jsc.pl.feature_scores(scores, show=False)
    assert len(dots(ax)) == 4
    assert texts(ax)[1] == "0 features\nknn better"


def test_of_a_bare_table(scores):
    ax = jsc.pl.feature_scores(
        scores[["feature", "method", "auroc"]].astype({"feature": "category"}), metric="auroc", show=False
    )
    assert ax.get_title() == "two-tailed binomial p = 0.62, 1 equal"


def many(n):
    values = np.random.default_rng(0).random(n)
    tables = [
        pd.DataFrame({"feature": range(n), "method": m, "pearson": values + d}) for m, d in (("a", 0.1), ("knn", 0))
    ]
    return pd.concat(tables)


def test_many_features():
    few, more, most = (jsc.pl.feature_scores(many(n), show=False).collections[0] for n in (200, 201, 10_001))
    assert few.get_sizes()[0] > 2 * more.get_sizes()[0]
    assert 1 > few.get_alpha() > more.get_alpha()
    assert [dots.get_rasterized() for dots in (few, more, most)] == [False, False, True]
    assert most.axes.get_title() == "two-tailed binomial p < 1e-100"


def test_one_feature():
    ax = jsc.pl.feature_scores(many(1).assign(pearson=0.5), show=False)
    assert ax.get_xlim()[0] < 0.5 < ax.get_xlim()[1]
    assert ax.get_title() == "two-tailed binomial p = 1, 1 equal"


def test_long_names_stay_in_the_figure(scores):
    names = {
        "jamie": "JAMIE with inferred correspondence and a long name",
        "knn": "average of the 5 nearest neighbours of a cell",
    }
    ax = jsc.pl.feature_scores(scores.replace({"method": names}), baseline=names["knn"], show=False)
    ax.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in (*ax.texts, ax.xaxis.label, ax.yaxis.label, ax.title)]
    assert all(
        box.x0 >= 0 and box.x1 <= ax.figure.bbox.x1 and box.y0 >= 0 and box.y1 <= ax.figure.bbox.y1 for box in boxes
    )
    assert not boxes[0].overlaps(boxes[1])
    assert boxes[0].width < ax.bbox.width / 2


def test_into_given_axes(scores, shown):
    _, (left, right) = plt.subplots(1, 2)
    assert jsc.pl.feature_scores(scores, ax=right) is right
    assert not left.collections
    assert shown == []


def test_shows_and_returns_nothing_by_default(scores, shown):
    assert jsc.pl.feature_scores(scores) is None
    assert shown == [1]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"metric": "pearson_knn"}, ValueError, r"'pearson_knn', but must be one of \['pearson'"),
        ({"method": "cca"}, ValueError, r"method is 'cca' and baseline 'knn'. Choose two of .*'ridge'"),
        ({"baseline": "cca"}, ValueError, "baseline 'cca'"),
        ({"method": "knn"}, ValueError, "method is 'knn' and baseline 'knn'"),
        ({"baseline": "jamie"}, ValueError, "method is None and baseline 'jamie'"),
    ],
)
def test_wrong_options(scores, options, error, message):
    with pytest.raises(error, match=message):
        jsc.pl.feature_scores(scores, **options)
    assert plt.get_fignums() == []


def test_wrong_tables(scores):
    for column in ("feature", "method", "pearson"):
        with pytest.raises(KeyError, match=rf"no column '{column}': .*jamie_sc\.tl\.evaluate\(\.\.\., by="):
            jsc.pl.feature_scores(scores.drop(columns=column))
    with pytest.raises(ValueError, match="No feature has a number in 'pearson' of both 'jamie' and 'knn'"):
        jsc.pl.feature_scores(scores.assign(pearson=scores["pearson"].where(scores["method"] != "knn")))
    with pytest.raises(ValueError, match="method is None .* has: \\[\\]"):
        jsc.pl.feature_scores(scores.iloc[:0])
    assert plt.get_fignums() == []


def test_several_runs(scores):
    back = scores.assign(source="rna", target="ephys")
    with pytest.raises(
        ValueError, match=r"2 runs \(source == 'ephys' and target == 'rna'; source == 'rna' and"
    ) as caught:
        jsc.pl.feature_scores(pd.concat([scores, back]))
    query = str(caught.value).split('scores.query("')[1].removesuffix('").')
    jsc.pl.feature_scores(pd.concat([scores, back]).query(query), show=False)  # the advice works
    half = scores.assign(paired_fraction=0.5)
    with pytest.raises(ValueError, match=r"2 runs \(paired_fraction == 1.0; paired_fraction == 0.5\)"):
        jsc.pl.feature_scores(pd.concat([scores, half]))
