import numpy as np
import pytest
from scipy import sparse

from jamie_sc.metrics import matching_score
from jamie_sc.metrics._jaccard import jaccard, neighbourhoods


def nearest(cell, cells, k):
    return set(np.argsort(((cells - cell) ** 2).sum(axis=1), kind="stable")[:k].tolist())


def equation_16(x, y, k):
    """The equation with sets whose elements are (modality, cell)."""

    def neighbours(cell, modality, cells):
        return {(modality, j) for j in nearest(cell, cells, k)}

    matching = np.zeros((len(x), len(y)))
    for i in range(len(x)):
        for j in range(len(y)):
            ij, jj = neighbours(x[i], "y", y), neighbours(y[j], "y", y)
            ji, ii = neighbours(y[j], "x", x), neighbours(x[i], "x", x)
            matching[i, j] = len((ij & jj) | (ji & ii)) / len((ij | jj) | (ji | ii))
    return matching


def equation_17(matching):
    score = 0.0
    for i, row in enumerate(matching):
        if row.sum() > 0:
            score += row[i] / row.sum()
    return score / len(matching)


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(31, 3))
    return x, x + 0.4 * rng.normal(size=x.shape)


@pytest.mark.parametrize("k", [1, 2, 5, 30, 31])
def test_equals_the_equations(pair, k):
    assert matching_score(*pair, n_neighbors=k) == pytest.approx(equation_17(equation_16(*pair, k)))


def test_default_is_one_neighbour(pair):
    assert matching_score(*pair) == pytest.approx(equation_17(equation_16(*pair, 1)))
    assert 0.1 < matching_score(*pair) < 0.9


@pytest.mark.parametrize(("n", "m"), [(31, 12), (12, 31), (1, 5)])
@pytest.mark.parametrize("k", [1, 3, 12])
def test_kernel_with_unequal_numbers_of_cells(pair, n, m, k):
    """And with the neighbourhoods swapped its transpose."""
    k = min(k, n)
    around = neighbourhoods(pair[0][:n], pair[1][-m:], n_neighbors=k)
    expected = equation_16(pair[0][:n], pair[1][-m:], k)
    for graphs, matrix in ((around, expected), (around[::-1], expected.T)):
        blocks = list(jaccard(*graphs, n_neighbors=k, chunk_size=5))
        assert max(block.shape[0] for block in blocks) <= 5
        np.testing.assert_allclose(sparse.vstack(blocks).toarray(), matrix, rtol=1e-6)


@pytest.mark.parametrize("k", [1, 3])
def test_a_cell_is_its_own_neighbour_among_equals(k):
    """Else a cell that coincides with others could have no match at all."""
    x, y = np.zeros((7, 2)), np.zeros((6, 2))
    around_x, around_y = neighbourhoods(x, y, n_neighbors=k)
    assert (around_x.toarray()[:, :7].diagonal() == 1).all()
    assert (around_y.toarray()[:, 7:].diagonal() == 1).all()
    for around in (around_x, around_y):
        assert (around.toarray() <= 1).all()
        assert (around.toarray().sum(axis=1) == 2 * k).all()
    matching = sparse.vstack(list(jaccard(around_x, around_y, n_neighbors=k, chunk_size=10))).toarray()
    assert (matching.max(axis=1) >= 1 / (4 * k - 1) - 1e-7).all()


def test_rows_are_the_cells_of_x(pair):
    """GEX2ADT and ADT2GEX are two scores of one matching."""
    x, y = pair
    matching = equation_16(x, y, 2)
    there, back = matching_score(x, y, n_neighbors=2), matching_score(y, x, n_neighbors=2)
    assert there == pytest.approx(equation_17(matching))
    assert back == pytest.approx(equation_17(matching.T))
    assert abs(there - back) > 0.001


@pytest.mark.parametrize("chunk_size", [1, 4, 30, 31, 1000])
def test_chunk_size_changes_nothing(pair, chunk_size):
    assert matching_score(*pair, n_neighbors=3, chunk_size=chunk_size) == pytest.approx(
        matching_score(*pair, n_neighbors=3), rel=1e-12
    )


def test_perfect_collapsed_and_wrong():
    x = np.random.default_rng(1).normal(size=(40, 2))
    assert matching_score(x, x) == 1
    assert matching_score(x, np.roll(x, 1, axis=0)) == 0
    assert matching_score(np.zeros((40, 2)), np.zeros((40, 2))) <= 1 / 40  # no better than chance
    assert matching_score(x, x, n_neighbors=40) == pytest.approx(1 / 40)  # every neighbourhood is everything


def test_precomputed_matching(pair):
    matching = equation_16(*pair, 4)
    expected = equation_17(matching)
    for given in (matching, sparse.csr_matrix(matching), sparse.coo_array(matching), sparse.csc_array(matching)):
        assert matching_score(matching=given) == pytest.approx(expected)
    assert matching_score(matching=7 * matching) == pytest.approx(expected)  # rows are normalised
    assert matching_score(*pair, n_neighbors=4) == pytest.approx(expected)


def test_negatives_and_empty_rows_count_nothing():
    matching = np.array([[2.0, 2.0, -4.0], [0.0, 0.0, 0.0], [1.0, 0.0, -1.0]])
    assert matching_score(matching=sparse.csr_array(matching)) == pytest.approx((0.5 + 0 + 0) / 3)
    assert matching.min() == -4  # the input is left as it was
    assert matching_score(matching=np.eye(3, dtype=int)) == 1
    assert matching_score(matching=np.eye(3, dtype=bool)) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "Give both embeddings, x and y, or a matching"),
        ({"x": [[0.0]]}, "Give both embeddings"),
        ({"x": [[0.0]], "y": [[0.0]], "matching": [[1.0]]}, "not both"),
        ({"x": [[0.0], [1.0]], "y": [[0.0]]}, "x has 2 cells and y has 1"),
        ({"x": [[0.0], [1.0]], "y": [[0.0], [np.inf]]}, "y has NaN or infinite values, the first in row 1"),
        ({"x": [[0.0]], "y": [[0.0]], "n_neighbors": 2}, "n_neighbors is 2, but must be between 1 and the 1 cells"),
        ({"x": [[0.0]], "y": [[0.0]], "n_neighbors": 0}, "n_neighbors is 0"),
        ({"x": [[0.0]], "y": [[0.0]], "chunk_size": 0}, "chunk_size must be at least 1"),
        ({"matching": np.ones((2, 3))}, r"matching must be square, .* \(2, 3\)"),
        ({"matching": np.ones(3)}, r"matching must be square, .* \(3,\)"),
        ({"matching": np.ones((0, 0))}, r"matching must be square, .* \(0, 0\)"),
        ({"matching": [[1.0, np.nan], [0.0, 1.0]]}, "matching has 1 NaN or infinite entries"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        matching_score(**arguments)
