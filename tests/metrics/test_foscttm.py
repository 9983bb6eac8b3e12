import numpy as np
import pytest
from scipy import sparse

from jamie_sc.metrics import foscttm


def brute_force(x, y, tie=0.0):
    n = len(x)
    score = 0.0
    for i in range(n):
        true = np.sqrt(((x[i] - y[i]) ** 2).sum())
        for j in set(range(n)) - {i}:
            for distance in (np.sqrt(((x[j] - y[i]) ** 2).sum()), np.sqrt(((x[i] - y[j]) ** 2).sum())):
                score += 1.0 if distance < true else tie if distance == true else 0.0
    return score / (2 * n * n)


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(37, 5))
    return x, x + rng.normal(size=x.shape)


@pytest.mark.parametrize(("ties", "tie"), [("strict", 0.0), ("half", 0.5)])
def test_equals_brute_force(pair, ties, tie):
    assert foscttm(*pair, ties=ties) == pytest.approx(brute_force(*pair, tie), abs=1e-12)
    assert 0.05 < foscttm(*pair) < 0.45  # an easy case would not tell two definitions apart


@pytest.mark.parametrize(("ties", "tie"), [("strict", 0.0), ("half", 0.5)])
def test_equals_brute_force_where_distances_tie(ties, tie):
    x, y = np.random.default_rng(1).integers(0, 3, size=(2, 29, 2)).astype(float)
    assert foscttm(x, y, ties=ties) == pytest.approx(brute_force(x, y, tie), abs=1e-12)
    assert foscttm(x, y, ties="half") > foscttm(x, y) + 0.05


def test_the_two_directions_are_averaged():
    x, y = np.array([[0.0], [1.0]]), np.array([[10.0], [2.0]])
    # around the x: d00 = 10 > d01 = 2 and d11 = 1 < d10 = 9; around the y: d00 = 10 > d10 = 9 and d11 = 1 < d01 = 2
    assert foscttm(x, y) == (1 / 2 + 0 + 1 / 2 + 0) / 4
    x, y = np.array([[0.0], [4.0]]), np.array([[3.0], [9.0]])
    # around the x: d00 = 3 < d01 = 9 and d11 = 5 > d10 = 1; around the y: d00 = 3 > d10 = 1 and d11 = 5 < d01 = 9
    assert foscttm(x, y) == (0 + 1 / 2 + 1 / 2 + 0) / 4
    x, y = np.array([[0.0, 0.0], [0.0, 3.0]]), np.array([[2.0, 0.0], [0.0, 1.0]])
    # around the x: d01 = 1 < d00 = 2 and d10 = 3.6 > d11 = 2; around the y: d10 = 3.6 > d00 and d01 = 1 < d11 = 2
    assert foscttm(x, y) == (1 / 2 + 0 + 0 + 1 / 2) / 4


@pytest.mark.parametrize("chunk_size", [1, 2, 7, 36, 37, 1000])
@pytest.mark.parametrize("ties", ["strict", "half"])
def test_chunk_size_changes_nothing(pair, chunk_size, ties):
    x, y = pair
    x, y = np.round(x), np.round(y)
    assert foscttm(x, y, ties=ties, chunk_size=chunk_size) == foscttm(x, y, ties=ties)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 8, 101])
def test_collapsed_embedding(n):
    """All distances are equal, although 0.1 and 0.7 have no exact binary form."""
    x, y = np.full((n, 7), 0.1), np.full((n, 7), 0.7)
    for chunk_size in (1, 3, 1000):
        assert foscttm(x, y, chunk_size=chunk_size) == 0
        assert foscttm(x, y, ties="half", chunk_size=chunk_size) == (n - 1) / (2 * n)


def test_duplicated_cells_tie_exactly():
    """Each cell occurs twice, so each true match has one tie in each direction whatever the rounding."""
    x = np.random.default_rng(2).normal(size=(50, 11)) * 1e3
    y = x + 1e-3  # nearer to its own x than to any other
    x, y = np.tile(x, (2, 1)), np.tile(y, (2, 1))
    assert foscttm(x, y, chunk_size=13) == 0
    assert foscttm(x, y, ties="half", chunk_size=13) == pytest.approx(0.5 / 100)


def test_perfect_reversed_and_random():
    x = np.arange(50.0)[:, None]
    assert foscttm(x, x) == 0
    n = len(x)
    # cell i lies |n - 1 - 2 i| from its match, and everything within that distance is closer
    expected = brute_force(x, x[::-1])
    assert foscttm(x, x[::-1]) == expected
    rng = np.random.default_rng(3)
    scores = [foscttm(*rng.normal(size=(2, n, 4))) for _ in range(50)]
    assert np.mean(scores) == pytest.approx(0.5, abs=0.02)


def test_far_from_the_origin():
    """Distances from inner products would lose these differences."""
    x = np.random.default_rng(4).integers(0, 1000, size=(60, 3)) + 2.0**40
    y = x + np.random.default_rng(5).integers(-90, 90, size=(60, 3))
    assert foscttm(x, y) == foscttm(x - 2.0**40, y - 2.0**40) > 0


def test_float32_and_lists(pair):
    x, y = (np.asarray(z, dtype=np.float32) for z in pair)
    assert foscttm(x, y) == foscttm(x.tolist(), y.tolist())


@pytest.mark.parametrize(
    ("x", "y", "options", "message"),
    [
        (np.zeros((3, 2)), np.zeros((4, 2)), {}, "x has 3 cells and y has 4"),
        (np.zeros((3, 2)), np.zeros((3, 5)), {}, "x has 2 latent dimensions and y has 5"),
        (np.zeros(3), np.zeros(3), {}, r"x must be a matrix .* shape \(3,\)"),
        (sparse.csr_array((3, 2)), np.zeros((3, 2)), {}, "x is a sparse matrix; an embedding is a dense array"),
        (np.zeros((0, 2)), np.zeros((0, 2)), {}, "x is empty: 0 cells x 2 columns"),
        (np.zeros((2, 2)), np.array([[0, 0], [0, np.nan]]), {}, "y has NaN .* row 1, column 1"),
        (np.zeros((2, 2)), np.zeros((2, 2)), {"ties": "less"}, "ties is 'strict' or 'half', not 'less'"),
        (np.zeros((2, 2)), np.zeros((2, 2)), {"chunk_size": 0}, "chunk_size must be at least 1, not 0"),
    ],
)
def test_errors(x, y, options, message):
    with pytest.raises(ValueError, match=message):
        foscttm(x, y, **options)
