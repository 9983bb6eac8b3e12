from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from jamie_sc.align import _mmd_ma, mmd_ma
from jamie_sc.metrics import foscttm


@pytest.fixture(scope="module")
def cloud():
    """Cells whose shape has no symmetry: skewed, with another spread in each dimension."""
    return np.random.default_rng(0).exponential(size=(80, 4)) * [4, 2, 1, 0.5]


@pytest.fixture
def problem():
    """Two modalities (7 and 5 cells), maps to 2 dimensions, two bandwidths, in double precision."""
    rng = np.random.default_rng(1)
    kernels = [values @ values.T for values in (rng.normal(size=(7, 4)), rng.normal(size=(5, 3)))]
    alphas = [torch.tensor(rng.normal(size=(len(K), 2)) / 3, requires_grad=True) for K in kernels]
    return _mmd_ma._Problem(
        kernels=tuple(map(torch.tensor, kernels)),
        widths=(0.7, 3.0),
        weights={"mmd": 1.0, "distortion": 0.3, "penalty": 0.2},
    ), alphas


def terms(problem, alphas):
    latents = [K @ a for K, a in zip(problem.kernels, alphas, strict=True)]
    return _mmd_ma._terms(problem, alphas, latents)


def test_terms_by_hand(problem):
    problem, alphas = problem
    found = {name: term.item() for name, term in terms(problem, alphas).items()}
    K = [k.numpy() for k in problem.kernels]
    a = [alpha.detach().numpy() for alpha in alphas]
    z = [k @ alpha for k, alpha in zip(K, a, strict=True)]

    def mean_kernel(one, other):
        total = 0.0
        for p in one:
            for q in other:
                total += np.mean([np.exp(-sum((p - q) ** 2) / width) for width in problem.widths])
        return total / (len(one) * len(other))

    mmd = mean_kernel(z[0], z[0]) + mean_kernel(z[1], z[1]) - 2 * mean_kernel(z[0], z[1])
    assert mmd > 0.05
    assert found["mmd"] == pytest.approx(mmd, rel=1e-10)
    distortion = sum(np.sum((k - u @ u.T) ** 2) / np.sum(k**2) for k, u in zip(K, z, strict=True))
    assert found["distortion"] == pytest.approx(distortion, rel=1e-10)
    penalty = sum(np.sum((b.T @ k @ b - np.eye(2)) ** 2) / 2 for k, b in zip(K, a, strict=True))
    assert found["penalty"] == pytest.approx(penalty, rel=1e-10)


def test_gradient(problem):
    problem, alphas = problem
    for name in ("mmd", "distortion", "penalty"):
        assert torch.autograd.gradcheck(lambda *a, name=name: terms(problem, list(a))[name], alphas)


def test_start_is_the_best_of_each_modality_alone(cloud):
    """The penalty is 0, and the distortion that of the first principal components."""
    K = _mmd_ma._kernel_matrix(cloud, "linear", "X")
    assert np.trace(K) == pytest.approx(80)
    alpha = _mmd_ma._principal(K, 2, "X") @ _mmd_ma._rotation(2, np.random.default_rng(0))
    z = K @ alpha
    assert _mmd_ma._penalty(torch.tensor(alpha), torch.tensor(z)).item() == pytest.approx(0, abs=1e-12)
    s = np.linalg.svd(cloud - cloud.mean(axis=0), compute_uv=False)
    distortion = _mmd_ma._distortion(torch.tensor(K), torch.tensor(z)).item()
    assert distortion == pytest.approx((s[2:] ** 4).sum() / (s**4).sum())


def test_kernels(cloud):
    centred = cloud - cloud.mean(axis=0)
    cosine = _mmd_ma._kernel_matrix(cloud, "cosine", "X")
    expected = [[p @ q / np.sqrt(p @ p * (q @ q)) for q in centred] for p in centred]
    np.testing.assert_allclose(cosine, expected, atol=1e-12)
    linear = _mmd_ma._kernel_matrix(cloud, "linear", "X")
    np.testing.assert_allclose(linear, centred @ centred.T / np.mean((centred**2).sum(axis=1)))


def test_rotations_are_random_and_mirrored_half_of_the_time():
    rng = np.random.default_rng(2)
    turns = np.array([_mmd_ma._rotation(3, rng) for _ in range(200)])
    np.testing.assert_allclose(turns @ turns.transpose(0, 2, 1), np.broadcast_to(np.eye(3), turns.shape), atol=1e-12)
    assert 60 < (np.linalg.det(turns) > 0).sum() < 140
    assert np.abs(turns.mean(axis=0)).max() < 0.15


def test_rotated_copy_is_found(cloud):
    """The cells of a rotated copy, in another order, without telling which is which."""
    rng = np.random.default_rng(3)
    rotation, order = np.linalg.qr(rng.normal(size=(4, 4)))[0], rng.permutation(80)
    Z_x, Z_y = mmd_ma(cloud, (cloud @ rotation)[order], n_components=2, kernel="linear", n_starts=6, n_steps=300)
    assert foscttm(Z_x[order], Z_y) < 0.02


def losses_of(caplog):
    return [float(record.message.rsplit(" ", 1)[1]) for record in caplog.records]


def test_loss_falls(cloud, caplog):
    caplog.set_level(logging.INFO, logger="jamie_sc")
    options = {"n_components": 2, "n_starts": 3}
    mmd_ma(cloud, cloud[:60, ::-1], n_steps=1, **options)
    before = losses_of(caplog)
    caplog.clear()
    mmd_ma(cloud, cloud[:60, ::-1], n_steps=150, **options)
    after = losses_of(caplog)
    assert len(before) == len(after) == 3
    assert all(last < 0.5 * first for first, last in zip(before, after, strict=True))


def test_lowest_loss_is_returned(cloud, monkeypatch):
    made = iter([(0.3, "worse"), (np.nan, "broken"), (0.1, "best"), (0.2, "worse")])
    monkeypatch.setattr(_mmd_ma, "_descend", lambda *_: next(made))
    assert mmd_ma(cloud, cloud, n_components=2, n_starts=4) == "best"


def test_rng(cloud):
    calls = [mmd_ma(cloud, cloud, n_components=2, n_steps=5, n_starts=1, rng=rng)[0] for rng in (0, 0, 1)]
    np.testing.assert_array_equal(calls[0], calls[1])
    assert not np.allclose(calls[0], calls[2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel": "rbf"}, "kernel is 'cosine' or 'linear', not 'rbf'"),
        ({"bandwidths": ()}, r"bandwidths is \(\): give one"),
        ({"bandwidths": (1.0, 0.0)}, r"bandwidths is \(1.0, 0.0\)"),
        ({"n_steps": 0}, "n_steps is 0, but must be above 0"),
        ({"n_starts": 0}, "n_starts is 0"),
        ({"learning_rate": -1}, "learning_rate is -1"),
        ({"distortion_weight": -1}, "distortion_weight is -1, but must not be negative"),
        ({"n_components": 5}, "n_components is 5, .* 4: X can vary in 4 dimensions and Y in 4"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_bad_options(cloud, options, message):
    with pytest.raises(ValueError, match=message):
        mmd_ma(cloud, cloud, **({"n_components": 2} | options))


def test_constant_and_low_rank(cloud):
    with pytest.raises(ValueError, match="All cells of Y are alike"):
        mmd_ma(cloud, np.full((80, 3), 0.1), n_components=2)
    flat = np.c_[cloud[:, :1], cloud[:, :1] * 2, cloud[:, :1]]
    with pytest.raises(ValueError, match="n_components is 2, but Y varies in 1 dimensions only"):
        mmd_ma(cloud, flat, n_components=2, kernel="linear")


def test_divergence_says_what_to_lower(cloud):
    with pytest.raises(FloatingPointError, match="NaN in all 2 starts. Lower learning_rate, which is 1e\\+30"):
        mmd_ma(cloud, cloud, n_components=2, learning_rate=1e30, n_starts=2, n_steps=3)
