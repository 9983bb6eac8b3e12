"""Equations 3 to 7 and Algorithm 1 against a NumPy evaluation with dense matrices, written from the paper."""

import math

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from jamie_sc.models import JAMIE
from jamie_sc.models._batches import Links, mix
from jamie_sc.models._jamie import Network, annealing, loss_terms

N, WIDTHS = (7, 9), (5, 4)


@pytest.fixture
def case():
    """A network of the paper's recipe, two modalities and a soft, many-to-many F."""
    rng = np.random.default_rng(0)
    F = np.round(rng.random(N) * (rng.random(N) < 0.2), 2)
    F[0, 0] = 1
    torch.manual_seed(0)
    network = Network(JAMIE(recipe="paper", latent_dim=3).config, WIDTHS, WIDTHS).eval()
    network.log_weight.data = torch.tensor([0.2, -0.3])
    data = [rng.standard_normal((d, n)).astype(np.float32) for d, n in zip(WIDTHS, N, strict=True)]
    return network, data, F


def links_of(F):
    F = sp.coo_matrix(F)
    return {(0, 1): Links(torch.from_numpy(F.row).long(), torch.from_numpy(F.col).long(), torch.tensor(F.data).float())}


def layer(x, linear):
    bias = 0 if linear.bias is None else linear.bias[0].detach().numpy()
    return linear.weight[0].detach().numpy() @ x + bias


def mlp(x, network):
    """Linear, batch normalisation with its running moments, leaky ReLU; the last layer is linear."""
    modules = list(network)
    for linear, norm in zip(modules[::3], modules[1::3], strict=False):
        x = layer(x, linear)
        n = norm.norm
        mean, var = n.running_mean.numpy()[:, None], n.running_var.numpy()[:, None]
        x = (x - mean) / np.sqrt(var + n.eps) * n.weight.detach().numpy()[:, None] + n.bias.detach().numpy()[:, None]
        x = np.where(x > 0, x, 0.01 * x)
    return layer(x, modules[-1])


def posteriors(network, data):
    """Mean and standard deviation of each modality's cells."""
    outs = [mlp(x, encoder) for x, encoder in zip(data, network.encoders, strict=True)]
    return [(out[:3], np.exp(0.5 * out[3:])) for out in outs]


def aggregates(network, data, F, noise):
    """Equations 2 and 3 with dense matrices, latents in columns."""
    lx, ly = (m + e * s for (m, s), e in zip(posteriors(network, data), noise, strict=True))
    delta = math.exp(-0.3 - 0.2)
    ones_x, ones_y = np.ones(N[0]), np.ones(N[1])
    a = (lx + delta * ly @ F.T) @ np.linalg.inv(np.diag(1 + delta * F @ ones_y))  # 3a
    b = (ly + lx @ F / delta) @ np.linalg.inv(np.diag(1 + F.T @ ones_x / delta))  # 3b
    return a, b


def equations(network, data, F, noise):
    """The paper's formulas with dense matrices."""
    g = 3
    (mx, sx), (my, sy) = posteriors(network, data)
    lx, ly = mx + noise[0] * sx, my + noise[1] * sy
    a, b = aggregates(network, data, F, noise)
    d = [-(1 + 2 * np.log(s) - m**2 - s**2).sum(axis=1) / (2 * n) for m, s, n in ((mx, sx, N[0]), (my, sy, N[1]))]  # 5
    x, y = mlp(a, network.decoders[0]), mlp(b, network.decoders[1])
    return {
        "kl": sum(d).sum() / g,  # 4, without kappa
        "combination": ((lx - a) ** 2).sum() / (g * N[0]) + ((ly - b) ** 2).sum() / (g * N[1]),  # 6
        "reconstruction": sum(
            ((t - o) ** 2).sum() / (width * n) for t, o, width, n in zip(data, (x, y), WIDTHS, N, strict=True)
        ),  # 7
    }


def terms_of(case, config, inferred=None):
    """The loss terms, and the noise of Equation 2 that was drawn for them."""
    network, data, F = case
    torch.manual_seed(3)
    noise = [torch.randn(1, 3, n).numpy()[0] for n in N]
    torch.manual_seed(3)
    tensors = [torch.from_numpy(x) for x in data]
    with torch.no_grad():
        return loss_terms(network, tensors, tensors, links_of(F), inferred, n_features=WIDTHS, config=config), noise


def inferred_of(n, m, rng):
    """Rows that sum to 1, but the last one, which has no match."""
    F = rng.random((n, m)) * (rng.random((n, m)) < 0.5)
    F[:, 0] += 0.1
    F /= F.sum(axis=1, keepdims=True)
    F[-1] = 0
    return F


def test_equations_3_to_7(case):
    network, data, F = case
    terms, noise = terms_of(case, JAMIE(recipe="paper").config)
    for name, expected in equations(network, data, F, noise).items():
        np.testing.assert_allclose(terms[name], expected, rtol=1e-5, err_msg=name)


def test_equation_9(case):
    """Mean over the cells that have matches: one that has none is left where it is."""
    network, data, F = case
    forth, back = (inferred_of(*shape, np.random.default_rng(2)) for shape in (N, N[::-1]))
    inferred = links_of(forth) | {(1, 0): links_of(back)[0, 1]}
    terms, noise = terms_of(case, JAMIE(recipe="paper").config, inferred)
    x, y = aggregates(network, data, F, noise)
    g, (n, m) = 3, N
    expected = ((x - y @ forth.T)[:, :-1] ** 2).sum() / (g * (n - 1))
    expected += ((y - x @ back.T)[:, :-1] ** 2).sum() / (g * (m - 1))
    np.testing.assert_allclose(terms["alignment"], expected, rtol=1e-5)
    assert "alignment" not in terms_of(case, JAMIE(recipe="paper").config)[0]
    assert "alignment" not in terms_of(case, JAMIE(recipe="paper", alignment=0.0).config, inferred)[0]


@pytest.mark.parametrize("rho", [0.0, 0.3, 1.0])
def test_line_3(rho):
    """The mix of F and the inferred F, entry by entry: known partners stay, other cells have 1 - rho of their inferred ones."""
    rng = np.random.default_rng(0)
    F = np.zeros((5, 6))
    F[0, 1], F[2, 2], F[2, 3] = 1, 0.4, 0.2
    forth, back = inferred_of(5, 6, rng), inferred_of(6, 5, rng)
    mixed, clamped = mix({(0, 1): sp.csr_matrix(F)}, {(0, 1): sp.csr_matrix(forth), (1, 0): sp.csr_matrix(back)}, rho)
    for i in range(5):
        for j in range(6):
            from_i = F[i, j] if F[i].any() else forth[i, j]
            from_j = F[i, j] if F[:, j].any() else back[j, i]
            assert clamped[0, 1][i, j] == pytest.approx(from_i)
            assert clamped[1, 0][j, i] == pytest.approx(from_j)
            assert mixed[0, 1][i, j] == pytest.approx(rho * F[i, j] + (1 - rho) * (from_i + from_j) / 2)
    if rho == 1:
        np.testing.assert_allclose(mixed[0, 1].toarray(), F)


def test_inferred_one_way_is_turned_round():
    forth = inferred_of(5, 6, np.random.default_rng(0))
    for given in ({(0, 1): sp.csr_matrix(forth)}, {(1, 0): sp.csr_matrix(forth)}):
        a, b = next(iter(given))
        clamped = mix({(0, 1): sp.csr_matrix((5, 6) if a == 0 else (6, 5))}, given, 0.5)[1]
        sums = forth.sum(axis=0, keepdims=True)
        np.testing.assert_allclose(clamped[b, a].toarray(), (forth / np.where(sums > 0, sums, 1)).T)


def test_nothing_inferred_is_nothing_mixed():
    F = {(0, 1): sp.csr_matrix(np.eye(4))}
    assert mix(F, {}, 0.3) == (F, {})


def test_cross_and_contrast(case):
    """The two terms that the paper has not: against loops over the entries of F."""
    network, data, F = case
    terms, noise = terms_of(case, JAMIE(temperature=0.5).config)
    out = [mlp(x, encoder) for x, encoder in zip(data, network.encoders, strict=True)]
    means = [o[:3] for o in out]
    latents = [o[:3] + e * np.exp(0.5 * o[3:]) for o, e in zip(out, noise, strict=True)]
    u, v = (m / np.linalg.norm(m, axis=0) for m in means)
    S = np.exp(u.T @ v / 0.5)
    cross = contrast = 0.0
    for i, j in zip(*np.nonzero(F), strict=True):
        w = F[i, j] / F.sum()
        to_y = mlp(latents[0][:, [i]], network.decoders[1])[:, 0]
        to_x = mlp(latents[1][:, [j]], network.decoders[0])[:, 0]
        cross += w * (((to_y - data[1][:, j]) ** 2).mean() + ((to_x - data[0][:, i]) ** 2).mean())
        sharp = np.sqrt(F[i].max() * F[:, j].max())
        contrast -= w * sharp * 0.5 * (np.log(S[i, j] / S[i].sum()) + np.log(S[i, j] / S[:, j].sum()))
    np.testing.assert_allclose(terms["cross"], cross, rtol=1e-5)
    np.testing.assert_allclose(terms["contrast"], contrast, rtol=1e-5)


def test_aggregation_of_three_modalities():
    """M^a = (L^a + sum_b delta_ab F^ab L^b) / (1 + sum_b delta_ab F^ab 1), delta_ab = exp(w_b - w_a)."""
    rng = np.random.default_rng(1)
    sizes, g = (4, 5, 6), 2
    network = Network(JAMIE(latent_dim=g).config, (3, 3, 3), (3, 3, 3))
    w = np.array([0.1, -0.4, 0.7])
    network.log_weight.data = torch.from_numpy(w).float()
    L = [rng.standard_normal((g, n)) for n in sizes]
    F = {
        (a, b): rng.random((sizes[a], sizes[b])) * (rng.random((sizes[a], sizes[b])) < 0.5)
        for a, b in ((0, 1), (0, 2), (1, 2))
    }
    links = {ab: links_of(matrix)[0, 1] for ab, matrix in F.items()}
    with torch.no_grad():
        got = network.aggregate([torch.from_numpy(x).float()[None] for x in L], links)
    F |= {(b, a): matrix.T for (a, b), matrix in F.items()}
    for a in range(3):
        others = [b for b in range(3) if b != a]
        top = L[a] + sum(np.exp(w[b] - w[a]) * L[b] @ F[a, b].T for b in others)
        bottom = 1 + sum(np.exp(w[b] - w[a]) * F[a, b].sum(axis=1) for b in others)
        np.testing.assert_allclose(got[a][0].numpy(), top / bottom, rtol=1e-5)


def test_annealing_is_line_17():
    tau = 2500
    for step in (0, 700, 1250, 2500):
        assert annealing(step, tau) == pytest.approx(1 / (1 + np.exp(-5 * (step - 0.5 * tau) / (0.5 * tau))))
    assert annealing(tau // 2, tau) == 0.5


def test_paper_recipe_is_that_of_the_paper():
    config = JAMIE(recipe="paper").config
    assert (config.combination, config.reconstruction, config.kl) == (1000, 31.25, 1)
    assert (config.min_steps, config.max_steps, config.max_lapses, config.min_change) == (2500, 10_000, 500, 1e-8)
    assert (config.batch_size, config.latent_dim, config.n_components, config.dropout) == (512, 32, 512, 0)
    assert (config.alignment, config.rho, config.unit_columns) == (31.25, 1, True)
    assert config.cross == config.contrast == config.input_dropout == 0
    network = Network(config, (10, 6), (10, 6))
    widths = [m.weight.shape[:0:-1] for m in list(network.encoders[0])[::3]]
    assert widths == [(10, 20), (20, 10), (10, 32), (32, 64)]  # n -> 2n -> n -> g -> 2g
    widths = [m.weight.shape[:0:-1] for m in list(network.decoders[0])[::3]]
    assert widths == [(32, 10), (10, 20), (20, 10)]  # g -> n -> 2n -> n
