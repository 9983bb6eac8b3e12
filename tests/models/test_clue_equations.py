"""Equations 5 to 15 of CLUE against a NumPy evaluation with dense matrices, written from the paper."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy import stats
from scipy.special import log_softmax, softmax

from jamie_sc.models._batches import Links
from jamie_sc.models._clue import CLUE, Network, Posterior, Values, combine, loss_terms, product
from jamie_sc.models._likelihoods import LIKELIHOODS

CELLS, READ, D = (7, 9, 6), (4, 5, 3), 2
LIKELIHOOD, FEATURES, BATCHES = ("gaussian", "nb", "bernoulli"), (5, 6, 4), (2, 0, 3)
PAIRS = ((0, 1), (0, 2), (1, 2))
OPTIONS = {
    "hidden": (8,),
    "latent_dim": D,
    "critic_hidden": (6, 5),
    "dropout": 0.3,
    "input_dropout": 0.1,
    "shared_layers": True,
    "posterior": "product",
    "distance": "mse",
    "unit_length": False,
    "translation": 0.0,
    "critic_noise": "posterior",
    "kl": 0.7,
    "cross": 1.0,
    "alignment": 1.0,
    "adversary": 0.3,
    "labels": 1.0,
}


def config_of(**options):
    return CLUE(**(OPTIONS | options)).config


class Case:
    """A network in evaluation whose every parameter is random, what it reads and predicts, and dense links."""

    def __init__(self, n=3, *, n_labels=3, links=None, **options):
        rng = np.random.default_rng(n)
        self.n, self.config = n, config_of(**options)
        torch.manual_seed(0)
        likelihoods = [LIKELIHOODS[name](p) for name, p in zip(LIKELIHOOD[:n], FEATURES, strict=False)]
        self.network = Network(self.config, READ[:n], likelihoods, BATCHES[:n], n_labels)
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                if value.is_floating_point():
                    value.copy_(0.7 * torch.rand(value.shape) + 0.3 if "var" in name else torch.randn(value.shape) / 2)
        self.network.eval()
        self.read = [rng.standard_normal((READ[k], CELLS[k])).astype(np.float32) for k in range(n)]
        self.x = [
            rng.standard_normal((FEATURES[0], CELLS[0])),
            rng.poisson(rng.gamma(1, 4, (FEATURES[1], CELLS[1]))),
            rng.random((FEATURES[2], CELLS[2])) < 0.4,
        ][:n]
        self.library = [self.x[k].sum(axis=0) if LIKELIHOOD[k] == "nb" else None for k in range(n)]
        self.batch = [
            np.eye(b)[:, rng.integers(b, size=CELLS[k])] if b else np.empty((0, CELLS[k]))
            for k, b in enumerate(BATCHES[:n])
        ]
        self.F = links or {ab: soft(CELLS[ab[0]], CELLS[ab[1]], rng) for ab in PAIRS if max(ab) < n}
        self.codes = [rng.integers(-1, n_labels, size=CELLS[k]) for k in range(n)]

    def terms(self, monkeypatch, *, noise=0.0, labels=True):
        """What `loss_terms` gives; the noise that it drew is kept."""
        self.drawn, plain = [], torch.randn_like

        def recorded(x):
            self.drawn.append(plain(x).numpy())
            return torch.from_numpy(self.drawn[-1])

        monkeypatch.setattr(torch, "randn_like", recorded)
        tensor = lambda x: None if x is None else torch.tensor(x, dtype=torch.float32)
        values = [Values(*map(tensor, of)) for of in zip(self.x, self.library, self.batch, strict=True)]
        codes = [torch.from_numpy(c) for c in self.codes] if labels else None
        inputs = [torch.from_numpy(x) for x in self.read]
        return loss_terms(self.network, inputs, values, links_of(self.F), codes, config=self.config, noise=noise)

    # The paper's formulas, cells in columns ---------------------------------------------------------------------------

    def link(self, a, b):
        """F^ab, (cells of a, cells of b), whichever comes first; nothing where there are no links."""
        if (a, b) in self.F:
            return self.F[a, b]
        return self.F[b, a].T if (b, a) in self.F else np.zeros((CELLS[a], CELLS[b]))

    def others(self, k):
        return [a for a in range(self.n) if a != k]

    def posterior(self, k):
        """Mean and variance of q(z_j | x_k), each (K, d, cells)."""
        shared, encoder = self.config.shared_layers, list(self.network.encoders[k])
        member = lambda j: 0 if shared else j
        outs = [mlp(self.read[k], encoder, member(j)) for j in range(self.n)]
        if shared:
            outs = [outs[0][2 * D * j : 2 * D * (j + 1)] for j in range(self.n)]
        mean, log_variance = (np.stack([out[part] for out in outs]) for part in (slice(D), slice(D, None)))
        return mean, np.exp(np.clip(log_variance, -10, 10))

    def pooled(self, values, k):
        """Sum over the modalities of each of k's cells."""
        return values[k] + sum(values[a] @ self.link(k, a).T for a in self.others(k))

    def joint(self, k):
        """Equation 6: mean and variance."""
        posteriors = [self.posterior(a) for a in range(self.n)]
        precision = self.pooled([1 / v for _, v in posteriors], k)
        return self.pooled([m / v for m, v in posteriors], k) / precision, 1 / precision

    def mean_draw(self, k):
        """Equation 11."""
        count = 1 + sum(self.link(k, a).sum(axis=1) for a in self.others(k))
        return self.pooled([self.draw(a) for a in range(self.n)], k) / count

    def draw(self, k):
        """Equation 10."""
        mean, variance = self.posterior(k)
        return mean + self.drawn[k] * np.sqrt(variance)

    def nll(self, k, z, cells=slice(None)):
        """- log p(x_k | z_k) over the number of features, of some cells."""
        if self.config.unit_length:
            flat = z.reshape(-1, z.shape[2])
            z = (flat / np.linalg.norm(flat, axis=0) * np.sqrt(len(flat))).reshape(z.shape)
        x, out = self.x[k][:, cells].astype(float), z[k]
        for stage in self.network.decoders[k].stages:
            out = mlp(np.concatenate([out, self.batch[k][:, cells]]), list(stage), 0)
        p = {name: v.detach().numpy() for name, v in self.network.likelihoods[k].named_parameters()}
        if LIKELIHOOD[k] == "gaussian":
            density = stats.norm(out, self.network.likelihoods[k].sigma.detach().numpy()).logpdf(x)
        else:
            logit = out * softplus(p["scale"] + np.log(np.e - 1)) + p["shift"]
            if LIKELIHOOD[k] == "bernoulli":
                density = stats.bernoulli(1 / (1 + np.exp(-logit))).logpmf(x)
            else:
                mu, theta = softmax(logit, axis=0) * x.sum(axis=0), np.exp(p["log_theta"])
                density = stats.nbinom(theta, theta / (theta + mu)).logpmf(x)
        return -density.mean(axis=0)

    def reconstruction(self):
        """Equation 13, but for the divergence."""
        return sum(self.nll(k, self.draw(k)).mean() for k in range(self.n))

    def cross(self):
        """Equation 14, its divergence weighted, and what translation adds to it."""
        total = 0.0
        for k in range(self.n):
            if self.config.posterior == "product":
                mean, variance = self.joint(k)
                z = mean + self.drawn[self.n + k] * np.sqrt(variance)
                total += self.config.kl * divergence(mean, variance) / FEATURES[k]
            else:
                z = self.mean_draw(k)
            total += self.nll(k, z).mean()
            for a in self.others(k):
                W = self.link(a, k)
                i, j = np.nonzero(W)
                if len(i):
                    total += self.config.translation * np.average(
                        self.nll(k, self.draw(a)[:, :, i], j), weights=W[i, j]
                    )
        return total

    def kl(self):
        """Divergences of Equation 5; in the published code of all that is inferred from a modality."""
        posteriors = [self.posterior(k) for k in range(self.n)]
        if self.config.posterior == "product":
            posteriors = [(mean[k], variance[k]) for k, (mean, variance) in enumerate(posteriors)]
        return sum(divergence(*q) / n for q, n in zip(posteriors, FEATURES, strict=False))

    def alignment(self):
        """Equation 9 over cells of several modalities, or one minus the cosine."""
        total = 0.0
        for k in range(self.n):
            several = np.flatnonzero(sum(self.link(k, a).sum(axis=1) for a in self.others(k)))
            z, mean = (v[:, :, several].reshape(-1, len(several)) for v in (self.draw(k), self.mean_draw(k)))
            if self.config.distance == "mse":
                each = ((z - mean) ** 2).sum(axis=0)
            else:
                each = 1 - (z * mean).sum(axis=0) / np.linalg.norm(z, axis=0) / np.linalg.norm(mean, axis=0)
            total += each.mean() if len(several) else 0.0
        return total / self.n

    def given_to_critic(self, noise):
        """What discriminator and classifier read: cells in rows."""
        if self.config.critic_noise == "posterior":
            z = [self.draw(k) for k in range(self.n)]
        else:
            z = [self.posterior(k)[0] + noise * e for k, e in enumerate(self.drawn[-self.n :])]
        return [v.reshape(-1, v.shape[2]).T for v in z]

    def adversary(self, noise=0.0):
        """Minus Equation 12."""
        total = 0.0
        for k, z in enumerate(self.given_to_critic(noise)):
            for layer in self.network.critic:
                if isinstance(layer, torch.nn.Linear):
                    z = z @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
                elif isinstance(layer, torch.nn.LeakyReLU):
                    z = np.where(z > 0, z, 0.2 * z)
            total -= log_softmax(z, axis=1)[:, k].mean() / self.n
        return total

    def labels(self, noise=0.0):
        z, codes = np.concatenate(self.given_to_critic(noise)), np.concatenate(self.codes)
        weight, bias = (p.detach().numpy() for p in self.network.classifier.parameters())
        log_p = log_softmax(z @ weight.T + bias, axis=1)
        return -np.mean([log_p[i, c] for i, c in enumerate(codes) if c >= 0])


def soft(n, m, rng):
    """A link for every fourth pair, in (0, 1]; the last row and the last column have none."""
    F = np.round(rng.uniform(0.1, 1, (n, m)) * (rng.random((n, m)) < 0.25), 2)
    F[0, 0] = 1
    F[-1], F[:, -1] = 0, 0
    return F


def links_of(F):
    found = {ab: sp.coo_matrix(block) for ab, block in F.items()}
    index = lambda x: torch.from_numpy(x).long()
    return {ab: Links(index(f.row), index(f.col), torch.tensor(f.data).float()) for ab, f in found.items() if f.nnz}


def mlp(x, modules, member):
    """Linear, batch normalisation with its running moments, leaky ReLU, of one of the members."""
    for module in modules:
        kind = type(module).__name__
        if kind == "Linear":
            x = module.weight[member].detach().numpy() @ x
            x = x if module.bias is None else x + module.bias[member].detach().numpy()
        elif kind == "BatchNorm":
            n = module.norm
            own = slice(member * len(x), (member + 1) * len(x))
            mean, var, weight, bias = (
                v.detach().numpy()[own, None] for v in (n.running_mean, n.running_var, n.weight, n.bias)
            )
            x = (x - mean) / np.sqrt(var + n.eps) * weight + bias
        elif kind == "LeakyReLU":
            x = np.where(x > 0, x, 0.01 * x)
        else:
            assert kind == "Dropout"  # which does nothing in evaluation
    return x


def softplus(x):
    return np.log1p(np.exp(x))


def divergence(mean, variance):
    """KL(q || N(0, 1)), summed over dimensions, mean over cells."""
    kl = 0.5 * (mean**2 + variance - 1 - np.log(variance))
    return kl.sum(axis=tuple(range(kl.ndim - 1))).mean()


# All terms ----------------------------------------------------------------------------------------------------------

VARIANTS = [
    {},
    {"shared_layers": False},
    {"translation": 1.5},
    {"posterior": "average"},
    {"posterior": "average", "translation": 1.0, "distance": "cosine", "unit_length": True, "shared_layers": False},
    {"unit_length": True},
    {"distance": "cosine"},
]


@pytest.mark.parametrize("options", VARIANTS, ids=str)
@pytest.mark.parametrize("n", [2, 3])
def test_equations(monkeypatch, n, options):
    """Gaussian, negative binomial and Bernoulli features, cells in any subset of the modalities, soft links."""
    case = Case(n, **options)
    got = case.terms(monkeypatch)
    assert list(got) == ["reconstruction", "kl", "cross", "alignment", "adversary", "labels"]
    for name in got:
        np.testing.assert_allclose(got[name].item(), getattr(case, name)(), rtol=1e-4, err_msg=name)


@pytest.mark.parametrize("noise", [0.0, 0.4, 1.0])
def test_discriminator_reads_means_and_annealed_noise(monkeypatch, noise):
    case = Case(critic_noise="annealed")
    got = case.terms(monkeypatch, noise=noise)
    np.testing.assert_allclose(got["adversary"].item(), case.adversary(noise), rtol=1e-4)
    np.testing.assert_allclose(got["labels"].item(), case.labels(noise), rtol=1e-4)


def test_terms_without_a_weight_are_left_out(monkeypatch):
    case = Case(cross=0.0, alignment=0.0, adversary=0.0, labels=0.0)
    assert list(case.terms(monkeypatch)) == ["reconstruction", "kl"]
    assert "labels" not in Case().terms(monkeypatch, labels=False)


def test_no_weight_is_in_the_terms(monkeypatch):
    plain = Case().terms(monkeypatch)
    weights = {"reconstruction": 3.0, "cross": 7.0, "alignment": 11.0, "adversary": 13.0, "labels": 17.0}
    torch.testing.assert_close(Case(**weights).terms(monkeypatch), plain)


def test_every_cell_in_every_modality(monkeypatch):
    """Equations 6, 9 and 11 by loops over cells, as the paper writes them."""
    monkeypatch.setattr(f"{__name__}.CELLS", (6, 6, 6))
    case, K = Case(links=dict.fromkeys(PAIRS, np.eye(6))), 3
    got = case.terms(monkeypatch)
    each = [[case.draw(k)[:, :, c] for k in range(K)] for c in range(6)]
    distance = np.mean([sum(((z - sum(cell) / K) ** 2).sum() for z in cell) / K for cell in each])
    np.testing.assert_allclose(got["alignment"].item(), distance, rtol=1e-4)
    posteriors = [case.posterior(k) for k in range(K)]
    joint = product([Posterior(torch.tensor(m), torch.tensor(v).log()) for m, v in posteriors], links_of(case.F))
    for c in range(6):
        precision = sum(1 / v[:, :, c] for _, v in posteriors)
        mean = sum(m[:, :, c] / v[:, :, c] for m, v in posteriors) / precision
        for of_modality in joint:
            np.testing.assert_allclose(of_modality.log_variance[:, :, c].exp(), 1 / precision, rtol=1e-5)
            np.testing.assert_allclose(of_modality.mean[:, :, c], mean, rtol=1e-5, atol=1e-6)


# Equations 6 and 11 -------------------------------------------------------------------------------------------------


def normals(*shape, seed):
    generator = torch.Generator().manual_seed(seed)
    mean, log_variance = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    return Posterior(mean, log_variance)


def one_link(weight=1.0):
    """Cell 1 of the first modality is cell 0 of the second."""
    return {(0, 1): Links(torch.tensor([1]), torch.tensor([0]), torch.tensor([weight], dtype=torch.float64))}


def test_product_of_two_normals():
    """Closed form: mean (m1 v2 + m2 v1) / (v1 + v2), variance v1 v2 / (v1 + v2); other cells keep their own."""
    a, b = normals(2, 3, 4, seed=0), normals(2, 3, 5, seed=1)
    first, second = product([a, b], one_link())
    m1, v1 = a.mean[..., 1], a.log_variance[..., 1].exp()
    m2, v2 = b.mean[..., 0], b.log_variance[..., 0].exp()
    for joint, cell in ((first, 1), (second, 0)):
        torch.testing.assert_close(joint.mean[..., cell], (m1 * v2 + m2 * v1) / (v1 + v2))
        torch.testing.assert_close(joint.log_variance[..., cell].exp(), v1 * v2 / (v1 + v2))
    for joint, own, alone in ((first, a, [0, 2, 3]), (second, b, [1, 2, 3, 4])):
        torch.testing.assert_close(joint.mean[..., alone], own.mean[..., alone])
        torch.testing.assert_close(joint.log_variance[..., alone], own.log_variance[..., alone])


def test_product_is_that_of_the_densities():
    """On a grid, three modalities, no prior among the factors."""
    posteriors = [normals(1, 1, 1, seed=seed) for seed in range(3)]
    everyone = Links(torch.tensor([0]), torch.tensor([0]), torch.ones(1, dtype=torch.float64))
    [[mean], [log_variance]] = (part[0] for part in product(posteriors, dict.fromkeys(PAIRS, everyone))[0])
    x = np.linspace(-12, 12, 20_001)
    density = np.prod([stats.norm(p.mean.item(), np.exp(p.log_variance.item() / 2)).pdf(x) for p in posteriors], axis=0)
    density /= density.sum()
    assert mean.item() == pytest.approx((x * density).sum(), rel=1e-6)
    assert log_variance.exp().item() == pytest.approx(((x - mean.item()) ** 2 * density).sum(), rel=1e-6)


def test_a_soft_link_counts_by_its_weight():
    """A factor's precision, and a value in the mean, is multiplied by it."""
    a, b = normals(1, 1, 2, seed=0), normals(1, 1, 2, seed=1)
    joint = product([a, b], one_link(0.25))[0]
    p1, p2 = 1 / a.log_variance[0, 0, 1].exp(), 0.25 / b.log_variance[0, 0, 0].exp()
    torch.testing.assert_close(joint.log_variance[0, 0, 1].exp(), 1 / (p1 + p2))
    torch.testing.assert_close(joint.mean[0, 0, 1], (p1 * a.mean[0, 0, 1] + p2 * b.mean[0, 0, 0]) / (p1 + p2))
    means, several = combine([a.mean, b.mean], one_link(0.25))
    torch.testing.assert_close(means[0][0, 0, 1], (a.mean[0, 0, 1] + 0.25 * b.mean[0, 0, 0]) / 1.25)
    torch.testing.assert_close(means[0][0, 0, 0], a.mean[0, 0, 0])
    assert [s.tolist() for s in several] == [[False, True], [True, False]]


# Equations 9, 12 and 15 ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("distance", ["mse", "cosine"])
@pytest.mark.parametrize("posterior", ["product", "average"])
def test_without_pairs_nothing_is_aligned(monkeypatch, posterior, distance):
    case = Case(2, links={(0, 1): np.zeros((7, 9))}, posterior=posterior, distance=distance, translation=1.0)
    got = case.terms(monkeypatch)
    assert got["alignment"] == 0
    np.testing.assert_allclose(got["cross"].item(), case.cross(), rtol=1e-4)
    sum(got.values()).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in case.network.parameters())


def test_alignment_is_of_cells_with_several_modalities(monkeypatch):
    """More cells of one modality change nothing; alone they would lower the mean."""
    case = Case(2)
    got = case.terms(monkeypatch)["alignment"].item()
    several = [np.flatnonzero(case.link(k, 1 - k).sum(axis=1)) for k in range(2)]
    assert all(len(cells) < n for cells, n in zip(several, CELLS, strict=False))
    each = [((case.draw(k) - case.mean_draw(k)) ** 2).sum(axis=(0, 1)) for k in range(2)]
    assert got == pytest.approx(np.mean([e[cells].mean() for e, cells in zip(each, several, strict=True)]), rel=1e-4)
    assert got > 1.05 * np.mean([e.mean() for e in each])


def gradients(term, network):
    network.zero_grad()
    term.backward()
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("weight", [0.3, 2.0])
def test_gradient_is_turned_round_for_the_encoders_only(monkeypatch, weight):
    """Equation 15: the discriminator goes down its own cross-entropy, the encoders go up it, lambda_D times as fast."""
    case = Case(critic_noise="annealed", adversary=weight)
    got = gradients(case.terms(monkeypatch)["adversary"], case.network)
    z = [case.network.encode(k, torch.from_numpy(x))[0].flatten(0, 1).T for k, x in enumerate(case.read)]
    entropy = [-case.network.critic(u).log_softmax(1)[:, k].mean() for k, u in enumerate(z)]
    plain = gradients(sum(entropy) / 3, case.network)
    assert got.keys() == plain.keys()
    assert {name.split(".")[0] for name in plain} == {"encoders", "critic"}
    for name, gradient in plain.items():
        sign = 1 if name.startswith("critic") else -weight
        torch.testing.assert_close(got[name], sign * gradient, rtol=1e-3, atol=1e-6)
    assert max(got[name].abs().max() for name in got if name.startswith("encoders")) > 1e-3


def test_only_the_adversary_moves_the_discriminator(monkeypatch):
    case = Case()
    terms = case.terms(monkeypatch)
    rest = gradients(sum(term for name, term in terms.items() if name != "adversary"), case.network)
    assert not [name for name in rest if name.startswith("critic")]
    assert {name.split(".")[0] for name in rest} == {"encoders", "decoders", "likelihoods", "classifier"}


# Labels -------------------------------------------------------------------------------------------------------------


def test_a_batch_without_labels(monkeypatch):
    case = Case()
    case.codes = [np.full(n, -1) for n in CELLS]
    term = case.terms(monkeypatch)["labels"]
    assert term == 0
    found = gradients(term, case.network)
    assert found
    assert all((gradient == 0).all() for gradient in found.values())


def test_unlabelled_cells_do_not_count(monkeypatch):
    """One cell is labelled: its own cross-entropy, not a share of it; others have no gradient."""
    case = Case(critic_noise="annealed")
    case.codes = [np.full(n, -1) for n in CELLS]
    case.codes[1][4] = 2
    term = case.terms(monkeypatch)["labels"]
    z = case.posterior(1)[0][:, :, 4].ravel()
    weight, bias = (p.detach().numpy() for p in case.network.classifier.parameters())
    assert term.item() == pytest.approx(-log_softmax(weight @ z + bias)[2], rel=1e-4)
    moved = {
        name.split(".")[1]
        for name, g in gradients(term, case.network).items()
        if name.startswith("encoders") and g.abs().max() > 0
    }
    assert moved == {"1"}
