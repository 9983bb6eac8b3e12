import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import make_blobs
from sklearn.neighbors import KNeighborsClassifier

from jamie_sc.metrics import label_transfer_accuracy


@pytest.fixture
def blobs():
    z, labels = make_blobs(150, n_features=3, centers=4, cluster_std=4.0, random_state=0)
    return z[:90], z[90:], labels[:90], labels[90:]


def by_hand(x, y, labels_x, labels_y, k):
    right = 0
    for cell, label in zip(x, labels_x, strict=True):
        nearest = np.argsort(((y - cell) ** 2).sum(axis=1))[:k]
        values, votes = np.unique(np.asarray(labels_y)[nearest], return_counts=True)
        right += values[votes.argmax()] == label  # the first in sorted order wins a tied vote
    return right / len(x)


@pytest.mark.parametrize("k", [1, 2, 5, 60])
def test_equals_brute_force_and_sklearn(blobs, k):
    x, y, labels_x, labels_y = blobs
    score = label_transfer_accuracy(*blobs, n_neighbors=k)
    assert score == pytest.approx(by_hand(*blobs, k))
    assert score == pytest.approx(KNeighborsClassifier(k).fit(y, labels_y).score(x, labels_x))
    assert 0.2 < score < 0.95


def test_names_and_numbers_score_the_same(blobs):
    x, y, labels_x, labels_y = blobs
    names = np.array(["Lamp5", "Pvalb", "Sst", "Vip"])
    for k in (2, 5):
        assert label_transfer_accuracy(x, y, names[labels_x], names[labels_y], n_neighbors=k) == (
            label_transfer_accuracy(*blobs, n_neighbors=k)
        )


def test_trained_on_y_scored_on_x():
    x, y = [[0.0], [1.0], [9.0]], [[0.2], [8.0]]
    assert label_transfer_accuracy(x, y, ["a", "b", "b"], ["a", "b"], n_neighbors=1) == pytest.approx(2 / 3)
    assert label_transfer_accuracy(y, x, ["a", "b"], ["a", "b", "b"], n_neighbors=1) == 1


def test_published_number_of_neighbours(blobs):
    # 60 cells of y, 4 classes: int(0.2 * 60 / 4) = 3
    scores = {k: label_transfer_accuracy(*blobs, n_neighbors=k) for k in (1, 2, 3, 4)}
    assert label_transfer_accuracy(*blobs) == scores[3]
    assert scores[3] not in (scores[2], scores[4])


def test_published_number_of_neighbours_of_the_motor_cortex():
    """1,208 cells of 9 types: the published code takes int(0.2 * 1208 / 9) = 26."""
    rng = np.random.default_rng(0)
    labels = rng.integers(9, size=1208)
    x, y = labels + rng.normal(size=(2, 3, 1208))
    scores = {k: label_transfer_accuracy(x.T, y.T, labels, labels, n_neighbors=k) for k in (25, 26, 27)}
    assert label_transfer_accuracy(x.T, y.T, labels, labels) == scores[26]
    assert scores[26] not in (scores[25], scores[27])


def test_small_data_use_one_neighbour():
    """The published rule gives 0 here."""
    x = [[0.0], [1.0], [2.0]]
    assert label_transfer_accuracy(x, x, ["a", "b", "a"], ["a", "b", "a"]) == 1


def test_classes_missing_from_one_side():
    x, y = [[0.0], [1.0], [9.0]], [[0.0], [1.0], [8.0]]
    assert label_transfer_accuracy(x, y, ["b", "z", "c"], ["b", "a", "c"]) == pytest.approx(2 / 3)


def test_pandas_categories(blobs):
    x, y, labels_x, labels_y = blobs
    dtype = pd.CategoricalDtype(["3", "2", "1", "0", "unused"])
    as_series = [pd.Series(labels.astype(str), dtype=dtype) for labels in (labels_x, labels_y)]
    assert label_transfer_accuracy(x, y, *as_series) == label_transfer_accuracy(*blobs)


@pytest.mark.parametrize(
    ("labels_x", "labels_y", "options", "message"),
    [
        (["a", "b"], ["a", "b"], {}, r"labels_x has shape \(2,\): give one label for each of the 3 cells"),
        (["a", "b", "b"], ["a", "b", "b"], {}, r"labels_y has shape \(3,\): give one label for each of the 2 cells"),
        (["a", None, "b"], ["a", "b"], {}, "labels_x is missing for 1 of 3 cells, the first in row 1"),
        (["a", "a", "b"], ["a", np.nan], {}, "labels_y is missing for 1 of 2 cells, the first in row 1"),
        (["1", "2", "2"], [1, 2], {}, r"no label in common: \['1', '2'\] and \[1, 2\]"),
        (["a", "b", "b"], ["a", "b"], {"n_neighbors": 3}, "n_neighbors is 3, .* between 1 and the 2 cells of y"),
        (["a", "b", "b"], ["a", "b"], {"n_neighbors": 0}, "n_neighbors is 0"),
    ],
)
def test_errors_of_labels(labels_x, labels_y, options, message):
    with pytest.raises(ValueError, match=message):
        label_transfer_accuracy([[0.0], [1.0], [2.0]], [[0.0], [1.0]], labels_x, labels_y, **options)


def test_errors_of_embeddings():
    with pytest.raises(ValueError, match="x has 2 latent dimensions and y has 1"):
        label_transfer_accuracy([[0.0, 1.0]], [[0.0]], ["a"], ["a"])
    with pytest.raises(ValueError, match="x has NaN .* row 0, column 0"):
        label_transfer_accuracy([[np.nan]], [[0.0]], ["a"], ["a"])
