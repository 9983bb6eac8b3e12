"""JAMIE: joint variational autoencoders (Cohen Kalafut, Huang and Wang 2023). Equation numbers are the paper's."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.utils import gen_batches
from torch import nn
from torch.nn import functional as F

from .._core._pairing import rows_to_one
from .._logging import logger
from ._base import FittedModality, History, Model
from ._batches import Batches, Links
from ._blocks import MLP, Dropout, Moments, Road, affine, one_member
from ._reducers import Reducer, default_n_components
from ._train import Patience, resolve_device, seeded, train

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from .._core._modalities import Modality
    from ._base import Correspondence, Matrix


CHUNK = 4096
"""Cells that are encoded or decoded at once."""
CHUNK_VALUES = 2**23
"""Values of features that are drawn at once: 32 MiB."""


@dataclass(frozen=True)
class JAMIEConfig:
    """Hyperparameters of JAMIE; the values here are the default recipe, chosen on validation cells."""

    # What the networks read and predict
    n_components: int | None = None
    """Principal components of each modality; None: one for every ten cells, 32 to 96."""
    clip: float | None = 5.0
    """Standard deviations from the mean at which a feature's values are clipped; None never."""
    own_units: bool = True
    """Where a modality's features share a unit (expression, peaks: non-negative, many zeros) its encoder reads them
    without scaling each to the same spread, and counts as log(1 + counts at equal depth). The decoder predicts
    standardised features all the same."""
    denoise: bool = True
    """Shrink the components that the decoder learns from by the noise in them, so that it does not learn that."""
    unit_scores: bool = True
    """Divide components by one common number, so that they are of order 1 and large ones weigh more."""

    # Networks
    latent_dim: int = 32
    """g, latent dimensions of a member."""
    members: int = 1
    """Networks trained side by side; their latents are joined, their predictions averaged."""
    hidden: tuple[int, ...] | None = (192, 96)
    """Widths of the encoder's hidden layers, reversed in the decoder; None: the paper's 2d, d, g (section 4.1)."""
    dropout: float = 0.3
    """Dropout of the hidden layers."""
    input_dropout: float = 0.05
    """Dropout of the components that the encoder reads."""

    # Weights of the loss terms (Equation 1); the ratio of KL and reconstruction is the paper's
    kl: float = 0.032
    """Equation 4, where it is multiplied by kappa."""
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

    # The correspondence
    rho: float = 0.0
    """Weight of F against the inferred correspondence in their mix (section 4.8), for cells without a partner in F: at 1
    they have none, at 0 their inferred partners count as much as known ones. Cells with a partner in F keep theirs."""
    unit_columns: bool = False
    """Scale the columns of a batch's F to the sum 1 (Algorithm 1, line 11); else columns and rows, and to less where all of F
    has less, so that a value below 1 stays a confidence."""

    # Training
    batch_size: int = 192
    """Cells in a batch."""
    tempering: float = 0.5
    """Power of a group's size that its share of the batch grows with; groups are cells with the same modalities that
    all, or none, correspond to others."""
    lone: float = 0.1
    """Largest share of the batch for cells that correspond to no other."""
    learning_rate: float = 3e-3
    """Adam's, at its peak."""
    schedule: Literal["one-cycle", "constant"] = "one-cycle"
    """Of the learning rate."""
    max_steps: int | None = None
    """Optimiser steps; None: 600 at 1,000 cells that correspond to others, growing with the square root of their number."""
    min_steps: int | None = None
    """Steps over which kappa goes from 0 to 1, and before which training does not stop; None: two thirds of all."""
    max_lapses: int | None = None
    """Stop after so many epochs without a better loss; None never."""
    min_change: float = 0.0
    """A better loss is lower by more than this."""


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
        for (a, b), (i, j, weight) in _both_ways(links):
            weight = self.delta(a, b) * weight
            sums[a] = sums[a].index_add(2, i, weight * latents[b][:, :, j])
            totals[a] = totals[a].index_add(0, i, weight)
        return [s / total for s, total in zip(sums, totals, strict=True)]


def _both_ways(links: Mapping[tuple[int, int], Links]) -> list[tuple[tuple[int, int], Links]]:
    """F^ab and its transpose F^ba."""
    return [*links.items(), *(((b, a), Links(link.j, link.i, link.weight)) for (a, b), link in links.items())]


def mix(known: Correspondence, inferred: Correspondence, rho: float) -> tuple[Correspondence, Correspondence]:
    """F^ab <- rho F^ab + (1 - rho) F~^ab (Algorithm 1, line 3) for a < b; and F~^ab both for a < b and for b < a.

    F~ is clamped to F in the rows of cells that have a partner there: what is known needs no inference. Its rows sum to 1, so
    F~^ab and F~^ba are two matrices; the mix takes the mean of the one and of the other transposed.
    """
    turned = {(b, a): rows_to_one(F.T) for (a, b), F in inferred.items()}
    both = known | {(b, a): sp.csr_matrix(F.T) for (a, b), F in known.items()}
    clamped = {ab: _clamp(F, both[ab]) for ab, F in (turned | inferred).items()}
    mixed = {
        (a, b): sp.csr_matrix(rho * known[a, b] + (1 - rho) * 0.5 * (F + clamped[b, a].T))
        for (a, b), F in clamped.items()
        if a < b
    }
    return known | mixed, clamped


def _clamp(inferred: sp.csr_matrix, known: sp.csr_matrix) -> sp.csr_matrix:
    """The inferred correspondence, but F in those rows where it has any."""
    unknown = (np.diff(known.indptr) == 0).astype(np.float32)
    return sp.csr_matrix(known + sp.diags(unknown) @ inferred)


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
    return -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).mean()


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
        arrows = [(latents[a][:, :, i], y[b][:, j], w) for (a, to), (i, j, w) in _both_ways(links) if to == b]
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


class JAMIE(Model):
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

    def __init__(self, *, recipe: str = "default", **params: Any) -> None:
        recipes: dict[str, dict[str, Any]] = {"default": {}, "paper": PAPER}
        if recipe not in recipes:
            msg = f"There is no recipe {recipe!r}. Choose one of {list(recipes)}."
            raise ValueError(msg)
        known = [field.name for field in fields(JAMIEConfig)]
        if unknown := set(params) - set(known):
            msg = f"JAMIE has no hyperparameters {sorted(unknown)}. It has {known}."
            raise ValueError(msg)
        if params.get("hidden") is not None:
            params["hidden"] = tuple(params["hidden"])
        self.config = replace(JAMIEConfig(), **(recipes[recipe] | params))
        self._check()
        self.modalities, self.history, self.calibrations = (), History(), {}

    def _check(self) -> None:
        at_least = {
            "latent_dim": 1,
            "members": 1,
            "n_components": 1,
            "batch_size": 2,
            "max_steps": 2,
            "max_lapses": 1,
        }
        for name, least in at_least.items():
            if (value := getattr(self.config, name)) is not None and value < least:
                msg = f"{name} is {value}: it must be at least {least}."
                raise ValueError(msg)
        for name in ("dropout", "input_dropout"):
            if not 0 <= (value := getattr(self.config, name)) < 1:
                msg = f"{name} is {value}: it is a probability below 1."
                raise ValueError(msg)
        for name in ("rho", "lone"):
            if not 0 <= (value := getattr(self.config, name)) <= 1:
                msg = f"{name} is {value}: it lies between 0 and 1."
                raise ValueError(msg)

    def fit(
        self,
        data: Sequence[Modality],
        correspondence: Correspondence,
        *,
        inferred: Correspondence | None = None,
        reducers: Mapping[str, Reducer] | None = None,
        prepared: Sequence[FittedModality] | None = None,
        seed: int = 0,
        device: str = "auto",
        progress: bool | None = None,
    ) -> Self:
        """Train (Algorithm 1)."""
        if (msg := self.what_is_missing(data, correspondence, inferred)) is not None:
            raise ValueError(msg)
        config, rng = self.config, np.random.default_rng(seed)
        self.modalities = tuple(prepared or (self._prepare(m, (reducers or {}).get(m.name), seed) for m in data))
        place = resolve_device(device)
        x = [torch.from_numpy(self.inputs(d.name, d.X, d.rep)).to(place) for d in data]
        y = [torch.from_numpy(self._targets(m, d.X)).to(place) for m, d in zip(self.modalities, data, strict=True)]
        F, F_inferred = mix(correspondence, inferred or {}, config.rho)
        batches = Batches(
            [m.rows for m in data],
            F,
            F_inferred if config.alignment else {},
            batch_size=config.batch_size,
            tempering=config.tempering,
            lone=config.lone,
            unit_columns=config.unit_columns,
            rng=rng,
            device=place,
        )
        with seeded(int(rng.integers(2**31)), place):
            self.network = self._build().to(place)
            self.history = self._train(x, y, batches, progress)
        return self

    def _prepare(self, m: Modality, reducer: Reducer | None, seed: int) -> FittedModality:
        config, clip = self.config, self.config.clip or math.inf
        k = reducer.n_components if reducer else config.n_components or default_n_components(*m.X.shape)
        options: dict[str, Any] = {"n_components": k, "clip": clip, "seed": seed}
        inputs = reducer or Reducer.fit_inputs(m.X, own_units=config.own_units, **options)
        standardized = inputs.target_sum is None and not (inputs.scale == 1).all()
        plain = standardized and not config.denoise
        outputs = inputs if plain else Reducer.fit(m.X, denoise=config.denoise, **options)
        if inputs.target_sum is not None:
            logger.info("%r holds counts: its encoder reads log(1 + counts at equal depth)", m.name)
        n_rep = None if m.rep is None else m.rep.shape[1]
        return FittedModality(m.name, tuple(m.var_names), inputs, outputs, m.layer, m.use_rep, n_rep)

    def _build(self) -> Network:
        n_outputs = [m.outputs.n_components for m in self.modalities]
        return Network(self.config, [m.n_input for m in self.modalities], n_outputs)

    def _train(self, x: list[torch.Tensor], y: list[torch.Tensor], batches: Batches, progress: bool | None) -> History:  # noqa: FBT001
        config = self.config
        n_steps = config.max_steps or default_steps(batches.n_linked, batches.batch_size)
        min_steps = config.min_steps or 2 * n_steps // 3
        logger.info("training on %s: %d steps of %d cells", x[0].device, n_steps, batches.batch_size)
        optimizer = torch.optim.Adam(
            self.network.parameters(), lr=config.learning_rate, fused=x[0].device.type != "mps"
        )
        scheduler = None
        if config.schedule == "one-cycle":
            cycle = torch.optim.lr_scheduler.OneCycleLR
            scheduler = cycle(optimizer, config.learning_rate, total_steps=n_steps)
        n_features = [m.outputs.n_components if config.unit_scores else len(m.var_names) for m in self.modalities]

        def losses(step: int) -> dict[str, torch.Tensor]:
            batch = batches.draw()
            inputs = [x_k[rows].T for x_k, rows in zip(x, batch.index, strict=True)]
            targets = [y_k[rows].T for y_k, rows in zip(y, batch.index, strict=True)]
            terms = loss_terms(
                self.network, inputs, targets, batch.links, batch.inferred, n_features=n_features, config=config
            )
            kappa = annealing(step, min_steps)
            weights = {"kl": kappa * config.kl} | {term: getattr(config, term) for term in terms if term != "kl"}
            terms["total"] = _sum(weights[name] * term for name, term in terms.items())  # Equation 1
            return terms | {"kappa": torch.tensor(kappa)}

        return train(
            self.network,
            losses,
            optimizer=optimizer,
            scheduler=scheduler,
            n_steps=n_steps,
            steps_per_epoch=batches.steps_per_epoch,
            patience=Patience(min_steps, config.max_lapses, config.min_change),
            progress=progress,
        )

    def _unit(self, reducer: Reducer) -> np.float32:
        """One number that all components are divided by, so that large ones weigh more."""
        return np.float32(np.sqrt(reducer.variance.mean()) if self.config.unit_scores else 1)

    def _targets(self, m: FittedModality, X: Matrix) -> NDArray[np.float32]:
        return m.outputs.transform(X) / self._unit(m.outputs)

    # After training ------------------------------------------------------------------------------------------------

    def inputs(self, modality: str, X: Matrix, rep: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Components of each cell, or its `use_rep`, a chunk of cells at a time."""
        if rep is not None:
            return rep
        m = self.modality(modality)
        chunks = [m.inputs.transform(X[rows]) / self._unit(m.inputs) for rows in gen_batches(X.shape[0], CHUNK)]
        return np.concatenate(chunks)

    def axes(self, modality: str) -> NDArray[np.float32]:
        """Loadings of the components that the encoder reads."""
        m = self.modality(modality)
        if m.n_rep is not None:
            msg = (
                f"The encoder of {modality!r} reads obsm[{m.use_rep!r}], which it cannot lead back to features. Train a model "
                "without use_rep for this modality."
            )
            raise ValueError(msg)
        return m.inputs.axes / self._unit(m.inputs)

    def encode_inputs(self, modality: str, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Posterior means, (n, members * g): the members' latents side by side."""
        return np.concatenate([mean.flatten(0, 1).T.cpu().numpy() for mean, _ in self._posteriors(modality, inputs)])

    def embed(self, latent: NDArray[np.float32]) -> NDArray[np.float32]:
        """Each member's latent brought to the length sqrt(g), where the recipe contrasts directions; else as it is."""
        if not self.config.contrast:
            return latent
        members = latent.reshape(len(latent), self.config.members, -1)
        length = np.linalg.norm(members, axis=2, keepdims=True) / math.sqrt(self.config.latent_dim)
        return (members / np.where(length > 0, length, 1)).reshape(latent.shape).astype(np.float32, copy=False)

    @torch.inference_mode()
    def decode(
        self, modality: str, latent: NDArray[np.float32], features: NDArray[np.intp] | None = None
    ) -> NDArray[np.float32]:
        """Feature values of latents, the average of the members."""
        m, k = self._find(modality)
        columns = slice(None) if features is None else features
        values = []
        for rows in gen_batches(len(latent), CHUNK):
            z = torch.from_numpy(latent[rows]).to(self._device).T.unflatten(0, (self.config.members, -1))
            scores = self.network.decoders[k](z).mean(0).T.cpu().numpy() * self._unit(m.outputs)
            values.append(m.outputs.inverse(scores, columns))
        return np.concatenate(values)

    @torch.inference_mode()
    def sample(
        self,
        source: str,
        target: str,
        X: Matrix,
        rep: NDArray[np.float32] | None = None,
        *,
        features: NDArray[np.intp] | None = None,
        n_samples: int,
        seed: int,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean and standard deviation of decoded draws from the posterior (Equation 2)."""
        write, k = self._write(target, features), self._find(target)[1]
        generator = torch.Generator(self._device).manual_seed(seed)
        means, sds = [], []
        for mean, log_variance in self._posteriors(source, self.inputs(source, X, rep)):
            n, sd = mean.shape[2], (0.5 * log_variance).exp()
            moments = Moments()
            for draws in gen_batches(n_samples, max(1, min(CHUNK // n, CHUNK_VALUES // (n * write.out_features)))):
                noise = (
                    torch.randn(mean.shape, generator=generator, device=mean.device)
                    for _ in range(draws.stop - draws.start)
                )
                z = torch.cat([mean + sd * e for e in noise], dim=2)
                moments.add(write(self.network.decoders[k](z).mean(0).T).unflatten(0, (-1, n)))
            means.append(moments.mean.cpu().numpy())
            sds.append(moments.sd().cpu().numpy())
        return np.concatenate(means), np.concatenate(sds)

    def _write(self, target: str, features: NDArray[np.intp] | None) -> nn.Linear:
        """The way back from what the decoder predicts to features."""
        m = self.modality(target)
        columns = slice(None) if features is None else features
        loadings = (m.outputs.components[:, columns] * m.outputs.scale[columns]).T * self._unit(m.outputs)
        return affine(loadings, m.outputs.mean[columns]).to(self._device)

    def joint(self, latents: Mapping[str, tuple[NDArray[np.intp], NDArray[np.float32]]], n: int) -> NDArray[np.float32]:
        """Equation 3 for one cell: its modalities' latents, weighted by exp(w); NaN for a cell that has none."""
        weights = self.network.log_weight.detach().exp().cpu().numpy()
        g = next(iter(latents.values()))[1].shape[1]
        total, weight = np.zeros((n, g), dtype=np.float32), np.zeros((n, 1), dtype=np.float32)
        for name, (rows, values) in latents.items():
            total[rows] += weights[self._find(name)[1]] * values
            weight[rows] += weights[self._find(name)[1]]
        return np.divide(total, weight, out=np.full_like(total, np.nan), where=weight > 0)

    def road(self, source: str, target: str | None = None, features: NDArray[np.intp] | None = None) -> nn.Module:
        """Components, each member's encoder to its posterior mean, its decoder, and back to features."""
        m, a = self._find(source)
        axes = self.axes(source)
        read = affine(axes, -axes @ m.inputs.average)
        members, g = range(self.config.members), self.config.latent_dim
        encoders = [one_member(self.network.encoders[a], i, n_out=g) for i in members]  # the mean comes first
        if target is None:
            return Road(read, encoders)
        b = self._find(target)[1]
        decoders = [one_member(self.network.decoders[b], i) for i in members]
        both = [nn.Sequential(*encoder, *decoder) for encoder, decoder in zip(encoders, decoders, strict=True)]
        return Road(read, both, self._write(target, features).cpu())

    @torch.inference_mode()
    def _posteriors(self, modality: str, inputs: NDArray[np.float32]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Posterior means and log variances, (members, g, cells), a chunk of cells at a time."""
        _, k = self._find(modality)
        for rows in gen_batches(len(inputs), CHUNK):
            yield self.network.encode(k, torch.from_numpy(inputs[rows]).to(self._device).T)

    def _find(self, modality: str) -> tuple[FittedModality, int]:
        m = self.modality(modality)
        return m, self.modalities.index(m)

    @property
    def _device(self) -> torch.device:
        return self.network.log_weight.device

    # As data -------------------------------------------------------------------------------------------------------

    def weights(self) -> dict[str, NDArray]:
        """Every tensor of the network."""
        return {name: value.cpu().numpy() for name, value in self.network.state_dict().items()}

    def load_weights(self, weights: Mapping[str, NDArray]) -> None:
        """Build the network and fill it; on the CPU."""
        with torch.device("meta"):  # no time for random weights
            network = self._build()
        self.network = network.to_empty(device="cpu")
        self.network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in weights.items()})
        self.network.eval()


def default_steps(n_cells: int, batch_size: int) -> int:
    """Optimiser steps: 600 at 1,000 cells, growing with the square root, and five epochs at least."""
    return max(250, round(600 * math.sqrt(n_cells / 1000)), math.ceil(5 * n_cells / batch_size))


def annealing(step: int, min_steps: int) -> float:
    """Kappa, from 0 to 1 over the minimal number of steps (Algorithm 1, line 17)."""
    half = 0.5 * min_steps
    return 1 / (1 + math.exp(-5 * (step - half) / half))
