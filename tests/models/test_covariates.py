import numpy as np
import pytest

from jamie_sc.models._covariates import n_categories, one_hot, shares, unknown

KNOWN = {"site": {"s1": 0.25, "s2": 0.75}, "donor": {"a": 0.5, "b": 0.3, "c": 0.2}}


def objects(*values):
    return np.array(values, dtype=object)


def test_shares_are_fractions_of_the_cells():
    given = {"site": objects("s2", "s1", "s2", "s2"), "lane": objects("3", "3", "3", "3")}
    assert shares(given) == {"site": {"s1": 0.25, "s2": 0.75}, "lane": {"3": 1.0}}
    assert shares({}) == {}


def test_keys_stand_side_by_side():
    given = {"donor": objects("c", "a", "b"), "site": objects("s1", "s2", "s2")}
    got = one_hot(KNOWN, given, 3)
    np.testing.assert_array_equal(got, [[1, 0, 0, 0, 1], [0, 1, 1, 0, 0], [0, 1, 0, 1, 0]])
    assert got.dtype == np.float32
    assert n_categories(KNOWN) == got.shape[1]


def test_unknown_and_missing_categories_are_the_average():
    """Of that key alone: the other key keeps what is known of the cell."""
    got = one_hot(KNOWN, {"site": objects("s9", None, "s1"), "donor": objects("b", "b", "z")}, 3)
    np.testing.assert_allclose(got, [[0.25, 0.75, 0, 1, 0], [0.25, 0.75, 0, 1, 0], [1, 0, 0.5, 0.3, 0.2]], rtol=1e-6)


def test_a_key_that_is_not_given_is_the_average():
    np.testing.assert_allclose(one_hot(KNOWN, {"site": objects("s1")}, 1), [[1, 0, 0.5, 0.3, 0.2]], rtol=1e-6)
    np.testing.assert_allclose(one_hot(KNOWN, {}, 2), [[0.25, 0.75, 0.5, 0.3, 0.2]] * 2, rtol=1e-6)


def test_keys_that_the_model_does_not_know_are_not_read():
    np.testing.assert_array_equal(one_hot({}, {"site": objects("s1", "s2")}, 2), np.empty((2, 0)))
    assert n_categories({}) == 0


def test_every_row_adds_up_to_one_for_each_key():
    rng = np.random.default_rng(0)
    given = {key: rng.choice(objects(*names, None, "new"), 50) for key, names in KNOWN.items()}
    got = one_hot(KNOWN, given, 50)
    np.testing.assert_allclose(got[:, :2].sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(got[:, 2:].sum(axis=1), 1, rtol=1e-6)


def test_one_hot_of_what_shares_found():
    """The mean over the cells counted is what a cell of no known category gets."""
    given = {"site": np.random.default_rng(0).choice(objects("s1", "s2", "s3"), 40)}
    known = shares(given)
    got = one_hot(known, given, 40)
    assert set(got.ravel()) == {0, 1}
    np.testing.assert_allclose(got.mean(axis=0), one_hot(known, {}, 1)[0], rtol=1e-5)


@pytest.mark.parametrize("name", ["None", "nan", "missing"])
def test_a_category_of_that_name_is_not_a_missing_one(name):
    known = {"site": {name: 0.5, "x": 0.5}}
    np.testing.assert_array_equal(one_hot(known, {"site": objects(name, None)}, 2), [[1, 0], [0.5, 0.5]])


def test_unknown_lists_what_is_strange():
    given = {"site": objects("s1", "s9", None, "s7", "s9"), "donor": objects("a", "b", "c", "a", "a")}
    assert unknown(KNOWN, given) == {"site": ["missing", "s7", "s9"]}
    assert unknown(KNOWN, {"donor": objects("a")}) == {"site": ["missing"]}
    assert unknown({}, given) == {}
