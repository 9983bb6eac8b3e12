"""CLUE: cross-linked unified embedding (Tu, Cao, Xia, Mostafavi and Gao 2022). Equation numbers are the paper's."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from torch import nn
from torch.nn import functional

from .._core._pairing import some_cells
from .._logging import logger
from ._autoencoder import Autoencoder, AutoencoderConfig, one_length, weighted_mean
from ._batches import both_ways, stratified
from ._blocks import MLP, ConditionalMLP, Dropout, Road, affine, divergence, one_member
from ._covariates import n_categories, one_hot, shares
from ._likelihoods import LIKELIHOODS, Likelihood, check_likelihood, likelihood_of
from ._reducers import totals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from .._core._modalities import Modality
    from ._autoencoder import Decode
    from ._base import Conditions, Correspondence, FittedModality, History, Matrix
    from ._batches import Batches, Links
    from ._reducers import Reducer
    from ._train import Terms

    AllLinks = Mapping[tuple[int, int], Links]

POSTERIORS, DISTANCES, NOISES = ("product", "average"), ("mse", "cosine"), ("posterior", "annealed")
BURN_IN = 1 / 3
"""Of the steps, over which the discriminator's noise fades."""


@dataclass(frozen=True)
class CLUEConfig(AutoencoderConfig):
    """Hyperparameters of CLUE; the values here are the default recipe, chosen on validation cells."""

    hidden: tuple[int, ...] = (256,)
    """Widths of the hidden layers of encoders, reversed in decoders. `latent_dim` is d, of each of the K sub-spaces."""
    shared_layers: bool = True
    """Let the encoders of a modality share their hidden layers, as the paper's conclusion suggests; else there are K^2 networks."""

    # Where paper and published code differ
    posterior: Literal["product", "average"] = "product"
    """How what several modalities say of a cell is joined: `"product"` of their posteriors (Equation 6), or `"average"` of
    draws from them, as in the published code."""
    distance: Literal["mse", "cosine"] = "mse"
    """What brings a cell's latents together: `"mse"`, squared distance to their mean (Equation 9), or `"cosine"` of the angle,
    as in the published code."""
    unit_length: bool = False
    """Bring the whole latent to one length before it is decoded, as in the published code. Not so in the paper."""
    translation: float = 1.0
    """Weight, within `cross`, of decoding a cell from each of its other modalities alone. The published code has it (at 1),
    Equation 8 does not."""
    critic_noise: Literal["posterior", "annealed"] = "annealed"
    """What the discriminator reads: `"posterior"`, draws (Equation 12), or `"annealed"`, posterior means with normal noise
    that fades over the first third of the training, as in the published code."""

    # Weights of the loss terms (Equation 15)
    reconstruction: float = 1.0
    """Of Equation 13, lambda_self: decode a cell from its own modality."""
    kl: float = 0.05
    """Of the divergences in Equations 5 and 8, which are divided by the number of features, as the likelihoods are: at 1 it is
    the evidence lower bound. That of Equation 8 is part of the term `cross`."""
    cross: float = 0.5
    """Of Equation 14, lambda_cross: decode a cell from all of its modalities."""
    alignment: float = 0.2
    """Of Equation 9, lambda_MSE."""
    adversary: float = 0.5
    """Of Equation 12, lambda_D: the encoders against the discriminator."""
    labels: float = 0.02
    """Of the cross-entropy of cell labels, where there are any; the published code's."""

    critic_hidden: tuple[int, ...] = (128, 128)
    """Widths of the discriminator's hidden layers."""
    validation: float = 0.0
    """Fraction of the cells whose loss, without the adversary's, says which weights are best; they are not trained on.
    They are drawn from paired and unpaired cells alike."""


PAPER = {
    "clip": None,
    "own_units": False,
    "denoise": False,
    "unit_scores": False,
    "latent_dim": 50,
    "hidden": (256, 256),
    "shared_layers": False,
    "critic_hidden": (256, 256),
    "dropout": 0.2,
    "input_dropout": 0.0,
    "posterior": "product",
    "distance": "mse",
    "unit_length": False,
    "translation": 0.0,
    "critic_noise": "posterior",
    "reconstruction": 1.0,
    "kl": 1.0,
    "cross": 0.02,
    "alignment": 0.02,
    "adversary": 0.02,
    "labels": 0.02,
    "validation": 0.1,
    "rho": 1.0,
    "batch_size": 128,
    "tempering": 1.0,
    "lone": 1.0,
    "learning_rate": 2e-3,
    "schedule": "constant",
    "min_steps": 6_000,
    "max_steps": 36_000,
    "max_lapses": 500,
}
"""Equations 1 to 15 as they stand. The paper leaves sizes, weights and schedule open; these are the published code's, but for
Adam in place of RMSprop."""


class Posterior(NamedTuple):
    """Independent normal distributions, (parts, d, cells)."""

    mean: torch.Tensor
    log_variance: torch.Tensor

    def draw(self) -> torch.Tensor:
        """A value of each."""
        return self.mean + torch.randn_like(self.mean) * (0.5 * self.log_variance).exp()

    def part(self, k: int) -> Posterior:
        """Of one sub-space."""
        return Posterior(self.mean[k : k + 1], self.log_variance[k : k + 1])


class Values(NamedTuple):
    """What a batch's cells hold in one modality: features x cells, library sizes, one-hot batches."""

    x: torch.Tensor
    library: torch.Tensor | None
    batch: torch.Tensor


class Network(nn.Module):
    """Encoders from every modality to every sub-space, a decoder from each sub-space, and the discriminator (Figure 2)."""

    decoders: Any
    likelihoods: Any
    classifier: Any

    def __init__(
        self,
        config: CLUEConfig,
        n_inputs: Sequence[int],
        likelihoods: Sequence[Likelihood],
        n_batches: Sequence[int],
        n_labels: int,
    ) -> None:
        super().__init__()
        self.K, d = len(n_inputs), config.latent_dim
        self.unit_length = config.unit_length
        self.encoders, self.decoders = nn.ModuleList(), nn.ModuleList()
        self.likelihoods = nn.ModuleList(likelihoods)
        self.members = 1 if config.shared_layers else self.K  # encoders of a modality that are computed side by side
        for n_in, likelihood, n in zip(n_inputs, likelihoods, n_batches, strict=True):
            down = (n_in, *config.hidden, 2 * d * self.K // self.members)
            self.encoders.append(MLP(self.members, down, dropout=config.dropout))
            up = (d, *config.hidden[::-1], likelihood.n_features)
            self.decoders.append(ConditionalMLP(up, n_conditions=n, dropout=config.dropout))
        self.blur = Dropout(config.input_dropout)
        self.critic = _classifier((self.K * d, *config.critic_hidden, self.K))
        self.classifier = nn.Linear(self.K * d, n_labels) if n_labels else None

    def encode(self, k: int, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log variance of q(z_j | x_k) for each j, (K, d, cells); x is (features, cells)."""
        out = self.encoders[k](self.blur(x.expand(self.members, -1, -1)))
        mean, log_variance = out.view(self.K, -1, x.shape[-1]).chunk(2, dim=1)
        return mean, log_variance.clamp(-10, 10)

    def decode(self, k: int, z: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
        """What p(x_k | z_k) is made of, (features, cells); z is (K, d, cells), batch (categories, cells)."""
        return self.decoders[k](self.scaled(z)[k : k + 1], batch)[0]

    def scaled(self, z: torch.Tensor) -> torch.Tensor:
        """The latent, all sub-spaces together, brought to the length of a standard normal one where that is asked for."""
        if not self.unit_length:
            return z
        length = z.square().sum((0, 1), keepdim=True).clamp_min(1e-12).sqrt()
        return z / length * math.sqrt(z.shape[0] * z.shape[1])


def _classifier(widths: Sequence[int]) -> nn.Sequential:
    """Hidden layers without batch normalisation; cells in rows."""
    hidden = (
        layer for a, b in pairwise(widths[:-1]) for layer in (nn.Linear(a, b), nn.LeakyReLU(0.2), nn.Dropout(0.2))
    )
    return nn.Sequential(*hidden, nn.Linear(widths[-2], widths[-1]))


class _Reversed(torch.autograd.Function):
    """The identity, whose gradient is turned round: what lowers a loss behind it raises it before."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: float) -> torch.Tensor:
        ctx.weight = weight
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return -ctx.weight * gradients[0], None


# Loss --------------------------------------------------------------------------------------------------------------


def loss_terms(
    network: Network,
    inputs: Sequence[torch.Tensor],
    values: Sequence[Values],
    links: AllLinks,
    labels: Sequence[torch.Tensor] | None = None,
    *,
    config: CLUEConfig,
    noise: float = 0.0,
) -> dict[str, torch.Tensor]:
    """Loss terms of a batch that have a weight, unweighted (Equations 9 and 12 to 14); each is a sum over modalities.

    `inputs`, (features, cells), is what the encoders read, `values` what the decoders predict. `labels` are the cells' classes,
    -1 for unknown ones. `noise` is what is left of the annealed noise, from 1 to 0.
    """
    posteriors = [Posterior(*network.encode(k, x)) for k, x in enumerate(inputs)]
    z = [posterior.draw() for posterior in posteriors]  # Equation 10
    means, paired = combine(z, links)  # Equation 11
    joint, z_joint = None, None
    if config.cross:
        joint = product(posteriors, links) if config.posterior == "product" else None
        z_joint = means if joint is None else [posterior.draw() for posterior in joint]
    own, cross = _reconstructions(network, z, z_joint, values, links, translation=config.translation)
    inferred = [p.part(k) for k, p in enumerate(posteriors)] if config.posterior == "product" else posteriors
    n_features = [len(v.x) for v in values]
    terms = {"reconstruction": own, "kl": _kl(inferred, n_features)}  # Equation 5
    if config.cross:
        terms["cross"] = cross if joint is None else cross + config.kl * _kl(joint, n_features)  # Equation 8
    if config.alignment:
        parts = zip(z, means, paired, strict=True)
        terms["alignment"] = _sum(_distance(*part, how=config.distance) for part in parts) / len(z)
    annealed = [p.mean + noise * torch.randn_like(p.mean) for p in posteriors]
    read = [u.flatten(0, 1).T for u in (z if config.critic_noise == "posterior" else annealed)]
    if config.adversary:
        terms["adversary"] = _told_apart(network, read, config.adversary)
    if labels is not None and config.labels:
        terms["labels"] = _supervision(network, torch.cat(read), torch.cat(list(labels)))
    return terms


def combine(values: Sequence[torch.Tensor], links: AllLinks) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Mean of each cell's values in the modalities that have it (Equation 11); and which cells have more than one.

    A soft link counts by its weight.
    """
    sums, weights = total(values, links)
    return [s / w for s, w in zip(sums, weights, strict=True)], [w > 1 for w in weights]


def total(values: Sequence[torch.Tensor], links: AllLinks) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Sum of each cell's values, (parts, d, cells), over its modalities, by the weights of the links; and of the weights."""
    sums, weights = list(values), [v.new_ones(v.shape[-1]) for v in values]
    for (a, b), (i, j, weight) in both_ways(links):
        sums[a] = sums[a].index_add(2, i, weight * values[b].index_select(2, j))
        weights[a] = weights[a].index_add(0, i, weight)
    return sums, weights


def product(posteriors: Sequence[Posterior], links: AllLinks) -> list[Posterior]:
    """Equation 6: the product of normal distributions, whose precisions add up and weigh their means."""
    precisions = [(-log_variance).exp() for _, log_variance in posteriors]
    precision = total(precisions, links)[0]
    mean = total([p * mean for p, (mean, _) in zip(precisions, posteriors, strict=True)], links)[0]
    return [Posterior(m / p, -p.log()) for m, p in zip(mean, precision, strict=True)]


def _reconstructions(
    network: Network,
    z: Sequence[torch.Tensor],
    joint: Sequence[torch.Tensor] | None,
    values: Sequence[Values],
    links: AllLinks,
    *,
    translation: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Expectations in Equations 5 and 8: cells decoded from their own modality; from all, and from each other one alone.

    Without joint latents only the former.
    """
    own, cross = [], [z[0].new_zeros(())]
    arrows = both_ways(links) if joint is not None and translation else []
    for k, (likelihood, target) in enumerate(zip(network.likelihoods, values, strict=True)):
        everyone = torch.arange(target.x.shape[1], device=target.x.device)
        whole = [z[k]] if joint is None else [z[k], joint[k]]
        others = [(z[a].index_select(2, i), j, weight) for (a, to), (i, j, weight) in arrows if to == k]
        cells = [everyone] * len(whole) + [j for _, j, _ in others]
        latents = torch.cat([*whole, *(latent for latent, _, _ in others)], dim=2)
        decoded = network.decode(k, latents, target.batch[:, torch.cat(cells)]).split([len(c) for c in cells], dim=1)
        nll = likelihood.nll(decoded, target.x, target.library, [None] * len(whole) + [j for _, j, _ in others])
        own.append(nll[0].mean())
        cross += [each.mean() for each in nll[1 : len(whole)]]
        for each, (_, _, weight) in zip(nll[len(whole) :], others, strict=True):
            cross.append(translation * (weight * each).sum() / weight.sum())
    return _sum(own), _sum(cross)


def _kl(posteriors: Sequence[Posterior], n_features: Sequence[int]) -> torch.Tensor:
    """Divergences from the standard normal, over the number of each modality's features, as the likelihoods are."""
    return _sum(_divergence(*p) / n for p, n in zip(posteriors, n_features, strict=True))


def _divergence(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """Sum over the latent dimensions, mean over cells."""
    return divergence(mean, log_variance).sum((0, 1)).mean()


def _distance(z: torch.Tensor, mean: torch.Tensor, paired: torch.Tensor, *, how: str) -> torch.Tensor:
    """Equation 9, mean over the cells that have several modalities: squared distance to their mean, or 1 - cosine."""
    z, mean = z.flatten(0, 1), mean.flatten(0, 1)
    distances = 1 - functional.cosine_similarity(z, mean, dim=0) if how == "cosine" else (z - mean).square().sum(0)
    return (distances * paired).sum() / paired.sum().clamp_min(1)


def _sum(terms: Iterable[torch.Tensor]) -> torch.Tensor:
    return torch.stack(list(terms)).sum()


def _told_apart(network: Network, z: Sequence[torch.Tensor], weight: float) -> torch.Tensor:
    """Minus Equation 12, mean over modalities: the discriminator lowers it, and the encoders, by `weight`, raise it."""
    logits = [network.critic(_Reversed.apply(u, weight)) for u in z]
    truth = [torch.full((len(logit),), k, device=logit.device) for k, logit in enumerate(logits)]
    return _sum(functional.cross_entropy(*both) for both in zip(logits, truth, strict=True)) / len(z)


def _supervision(network: Network, z: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the labels that are known."""
    entropy = functional.cross_entropy(network.classifier(z), labels, ignore_index=-1, reduction="sum")
    return entropy / (labels >= 0).sum().clamp_min(1)


# Cells -------------------------------------------------------------------------------------------------------------


class Target:
    """What decoders learn to predict of a modality's cells: components, or features that stay sparse until a batch needs them."""

    def __init__(self, values: Matrix, batch: NDArray[np.float32], *, counts: bool, device: torch.device) -> None:
        self._values = values if sp.issparse(values) else torch.from_numpy(values).to(device)
        self._library = torch.from_numpy(totals(values).astype(np.float32)).to(device) if counts else None
        self._batch = torch.from_numpy(batch).to(device)

    def take(self, rows: torch.Tensor) -> Values:
        """Some of the cells."""
        if sp.issparse(self._values):
            x = torch.from_numpy(self._values[rows.cpu().numpy()].toarray()).to(rows.device).T
        else:
            x = self._values[rows].T
        return Values(x, None if self._library is None else self._library[rows], self._batch[rows].T)


class CLUE(Autoencoder):
    """Cross-linked unified embedding of any number of modalities.

    Parameters
    ----------
    recipe
        `"default"` or `"paper"` (Equations 1 to 15 as they stand).
    **params
        Hyperparameters that differ from the recipe: the fields of `CLUEConfig`.
    """

    name: ClassVar[str] = "clue"
    options: ClassVar[frozenset[str]] = frozenset({"likelihood", "batch_key", "labels_key"})
    config: CLUEConfig
    config_class = CLUEConfig
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"default": {}, "paper": PAPER}
    probabilities: ClassVar[tuple[str, ...]] = (*Autoencoder.probabilities, "validation")
    network: Network

    def _check(self) -> None:
        super()._check()
        choices = {"posterior": POSTERIORS, "distance": DISTANCES, "critic_noise": NOISES}
        for name, allowed in choices.items():
            if (value := getattr(self.config, name)) not in allowed:
                msg = f"{name} is {value!r}: choose one of {list(allowed)}."
                raise ValueError(msg)

    def _prepare(self, m: Modality, reducer: Reducer | None, seed: int) -> FittedModality:
        likelihood = m.likelihood or likelihood_of(m.X)
        check_likelihood(likelihood, m.X, m.name)
        logger.info("%r has a likelihood of %r", m.name, likelihood)
        fitted = super()._prepare(replace(m, likelihood=likelihood), reducer, seed)
        library = float(np.median(totals(m.X))) if LIKELIHOODS[likelihood].counts else None
        return replace(fitted, library=library, batches=shares(m.batches))

    def _build(self) -> Network:
        likelihoods = [LIKELIHOODS[m.likelihood](m.n_output) for m in self.modalities]
        n_batches = [n_categories(m.batches) for m in self.modalities]
        return Network(self.config, [m.n_input for m in self.modalities], likelihoods, n_batches, len(self.labels))

    def _train(
        self,
        data: Sequence[Modality],
        F: Correspondence,
        inferred: Correspondence,
        *,
        rng: np.random.Generator,
        device: torch.device,
        progress: bool | None,
    ) -> History:
        """Equation 15: one step of the discriminator and of all else at once, by turning its gradient round."""
        for likelihood, m in zip(self.network.likelihoods, data, strict=True):
            likelihood.start(m.X)
        share = self.config.validation
        others = None
        if share:
            held = stratified([m.rows for m in data], F, share, rng)
            others = some_cells(data, F, held)
            data, F = some_cells(data, F, [~h for h in held])
            if (missing := self.what_is_missing(data, F)) is not None:
                msg = f"validation={share} leaves too little to train on. {missing}"
                raise ValueError(msg)
        loss, batches = self._loss(data, F, rng=rng, device=device)
        fade = BURN_IN * self._steps(batches)[0]
        validate = None
        if others is not None:
            check, checked = self._loss(*others, rng=rng, device=device)
            validate = [partial(check, 0.0)] * checked.steps_per_epoch
        return self._minimise(
            lambda step: loss(max(1 - step / fade, 0)), batches, validate=validate, device=device, progress=progress
        )

    def _loss(
        self, data: Sequence[Modality], F: Correspondence, *, rng: np.random.Generator, device: torch.device
    ) -> tuple[Callable[[float], Terms], Batches]:
        """Loss terms of the next batch of these cells, given the annealed noise; and the batches."""
        config, x = self.config, self._read(data, device)
        targets = [self._target(m, d, device) for m, d in zip(self.modalities, data, strict=True)]
        codes = [torch.from_numpy(self._codes(m)).to(device) for m in data] if self.labels else None
        batches = self._batches(data, F, rng=rng, device=device)

        def loss(noise: float) -> Terms:
            batch = batches.draw()
            terms = loss_terms(
                self.network,
                [x_k[rows].T for x_k, rows in zip(x, batch.index, strict=True)],
                [target.take(rows) for target, rows in zip(targets, batch.index, strict=True)],
                batch.links,
                codes and [code[rows] for code, rows in zip(codes, batch.index, strict=True)],
                config=config,
                noise=noise,
            )
            # the adversary is no part of the total: it must not say which weights are best
            parts = (getattr(config, name) * term for name, term in terms.items() if name != "adversary")
            terms["total"] = _sum(parts)
            return terms

        return loss, batches

    def _codes(self, m: Modality) -> NDArray[np.intp]:
        """Number of each cell's label; -1 where it is unknown."""
        number: dict[Any, int] = {label: i for i, label in enumerate(self.labels)}
        given = np.full(m.n_obs, None) if m.labels is None else m.labels
        return np.array([number.get(label, -1) for label in given], dtype=np.int64)

    def _target(self, m: FittedModality, data: Modality, device: torch.device) -> Target:
        batch = one_hot(m.batches, data.batches, data.n_obs)
        values = self._targets(m, data.X) if m.likelihood == "gaussian" else data.X
        return Target(values, batch, counts=LIKELIHOODS[m.likelihood].counts, device=device)

    # After training ------------------------------------------------------------------------------------------------

    def embed(self, latent: NDArray[np.float32]) -> NDArray[np.float32]:
        """Latents brought to the length sqrt(K d)."""
        return one_length(latent)

    def joint(self, latents: Mapping[str, tuple[NDArray[np.intp], NDArray[np.float32]]], n: int) -> NDArray[np.float32]:
        """Equation 11: the mean of what a cell's modalities say; NaN for a cell that has none."""
        return weighted_mean({name: (1.0, *of) for name, of in latents.items()}, n)

    def _decoder(self, target: str, features: NDArray[np.intp] | None) -> Decode:
        """The target's sub-space, decoded to the mean of its likelihood."""
        k, device = self._index(target), self._device
        likelihood = self.network.likelihoods[k]
        columns = slice(None) if features is None else features
        write = self._write(target, features) if likelihood.name == "gaussian" else None

        def values_of(z: torch.Tensor, given: Conditions) -> torch.Tensor:
            batch = torch.from_numpy(given.batch).to(device).T
            library = None if given.library is None else torch.from_numpy(given.library).to(device)
            out = self.network.decode(k, z, batch)
            return likelihood.mean(out, library).T[:, columns] if write is None else write(out.T)

        return values_of

    def _chunk(self, modality: str, features: NDArray[np.intp] | None) -> int:
        """Cells that are decoded at once; counts are shares of all features."""
        return super()._chunk(modality, features if self.modality(modality).likelihood == "gaussian" else None)

    def road(self, source: str, target: str | None = None, features: NDArray[np.intp] | None = None) -> nn.Module:
        """Components, the encoder of the target's sub-space to its posterior mean, the decoder of a typical cell, features.

        What stands for counts is linear in the decoder's output: their centred log-ratio, log mu less its mean over the features,
        which no library size changes; and for zeros and ones, the logit.
        """
        read, a = self._scale_features(source), self._index(source)
        if target is None:
            return Road(read, [self._encoder(a, j) for j in range(len(self.modalities))])
        if self.config.unit_length:
            msg = (
                "The latent is brought to one length before it is decoded, which no standard layer does. Train a model with "
                "params={'unit_length': False}, or explain the latent: latent=... or labels_key=...."
            )
            raise ValueError(msg)
        k = self._index(target)
        typical = torch.from_numpy(one_hot(self.modality(target).batches, {}, 1)[0])
        decoder = self.network.decoders[k].given(typical)
        likelihood = deepcopy(self.network.likelihoods[k]).cpu()
        if likelihood.name == "gaussian":
            write = self._write(target, features).cpu()
        else:
            *decoder, last = decoder
            columns = slice(None) if features is None else features
            write = affine(*(part[columns].detach() for part in likelihood.linear(last.weight, last.bias)))
        return Road(read, [nn.Sequential(*self._encoder(a, k), *decoder)], write)

    def _encoder(self, k: int, j: int) -> nn.Sequential:
        """From what is read of modality k to the posterior mean of sub-space j, as standard layers."""
        d, shared = self.config.latent_dim, self.config.shared_layers
        start = 2 * d * j if shared else 0
        return one_member(self.network.encoders[k], 0 if shared else j, slice(start, start + d))
