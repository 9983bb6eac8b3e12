"""JAMIE: joint variational autoencoders (Cohen Kalafut, Huang and Wang 2023). Equation numbers are the paper's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from ._autoencoder import Autoencoder, AutoencoderConfig, one_length, weighted_mean
from ._batches import Links, both_ways
from ._blocks import MLP, Dropout, Road, divergence, one_member

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from .._core._modalities import Modality
    from ._autoencoder import Decode
    from ._base import Correspondence, History


@dataclass(frozen=True)
class JAMIEConfig(AutoencoderConfig):
    """Hyperparameters of JAMIE; the values here are the default recipe, chosen on validation cells."""

    members: int = 1
    """Networks trained side by side, of `latent_dim` each; their latents are joined, their predictions averaged."""
    hidden: tuple[int, ...] | None = (192, 96)
    """Widths of the encoder's hidden layers, reversed in the decoder; None: the paper's 2d, d, g (section 4.1)."""

    # Weights of the loss terms (Equation 1); the ratio of KL and reconstruction is the paper's
    kl: float = 0.032
    """Equation 4, where it is multiplied by kappa, which goes from 0 to 1 over `min_steps`."""
    combination: float = 12.0
    """Equation 6, alpha."""
    reconstruction: float = 1.0
    """Equation 7, beta."""
    cross: float = 2.0
    """Reconstruction of a paired cell's other modality from this modality's own latent: what imputation does."""
    contrast: float = 3.0
    """Cross-entropy of telling a paired cell's partner from the other cells of the batch."""
    temperature: float = 0.12
    """What cosines are divided by in the contrast: the lower, the more the nearest cells matter."""
    alignment: float = 0.0
    """Equation 9, gamma, where a correspondence was inferred."""
    unit_columns: bool = False
    """Scale the columns of a batch's F to the sum 1 (Algorithm 1, line 11); else columns and rows, and to less where all of F
    has less, so that a value below 1 stays a confidence."""


PAPER = {
    "n_components": 512,
    "clip": None,
    "hidden": None,
    "dropout": 0.0,
    "input_dropout": 0.0,
    "batch_size": 512,
    "tempering": 1.0,
    "lone": 1.0,
    "min_steps": 2_500,
    "max_steps": 10_000,
    "max_lapses": 500,
    "min_change": 1e-8,
    "learning_rate": 1e-3,
    "schedule": "constant",
    "kl": 1.0,
    "combination": 1000.0,
    "reconstruction": 31.25,
    "cross": 0.0,
    "contrast": 0.0,
    "denoise": False,
    "unit_scores": False,
    "own_units": False,
    "alignment": 31.25,
    "rho": 1.0,
    "unit_columns": True,
}
"""Section 4.8 and 4.10; the paper leaves optimiser and learning rate open (Adam, 1e-3)."""


class Network(nn.Module):
    """An encoder and a decoder for each modality, and the weights by which latents are aggregated."""

    def __init__(self, config: JAMIEConfig, n_inputs: Sequence[int], n_outputs: Sequence[int]) -> None:
        super().__init__()
        g, members, dropout = config.latent_dim, config.members, config.dropout
        self.members = members
        self.encoders, self.decoders = nn.ModuleList(), nn.ModuleList()
        for n_in, n_out in zip(n_inputs, n_outputs, strict=True):
            down = config.hidden or (2 * n_in, n_in, g)
            up = config.hidden[::-1] if config.hidden else (n_out, 2 * n_out)
            self.encoders.append(MLP(members, (n_in, *down, 2 * g), dropout=dropout))
            self.decoders.append(MLP(members, (g, *up, n_out), dropout=dropout))
        self.blur = Dropout(config.input_dropout)
        self.log_weight = nn.Parameter(torch.zeros(len(n_inputs)))

    def encode(self, k: int, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and log variance of the posterior (Equation 2); x is (features, cells)."""
        mean, log_variance = self.encoders[k](self.blur(x.expand(self.members, -1, -1))).chunk(2, dim=1)
        return mean, log_variance.clamp(-10, 10)

    def delta(self, a: int, b: int) -> torch.Tensor:
        """Weight of modality b relative to a in the aggregation of a."""
        return (self.log_weight[b] - self.log_weight[a]).exp()

    def aggregate(self, latents: Sequence[torch.Tensor], links: Mapping[tuple[int, int], Links]) -> list[torch.Tensor]:
        """M^a = (L^a + sum_b delta_ab F^ab L^b) / (1 + sum_b delta_ab F^ab 1) (Equation 3, any number of modalities)."""
        sums = list(latents)
        totals = [L.new_ones(L.shape[-1]) for L in latents]
        for (a, b), (i, j, weight) in both_ways(links):
            weight = self.delta(a, b) * weight
            sums[a] = sums[a].index_add(2, i, weight * latents[b][:, :, j])
            totals[a] = totals[a].index_add(0, i, weight)
        return [s / total for s, total in zip(sums, totals, strict=True)]


def loss_terms(
    network: Network,
    x: Sequence[torch.Tensor],
    y: Sequence[torch.Tensor],
    links: Mapping[tuple[int, int], Links],
    inferred: Mapping[tuple[int, int], Links] | None = None,
    *,
    n_features: Sequence[int],
    config: JAMIEConfig,
) -> dict[str, torch.Tensor]:
    """Loss terms of a batch that have a weight, unweighted; inputs x and targets y of each modality are (features, cells)."""
    posteriors = [network.encode(k, x_k) for k, x_k in enumerate(x)]
    latents = [mean + torch.randn_like(mean) * (0.5 * log_variance).exp() for mean, log_variance in posteriors]
    aggregates = network.aggregate(latents, links)
    pairs = zip(latents, aggregates, strict=True)
    crossed = links if config.cross else {}
    own, cross = _reconstructions(network, latents, aggregates, y, crossed, n_features)
    terms = {
        "kl": _sum(_kl(mean, log_variance) for mean, log_variance in posteriors),
        "combination": _sum((L - M).square().mean() for L, M in pairs),  # Equation 6
        "reconstruction": own,
    }
    if config.cross:
        terms["cross"] = cross
    if config.contrast:
        u = [F.normalize(mean, dim=1) for mean, _ in posteriors]
        terms["contrast"] = _sum(_contrast(u[a], u[b], link, config.temperature) for (a, b), link in links.items())
    if config.alignment and inferred:
        terms["alignment"] = _sum(_alignment(aggregates[a], aggregates[b], F) for (a, b), F in inferred.items())
    return terms


def _kl(mean: torch.Tensor, log_variance: torch.Tensor) -> torch.Tensor:
    """Equations 4 and 5: divergence from the standard normal, mean over cells and latent dimensions."""
    return divergence(mean, log_variance).mean()


def _alignment(a: torch.Tensor, b: torch.Tensor, inferred: Links) -> torch.Tensor:
    """Equation 9 for F~^ab: squared distance of a's aggregates to the mean of those in b that they are inferred to match.

    The paper has it for a = X, b = Y. Cells that have no match in the batch are left out.
    """
    i, j, weight = inferred
    matches = torch.zeros_like(a).index_add(2, i, weight * b[:, :, j])
    cells = i.unique()
    return (a - matches)[:, :, cells].square().mean()


def _reconstructions(
    network: Network,
    latents: Sequence[torch.Tensor],
    aggregates: Sequence[torch.Tensor],
    y: Sequence[torch.Tensor],
    links: Mapping[tuple[int, int], Links],
    n_features: Sequence[int],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Equation 7, decoding the aggregates; and the same decoding, for paired cells, the other modality's own latent."""
    own, cross = [], []
    for b, decoder in enumerate(network.decoders):
        arrows = [(latents[a][:, :, i], y[b][:, j], w) for (a, to), (i, j, w) in both_ways(links) if to == b]
        sizes = [aggregates[b].shape[2], *(L.shape[2] for L, _, _ in arrows)]
        decoded = decoder(torch.cat([aggregates[b], *(L for L, _, _ in arrows)], dim=2)).split(sizes, dim=2)
        own.append((decoded[0] - y[b]).square().sum(1).mean() / n_features[b])
        for out, (_, target, weight) in zip(decoded[1:], arrows, strict=True):
            error = (out - target).square().sum(1).mean(0) / n_features[b]
            cross.append((weight * error).sum() / weight.sum())
    return _sum(own), _sum(cross)


def _contrast(a: torch.Tensor, b: torch.Tensor, link: Links, temperature: float) -> torch.Tensor:
    """Cross-entropy of telling a cell's partner from the batch's other cells, both ways round; columns have length 1.

    A link counts by its weight times the largest weights of its two cells: a cell whose match is spread over many cells of
    the batch is not to be told from them.
    """
    similarity = a.transpose(1, 2) @ b / temperature
    exponential = similarity.exp()  # no overflow: a cosine is at most 1
    log_sums = exponential.sum(2).log()[:, link.i] + exponential.sum(1).log()[:, link.j]
    entropy = 0.5 * log_sums - similarity[:, link.i, link.j]
    sharpness = (_largest(link.i, link.weight, a.shape[2]) * _largest(link.j, link.weight, b.shape[2])).sqrt()
    return (link.weight * sharpness * entropy).mean(0).sum() / link.weight.sum()


def _largest(cell: torch.Tensor, weight: torch.Tensor, n: int) -> torch.Tensor:
    """For each link, the largest weight of the links that its cell has."""
    return weight.new_zeros(n).scatter_reduce(0, cell, weight, "amax")[cell]


def _sum(terms: Iterable[torch.Tensor]) -> torch.Tensor:
    return sum(terms, start=torch.zeros(()))


class JAMIE(Autoencoder):
    """Joint variational autoencoders for multimodal imputation and embedding.

    Parameters
    ----------
    recipe
        `"default"` or `"paper"` (Algorithm 1).
    **params
        Hyperparameters that differ from the recipe: the fields of `JAMIEConfig`.
    """

    name: ClassVar[str] = "jamie"
    config: JAMIEConfig
    config_class = JAMIEConfig
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"default": {}, "paper": PAPER}
    at_least: ClassVar[dict[str, int]] = Autoencoder.at_least | {"members": 1}
    network: Network

    def _build(self) -> Network:
        n_outputs = [m.outputs.n_components for m in self.modalities]
        return Network(self.config, [m.n_input for m in self.modalities], n_outputs)

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
        """Algorithm 1."""
        config, x = self.config, self._read(data, device)
        targets = zip(self.modalities, data, strict=True)
        y = [torch.from_numpy(self._targets(m, d.X)).to(device) for m, d in targets]
        used = inferred if config.alignment else {}
        batches = self._batches(data, F, used, unit_columns=config.unit_columns, rng=rng, device=device)
        n_features = [m.outputs.n_components if config.unit_scores else len(m.var_names) for m in self.modalities]
        min_steps = self._steps(batches)[1]

        def losses(step: int) -> dict[str, torch.Tensor]:
            batch = batches.draw()
            terms = loss_terms(
                self.network,
                [x_k[rows].T for x_k, rows in zip(x, batch.index, strict=True)],
                [y_k[rows].T for y_k, rows in zip(y, batch.index, strict=True)],
                batch.links,
                batch.inferred,
                n_features=n_features,
                config=config,
            )
            kappa = annealing(step, min_steps)
            weights = {"kl": kappa * config.kl} | {term: getattr(config, term) for term in terms if term != "kl"}
            terms["total"] = _sum(weights[name] * term for name, term in terms.items())  # Equation 1
            return terms | {"kappa": torch.tensor(kappa)}

        return self._minimise(losses, batches, device=device, progress=progress)

    # After training ------------------------------------------------------------------------------------------------

    def embed(self, latent: NDArray[np.float32]) -> NDArray[np.float32]:
        """Each member's latent brought to the length sqrt(g), where the recipe contrasts directions; else as it is."""
        if not self.config.contrast:
            return latent
        return one_length(latent, parts=self.config.members)

    def _decoder(self, target: str, features: NDArray[np.intp] | None) -> Decode:
        """The average of the members' predictions, led back to features."""
        decoder, write = self.network.decoders[self._index(target)], self._write(target, features)
        return lambda z, _: write(decoder(z).mean(0).T)

    def joint(self, latents: Mapping[str, tuple[NDArray[np.intp], NDArray[np.float32]]], n: int) -> NDArray[np.float32]:
        """Equation 3 for one cell: its modalities' latents, weighted by exp(w); NaN for a cell that has none."""
        weights = self.network.log_weight.detach().exp().cpu().numpy()
        return weighted_mean({k: (weights[self._index(k)], *of) for k, of in latents.items()}, n)

    def road(self, source: str, target: str | None = None, features: NDArray[np.intp] | None = None) -> nn.Module:
        """Components, each member's encoder to its posterior mean, its decoder, and back to features."""
        read, encoder = self._scale_features(source), self.network.encoders[self._index(source)]
        members, g = range(self.config.members), self.config.latent_dim
        encoders = [one_member(encoder, i, slice(g)) for i in members]  # the mean comes first
        if target is None:
            return Road(read, encoders)
        decoders = [one_member(self.network.decoders[self._index(target)], i) for i in members]
        both = [nn.Sequential(*encoder, *decoder) for encoder, decoder in zip(encoders, decoders, strict=True)]
        return Road(read, both, self._write(target, features).cpu())


def annealing(step: int, min_steps: int) -> float:
    """Kappa, from 0 to 1 over the minimal number of steps (Algorithm 1, line 17)."""
    half = 0.5 * min_steps
    return 1 / (1 + math.exp(-5 * (step - half) / half))
