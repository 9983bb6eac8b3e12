"""What all methods on two matrices share: the same errors, the same shapes, pairs in any form."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from scipy import sparse

from jamie_sc import align

PAIRED = ["cca", "linear_manifold_alignment", "nonlinear_manifold_alignment"]
ALL = [*PAIRED, "mmd_ma"]
FAST = {"mmd_ma": {"n_steps": 20, "n_starts": 2}}


@pytest.fixture(scope="module")
def data():
    """Two noisy views (8 and 6 features) of 40 cells that lie in five dimensions."""
    rng = np.random.default_rng(0)
    latent = rng.normal(size=(40, 5)) * [3, 2.4, 1.9, 1.5, 1.2]
    return tuple(latent @ rng.normal(size=(5, p)) + 0.2 * rng.normal(size=(40, p)) for p in (8, 6))


def call(name, X, Y, **options):
    return getattr(align, name)(X, Y, **({"n_components": 3} | FAST.get(name, {}) | options))


def assert_same(latents, others, atol=1e-4):
    for latent, other in zip(latents, others, strict=True):
        np.testing.assert_allclose(latent, other, atol=atol)


@pytest.mark.parametrize("name", ALL)
class TestAll:
    def test_latents(self, name, data):
        options = {"pairs": np.column_stack([np.arange(30)] * 2)} if name in PAIRED else {}
        Z_x, Z_y = call(name, data[0], data[1][:35], **options)
        assert Z_x.shape == (40, 3)
        assert Z_y.shape == (35, 3)
        assert Z_x.dtype == Z_y.dtype == np.float32
        assert np.isfinite(Z_x).all()
        assert np.isfinite(Z_y).all()

    def test_the_order_of_the_cells_changes_nothing(self, name, data):
        rng = np.random.default_rng(1)
        rows, columns = rng.permutation(40), rng.permutation(40)
        options = {}
        if name in PAIRED:
            options["pairs"] = np.column_stack([np.argsort(rows), np.argsort(columns)])
        expected = call(name, *data)
        shuffled = call(name, data[0][rows], data[1][columns], **options)
        assert_same(shuffled, (expected[0][rows], expected[1][columns]), atol=1e-2 if name == "mmd_ma" else 1e-4)

    def test_offsets_change_nothing(self, name, data):
        assert_same(call(name, data[0] + 5, data[1] - np.arange(6)), call(name, *data), atol=1e-3)

    def test_sparse_and_float32_and_lists(self, name, data):
        expected = call(name, *data)
        assert_same(call(name, sparse.csr_matrix(data[0]), sparse.csc_array(data[1])), expected)
        assert_same(call(name, data[0].tolist(), data[1]), expected)
        assert_same(call(name, *(values.astype(np.float32) for values in data)), expected, atol=1e-2)

    def test_input_stays_as_it_was_and_no_global_state_is_touched(self, name, data):
        copies = [values.copy() for values in data]
        states = np.random.get_state(), random.getstate(), torch.get_rng_state()  # noqa: NPY002
        call(name, *data)
        for values, copied in zip(data, copies, strict=True):
            np.testing.assert_array_equal(values, copied)
        np.testing.assert_equal(np.random.get_state(), states[0])  # noqa: NPY002
        assert random.getstate() == states[1]
        assert torch.equal(torch.get_rng_state(), states[2])

    def test_repeatable(self, name, data):
        for first, second in zip(call(name, *data), call(name, *data), strict=True):
            np.testing.assert_array_equal(first, second)

    @pytest.mark.parametrize(
        ("X", "message"),
        [
            (np.zeros(40), r"X must be a matrix .* shape \(40,\)"),
            (np.zeros((2, 8)), "X has 2 cells and 8 features.*at least 3 cells.*transpose"),
            (np.zeros((40, 0)), "X has 40 cells and 0 features"),
            (np.full((40, 8), np.nan), "X has NaN or infinite values, the first in row 0, column 0.*fill them in"),
            (np.diag(np.full(40, np.inf)), "X has NaN or infinite"),
        ],
        ids=["vector", "two cells", "no features", "NaN", "inf"],
    )
    def test_bad_matrices(self, name, data, X, message):
        with np.errstate(invalid="ignore"), pytest.raises(ValueError, match=message):
            call(name, X, data[1])
        with np.errstate(invalid="ignore"), pytest.raises(ValueError, match=message.replace("X", "Y", 1)):
            call(name, data[0], X)

    @pytest.mark.parametrize("n_components", [0, -1, 80])
    def test_bad_n_components(self, name, data, n_components):
        with pytest.raises(ValueError, match=f"n_components is {n_components}, but must be between 1 and"):
            call(name, *data, n_components=n_components)


@pytest.mark.parametrize("name", PAIRED)
class TestPairs:
    def test_default_is_row_with_row(self, name, data):
        expected = call(name, *data)
        rows = np.arange(40)
        assert_same(call(name, *data, pairs=np.column_stack([rows, rows])), expected)
        assert_same(call(name, *data, pairs=sparse.identity(40, format="csr")), expected)

    def test_a_pair_listed_twice_is_one_pair(self, name, data):
        rows = np.r_[np.arange(40), 0, 0]
        assert_same(call(name, *data, pairs=np.column_stack([rows, rows])), call(name, *data))

    def test_a_list_is_a_matrix_of_ones(self, name, data):
        rows, columns = np.random.default_rng(2).integers(0, 40, size=(2, 25))
        F = np.zeros((40, 40))
        F[rows, columns] = 1
        expected = call(name, *data, pairs=np.column_stack([rows, columns]))
        for form in (sparse.csr_array, sparse.coo_matrix, sparse.lil_matrix):
            assert_same(call(name, *data, pairs=form(F)), expected)

    def test_weights_count(self, name, data):
        F = sparse.diags_array(np.linspace(0.1, 1, 40))
        weighted, plain = call(name, *data, pairs=F), call(name, *data)
        assert not np.allclose(weighted[0], plain[0], atol=1e-3)

    def test_a_weight_of_zero_is_no_pair(self, name, data):
        rows = np.arange(40)
        F = sparse.csr_array(((rows < 30).astype(float), (rows, rows)), shape=(40, 40))
        expected = call(name, *data, pairs=np.column_stack([rows[:30], rows[:30]]))
        assert_same(call(name, *data, pairs=F), expected)

    def test_pairs_bring_latents_together(self, name, data):
        """A wrong correspondence brings the wrong cells together."""
        shift = np.roll(np.arange(40), 7)
        for columns in (np.arange(40), shift):
            Z_x, Z_y = call(name, *data, pairs=np.column_stack([np.arange(40), columns]))
            distance = np.linalg.norm(Z_x[:, None] - Z_y, axis=2)
            paired = distance[np.arange(40), columns].mean()
            assert paired < (0.5 if columns is not shift else 0.85) * distance.mean()

    @pytest.mark.parametrize(
        ("pairs", "message"),
        [
            (None, "X has 40 cells and Y has 30.*`pairs`"),
            (np.zeros((0, 2), int), "`pairs` is empty.*mmd_ma"),
            (sparse.csr_array((40, 30)), "`pairs` is empty.*mmd_ma"),
            (np.array([[0, 30]]), r"`pairs` names cells \(0, 30\), but X has rows 0 to 39 and Y has rows 0 to 29"),
            (np.array([[1, 1], [-1, 2]]), r"`pairs` names cells \(-1, 2\)"),
            (np.ones((5, 2)), r"`pairs` is float64 of shape \(5, 2\): give integers"),
            (np.ones((40, 30), int), r"shape \(40, 30\).*sparse matrix"),
            (sparse.csr_array((30, 40)), r"`pairs` is a sparse matrix of shape \(30, 40\).*\(40, 30\)"),
            (-sparse.eye_array(40, 30), "negative, NaN or infinite weights"),
            (np.nan * sparse.eye_array(40, 30), "negative, NaN or infinite weights"),
        ],
    )
    def test_bad_pairs(self, name, data, pairs, message):
        with pytest.raises(ValueError, match=message):
            call(name, data[0], data[1][:30], pairs=pairs)


@pytest.mark.parametrize("name", PAIRED[1:])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_neighbors": 0}, "n_neighbors is 0, but must be between 1 and 39, the other cells of X"),
        ({"n_neighbors": 40}, "n_neighbors is 40"),
        ({"mu": 0}, "mu is 0, but must be above 0"),
        ({"mu": np.nan}, "mu is nan, but must be above 0"),
    ],
)
def test_bad_graph(name, data, options, message):
    with pytest.raises(ValueError, match=message):
        call(name, *data, **options)


def test_names_are_imported_when_asked_for():
    assert set(align.__all__) <= set(dir(align))
    for name in ALL:
        assert getattr(align, name).__name__ == name
    with pytest.raises(AttributeError, match="'jamie_sc.align' has no attribute 'pca'"):
        align.pca  # noqa: B018
