from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from jamie_sc.models import _calibration
from jamie_sc.models._calibration import LEVELS, PRIOR_CELLS, REACH, Calibration

NO_FLOOR = -np.inf


def cells(n, p=6, *, seed=0, shape=1.0):
    """Measured, imputed and the draws' standard deviation: errors grow with the imputed value and with the draws' sd."""
    rng = np.random.default_rng(seed)
    imputed, draws_sd = rng.gamma(4, size=(n, p)) * np.arange(1, p + 1), rng.gamma(9, size=(n, p)) / 9
    noise = rng.normal(size=(n, p))
    measured = imputed + 0.3 * imputed**shape * draws_sd * noise
    return tuple(np.asarray(v, np.float32) for v in (measured, imputed, draws_sd))


def fit(measured, imputed, draws_sd, floor=NO_FLOOR):
    return Calibration.fit(measured, imputed, draws_sd, floor=np.full(measured.shape[1], floor, np.float32))


def covered(calibration, data, level):
    """Whether each measured value lies within its interval."""
    measured, *signs = data
    low, high = calibration.interval(*signs, level=level)
    return (measured >= low) & (measured <= high)


def standardised(sign):
    return (sign - sign.mean(axis=0)) / sign.std(axis=0)


# The numbers --------------------------------------------------------------------------------------------------------


def by_hand(measured, imputed, draws_sd):
    """Slopes and expected errors of each feature, by scikit-learn's ridge regression."""
    errors = np.abs(measured - imputed).astype(np.float64)
    slopes, expected = [], []
    for j in range(errors.shape[1]):
        signs = np.stack([standardised(imputed[:, j]), standardised(draws_sd[:, j])], axis=1)
        ridge = Ridge(alpha=PRIOR_CELLS).fit(signs, errors[:, j])
        slopes.append(ridge.coef_)
        mean = errors[:, j].mean()
        expected.append(np.clip(ridge.predict(signs), mean / REACH, mean * REACH))
    return np.array(slopes).T, np.array(expected).T


@pytest.mark.parametrize("n", [12, 100])
def test_expected_error_is_a_ridge_regression(n):
    data = cells(n)
    calibration = fit(*data)
    slopes, expected = by_hand(*data)
    np.testing.assert_allclose(calibration.slope, slopes, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(calibration.expected_error(*data[1:]), expected, rtol=1e-3)
    np.testing.assert_allclose(calibration.error, np.abs(data[0] - data[1]).mean(axis=0), rtol=1e-5)


def test_expected_error_stays_within_reach_of_the_mean():
    calibration = fit(*cells(100))
    far = np.full((1, 6), 1e6, np.float32)
    for imputed, times in ((far, REACH), (-far, 1 / REACH)):
        expected = calibration.expected_error(imputed, calibration.mean[[1]])
        np.testing.assert_allclose(expected[0], calibration.error * times, rtol=1e-5)


@pytest.mark.parametrize("n", [5, 20, 333])
def test_quantiles_are_those_of_split_conformal_prediction(n):
    """The k-th smallest ratio, with k the least number for which k of n + 1 are as many as the level."""
    data = cells(n, p=3)
    calibration = fit(*data)
    ratios = np.abs(data[0] - data[1]) / by_hand(*data)[1]
    assert (calibration.quantiles[0] == 0).all()
    for level, quantile in zip(LEVELS[1:], calibration.quantiles[1:], strict=True):
        k = next((k for k in range(1, n + 1) if k / (n + 1) >= level - 1e-12), n)
        expected = [sorted(ratios[:, j])[k - 1] for j in range(3)]
        np.testing.assert_allclose(quantile, expected, rtol=2e-3)


def test_an_interval_is_the_quantile_times_the_error_expected():
    data, new = cells(100), cells(7, seed=1)
    calibration = fit(*data)
    expected = calibration.expected_error(*new[1:])
    for level, quantile in zip(LEVELS[1:], calibration.quantiles[1:], strict=True):
        low, high = calibration.interval(*new[1:], level=level)
        assert low.dtype == high.dtype == np.float32
        np.testing.assert_allclose(high - new[1], quantile * expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(new[1] - low, quantile * expected, rtol=1e-4, atol=1e-4)


def test_levels_between_are_interpolated():
    calibration, (_, *signs) = fit(*cells(200)), cells(7, seed=1)

    def width(level):
        low, high = calibration.interval(*signs, level=level)
        return (high - low).astype(np.float64)

    for below, level, above in ((0.8, 0.85, 0.9), (0.95, 0.9625, 0.975), (0.5, 0.55, 0.6)):
        np.testing.assert_allclose(width(level), (width(below) + width(above)) / 2, rtol=1e-3)
    np.testing.assert_allclose(width(0.025), width(0.1) / 4, rtol=1e-3)
    widths = np.array([width(level) for level in np.linspace(0.01, 0.99, 99)])
    assert (np.diff(widths, axis=0) >= -1e-4).all()


@pytest.mark.parametrize("level", [0, -0.1, 0.991, 1, 80, np.nan])
def test_levels_outside(level):
    calibration, (_, *signs) = fit(*cells(20)), cells(2)
    with pytest.raises(ValueError, match=f"above 0 and at most 0.99, not {level}"):
        calibration.interval(*signs, level=level)


def test_predicted_sd_is_half_the_80_percent_interval():
    calibration, (_, *signs) = fit(*cells(100)), cells(7, seed=1)
    low, high = calibration.interval(*signs, level=0.8)
    sd = calibration.predicted_sd(*signs)
    assert sd.dtype == np.float32
    np.testing.assert_allclose(sd, (high - low) / 2 / 1.2816, rtol=1e-3)


def test_predicted_sd_of_normal_errors_is_theirs():
    rng = np.random.default_rng(0)
    imputed = rng.normal(size=(5000, 2)).astype(np.float32)
    measured = (imputed + [0.5, 3] * rng.normal(size=(5000, 2))).astype(np.float32)
    sd = fit(measured, imputed, np.ones_like(imputed)).predicted_sd(imputed, np.ones_like(imputed))
    np.testing.assert_allclose(sd.mean(axis=0), [0.5, 3], rtol=0.03)


def test_some_features():
    calibration, (_, *signs) = fit(*cells(50)), cells(7, seed=1)
    some = np.array([4, 1])
    few = [sign[:, some] for sign in signs]
    for all_of, part in (
        (calibration.interval(*signs, level=0.7), calibration.interval(*few, level=0.7, features=some)),
        ([calibration.expected_error(*signs)], [calibration.expected_error(*few, some)]),
        ([calibration.predicted_sd(*signs)], [calibration.predicted_sd(*few, some)]),
    ):
        for whole, got in zip(all_of, part, strict=True):
            np.testing.assert_array_equal(got, whole[:, some])


# Do they hold? ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0.5, 0.8, 0.95])
def test_new_cells_lie_within(level):
    calibration, new = fit(*cells(500)), cells(4000, seed=1)
    inside = covered(calibration, new, level)
    assert inside.mean() == pytest.approx(level, abs=0.025)
    np.testing.assert_allclose(inside.mean(axis=0), level, atol=0.06)


def tercile_coverage(calibration, data, level):
    """Fraction within, of the cells of low, middle and high imputed values."""
    inside, rank = covered(calibration, data, level), data[1].argsort(axis=0).argsort(axis=0)
    third = rank * 3 // len(rank)
    return np.array([inside[third == k].mean() for k in range(3)])


@pytest.mark.parametrize("level", [0.5, 0.8, 0.95])
def test_cells_of_low_and_of_high_values_lie_within(level, monkeypatch):
    data, new = cells(500), cells(4000, seed=1)
    with_scale = tercile_coverage(fit(*data), new, level)
    monkeypatch.setattr(_calibration, "PRIOR_CELLS", 1e9)  # the same error in every cell
    flat = fit(*data)
    np.testing.assert_allclose(flat.slope, 0, atol=1e-5)
    without = tercile_coverage(flat, new, level)
    assert np.abs(with_scale - level).max() < 0.06
    assert without[0] > with_scale[0]  # too wide for low values, too narrow for high ones
    assert np.abs(without - level).max() > 1.5 * np.abs(with_scale - level).max()


def test_where_the_error_is_the_same_everywhere_little_is_lost(monkeypatch):
    rng = np.random.default_rng(0)
    imputed, draws_sd = rng.normal(size=(2, 100, 50)).astype(np.float32)
    measured = imputed + rng.normal(size=imputed.shape).astype(np.float32)
    data = (measured, imputed, np.abs(draws_sd))
    widths = []
    for prior in (PRIOR_CELLS, 1e9):
        monkeypatch.setattr(_calibration, "PRIOR_CELLS", prior)
        low, high = fit(*data).interval(*data[1:], level=0.8)
        widths.append((high - low).mean())
    assert widths[0] == pytest.approx(widths[1], rel=0.05)


def test_few_cells_hold_on_average():
    """Over 1,000 features of one kind."""

    def features(n, seeds):
        parts = [cells(n, p=1, seed=seed) for seed in seeds]
        return [np.concatenate(part, axis=1) for part in zip(*parts, strict=True)]

    calibration, new = fit(*features(19, range(1000))), features(50, range(1000, 2000))
    for level in (0.5, 0.8):
        assert covered(calibration, new, level).mean() == pytest.approx(level, abs=0.04)


# Features that are odd ----------------------------------------------------------------------------------------------


def test_nothing_below_the_floor():
    data, (_, imputed, draws_sd) = cells(100), cells(50, seed=1)
    imputed[0] = 0.001
    imputed[1] = -500  # far below what was ever measured
    calibration = fit(*data, floor=0)
    bounds = calibration.interval(imputed, draws_sd, level=0.99)
    free = replace(calibration, floor=np.full(6, NO_FLOOR)).interval(imputed, draws_sd, level=0.99)
    assert (free[0][:2] < 0).all()
    assert (free[1][1] < 0).all()
    for bound, without in zip(bounds, free, strict=True):
        np.testing.assert_array_equal(bound, np.maximum(without, 0))


def test_constant_features():
    measured, imputed, draws_sd = cells(30)
    measured[:, 0] = imputed[:, 0] = 2  # known without error
    draws_sd[:, 0] = 0
    imputed[:, 1] = 5  # always imputed the same
    measured[:, 2] = 1
    draws_sd[:, 3] = 0
    calibration = fit(measured, imputed, draws_sd)
    assert all(np.isfinite(v).all() for name, v in calibration.arrays().items() if name != "floor")
    low, high = calibration.interval(imputed, draws_sd, level=0.8)
    assert (low[:, 0] == 2).all()
    assert (high[:, 0] == 2).all()
    assert (calibration.predicted_sd(imputed, draws_sd)[:, 0] == 0).all()
    np.testing.assert_allclose(calibration.slope[0, 1], 0, atol=1e-4)
    np.testing.assert_allclose(calibration.slope[1, 3], 0, atol=1e-4)
    assert (high[:, 1:] > low[:, 1:]).all()
    inside = (measured >= low) & (measured <= high)
    assert (inside.mean(axis=0) >= 0.8).all()


def test_few_cells_know_no_more_than_their_largest_error():
    data = cells(5)
    calibration = fit(*data)
    largest = (np.abs(data[0] - data[1]) / calibration.expected_error(*data[1:])).max(axis=0)
    for quantile in calibration.quantiles[LEVELS >= 0.9]:
        np.testing.assert_allclose(quantile, largest, rtol=1e-5)


@pytest.mark.parametrize("factor", [1e-4, 1e4])
def test_features_in_any_unit(factor):
    """Intervals grow with the unit, and what they hold stays."""
    data, new = cells(100), cells(50, seed=1)
    calibration, scaled = fit(*data), fit(*(v * np.float32(factor) for v in data))
    in_unit = [v * np.float32(factor) for v in new]
    for bound, other in zip(
        calibration.interval(*new[1:], level=0.8), scaled.interval(*in_unit[1:], level=0.8), strict=True
    ):
        np.testing.assert_allclose(other, bound * factor, rtol=2e-3, atol=2e-3 * factor)


def test_arrays_and_back():
    calibration = fit(*cells(30), floor=0)
    arrays = calibration.arrays()
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}
    again = Calibration.from_arrays(arrays).arrays()
    assert list(again) == list(arrays) == ["mean", "sd", "slope", "error", "quantiles", "floor"]
    np.testing.assert_equal(again, arrays)
    assert arrays["quantiles"].shape == (len(LEVELS), 6)
