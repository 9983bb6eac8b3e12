"""What the papers' autoencoders share: features reduced on the way in and back on the way out, batches, optimiser, draws."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import torch
from sklearn.utils import gen_batches

from .._logging import logger
from ._base import Conditions, FittedModality, History, Model
from ._batches import Batches, mix
from ._blocks import Moments, affine
from ._reducers import Reducer, default_n_components
from ._train import Patience, resolve_device, seeded, train

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import nn

    from .._core._modalities import Modality
    from ._base import Correspondence, Matrix
    from ._train import Terms

Decode = Callable[[torch.Tensor, Conditions], torch.Tensor]
"""From latents, (parts, g, cells), and what else is known of the cells, to features, (cells, p)."""
CHUNK = 4096
"""Cells that are encoded or decoded at once."""
CHUNK_VALUES = 2**23
"""Values of features that are drawn at once: 32 MiB."""


@dataclass(frozen=True)
class AutoencoderConfig:
    """Hyperparameters that the models share."""

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
    """g, latent dimensions."""
    dropout: float = 0.3
    """Dropout of the hidden layers."""
    input_dropout: float = 0.05
    """Dropout of the components that the encoder reads."""

    # The correspondence
    rho: float = 0.0
    """Weight of F against the inferred correspondence in their mix (section 4.8 of JAMIE), for cells without a partner in F:
    at 1 they have none, at 0 their inferred partners count as much as known ones. Cells with a partner in F keep theirs."""

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
    """Steps before which training does not stop; None: two thirds of all."""
    max_lapses: int | None = None
    """Stop after so many epochs without a better loss; None never."""
    min_change: float = 0.0
    """A better loss is lower by more than this."""


class Autoencoder(Model):
    """An encoder and a decoder for each modality, which read and predict reduced features."""

    config_class: ClassVar[type[AutoencoderConfig]]
    recipes: ClassVar[dict[str, dict[str, Any]]]
    """For each recipe, the hyperparameters in which it differs from the default one."""
    at_least: ClassVar[dict[str, int]] = {
        "latent_dim": 1,
        "n_components": 1,
        "batch_size": 2,
        "max_steps": 2,
        "max_lapses": 1,
    }
    probabilities: ClassVar[tuple[str, ...]] = ("dropout", "input_dropout")
    shares: ClassVar[tuple[str, ...]] = ("rho", "lone")
    config: AutoencoderConfig
    network: Any

    def __init__(self, *, recipe: str = "default", **params: Any) -> None:
        if recipe not in self.recipes:
            msg = f"There is no recipe {recipe!r}. Choose one of {list(self.recipes)}."
            raise ValueError(msg)
        known = [field.name for field in fields(self.config_class)]
        if unknown := set(params) - set(known):
            msg = f"{type(self).__name__} has no hyperparameters {sorted(unknown)}. It has {known}."
            raise ValueError(msg)
        params = {name: tuple(value) if isinstance(value, list) else value for name, value in params.items()}
        self.config = replace(self.config_class(), **(self.recipes[recipe] | params))
        self._check()
        self.modalities, self.labels, self.history, self.calibrations = (), (), History(), {}

    def _check(self) -> None:
        for name, least in self.at_least.items():
            if (value := getattr(self.config, name)) is not None and value < least:
                msg = f"{name} is {value}: it must be at least {least}."
                raise ValueError(msg)
        for name in self.probabilities:
            if not 0 <= (value := getattr(self.config, name)) < 1:
                msg = f"{name} is {value}: it is a probability below 1."
                raise ValueError(msg)
        for name in self.shares:
            if not 0 <= (value := getattr(self.config, name)) <= 1:
                msg = f"{name} is {value}: it lies between 0 and 1."
                raise ValueError(msg)

    # Training ------------------------------------------------------------------------------------------------------

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
        """Train on modalities whose cells correspond."""
        if (msg := self.what_is_missing(data, correspondence, inferred)) is not None:
            raise ValueError(msg)
        rng, place = np.random.default_rng(seed), resolve_device(device)
        self.labels = tuple(
            sorted({label for m in data if m.labels is not None for label in m.labels if label is not None})
        )
        self.modalities = tuple(prepared or (self._prepare(m, (reducers or {}).get(m.name), seed) for m in data))
        F, F_inferred = mix(correspondence, inferred or {}, self.config.rho)
        with seeded(int(rng.integers(2**31)), place):
            self.network = self._build().to(place)
            self.history = self._train(data, F, F_inferred, rng=rng, device=place, progress=progress)
        return self

    def _prepare(self, m: Modality, reducer: Reducer | None, seed: int) -> FittedModality:
        config, clip = self.config, self.config.clip or math.inf
        k = reducer.n_components if reducer else config.n_components or default_n_components(*m.X.shape)
        options: dict[str, Any] = {"n_components": k, "clip": clip, "seed": seed}
        inputs = reducer or Reducer.fit_inputs(m.X, own_units=config.own_units, **options)
        standardized = inputs.target_sum is None and not (inputs.scale == 1).all()
        likelihood = m.likelihood or "gaussian"
        plain = (standardized and not config.denoise) or likelihood != "gaussian"  # others predict no components
        outputs = inputs if plain else Reducer.fit(m.X, denoise=config.denoise, **options)
        if inputs.target_sum is not None:
            logger.info("%r holds counts: its encoder reads log(1 + counts at equal depth)", m.name)
        n_rep = None if m.rep is None else m.rep.shape[1]
        return FittedModality(m.name, tuple(m.var_names), inputs, outputs, m.layer, m.use_rep, n_rep, likelihood)

    @abstractmethod
    def _build(self) -> nn.Module:
        """The network of `config` and `modalities`; its `encode(k, x)` gives posteriors, (parts, g, cells) each."""

    @abstractmethod
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
        """Minimise the model's loss."""

    def _read(self, data: Sequence[Modality], device: torch.device) -> list[torch.Tensor]:
        """What the encoders read of every cell."""
        return [torch.from_numpy(self.inputs(m.name, m.X, m.rep)).to(device) for m in data]

    def _batches(
        self, data: Sequence[Modality], F: Correspondence, inferred: Correspondence | None = None, **options: Any
    ) -> Batches:
        config = self.config
        how: dict[str, Any] = {"batch_size": config.batch_size, "tempering": config.tempering, "lone": config.lone}
        return Batches([m.rows for m in data], F, inferred, **how, **options)

    def _steps(self, batches: Batches) -> tuple[int, int]:
        """How many steps to take, and before which not to stop."""
        n_steps = self.config.max_steps or default_steps(batches.n_linked, batches.batch_size)
        return n_steps, self.config.min_steps or 2 * n_steps // 3

    def _minimise(
        self,
        losses: Callable[[int], Terms],
        batches: Batches,
        *,
        device: torch.device,
        validate: Sequence[Callable[[], Terms]] | None = None,
        progress: bool | None,
    ) -> History:
        config, (n_steps, min_steps) = self.config, self._steps(batches)
        logger.info("training on %s: %d steps of %d cells", device, n_steps, batches.batch_size)
        optimizer = torch.optim.Adam(self.network.parameters(), lr=config.learning_rate, fused=device.type != "mps")
        scheduler = None
        if config.schedule == "one-cycle":
            cycle = torch.optim.lr_scheduler.OneCycleLR
            scheduler = cycle(optimizer, config.learning_rate, total_steps=n_steps)
        return train(
            self.network,
            losses,
            optimizer=optimizer,
            scheduler=scheduler,
            n_steps=n_steps,
            steps_per_epoch=batches.steps_per_epoch,
            patience=Patience(min_steps, config.max_lapses, config.min_change),
            validate=validate,
            progress=progress,
        )

    def _unit(self, reducer: Reducer) -> np.float32:
        """One number that all components are divided by, so that large ones weigh more."""
        return np.float32(np.sqrt(reducer.variance.mean()) if self.config.unit_scores else 1)

    def _targets(self, m: FittedModality, X: Matrix) -> NDArray[np.float32]:
        """Components that the decoder learns to predict."""
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
        """Posterior means, (n, parts * g): the parts of the latent side by side."""
        return np.concatenate([mean.flatten(0, 1).T.cpu().numpy() for mean, _ in self._posteriors(modality, inputs)])

    @torch.inference_mode()
    def decode(
        self,
        modality: str,
        latent: NDArray[np.float32],
        features: NDArray[np.intp] | None = None,
        conditions: Conditions | None = None,
    ) -> NDArray[np.float32]:
        """Feature values of latents, a chunk of cells at a time."""
        values_of, chunk = self._decoder(modality, features), self._chunk(modality, features)
        given, g = conditions or self.conditions(modality, len(latent)), self.config.latent_dim
        values = []
        for rows in gen_batches(len(latent), chunk):
            z = torch.from_numpy(latent[rows]).to(self._device).T.unflatten(0, (-1, g))
            values.append(values_of(z, given.take(rows)).cpu().numpy())
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
        conditions: Conditions | None = None,
        n_samples: int,
        seed: int,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean and standard deviation of decoded draws from the posterior."""
        values_of, chunk = self._decoder(target, features), self._chunk(target, features)
        generator = torch.Generator(self._device).manual_seed(seed)
        given = conditions or self.conditions(target, X.shape[0])
        means, sds, start = [], [], 0
        for mean, log_variance in self._posteriors(source, self.inputs(source, X, rep)):
            n, sd = mean.shape[2], (0.5 * log_variance).exp()
            here = given.take(slice(start, start + n))
            moments = Moments()
            for draws in gen_batches(n_samples, max(1, chunk // n)):
                k = draws.stop - draws.start
                noise = (torch.randn(mean.shape, generator=generator, device=mean.device) for _ in range(k))
                z = torch.cat([mean + sd * e for e in noise], dim=2)
                moments.add(values_of(z, here.repeat(k)).unflatten(0, (-1, n)))
            means.append(moments.mean.cpu().numpy())
            sds.append(moments.sd().cpu().numpy())
            start += n
        return np.concatenate(means), np.concatenate(sds)

    @abstractmethod
    def _decoder(self, target: str, features: NDArray[np.intp] | None) -> Decode:
        """The way from latents to features of the target."""

    def _chunk(self, modality: str, features: NDArray[np.intp] | None) -> int:
        """Cells that are decoded at once."""
        width = len(self.modality(modality).var_names if features is None else features)
        return max(1, min(CHUNK, CHUNK_VALUES // max(width, 1)))

    def _write(self, target: str, features: NDArray[np.intp] | None) -> nn.Linear:
        """The way back from components that the decoder predicts to features."""
        m = self.modality(target)
        columns = slice(None) if features is None else features
        loadings = (m.outputs.components[:, columns] * m.outputs.scale[columns]).T * self._unit(m.outputs)
        return affine(loadings, m.outputs.mean[columns]).to(self._device)

    def _scale_features(self, source: str) -> nn.Linear:
        """Scaled features to what the encoder reads, as a layer."""
        axes = self.axes(source)
        return affine(axes, -axes @ self.modality(source).inputs.average)

    @torch.inference_mode()
    def _posteriors(self, modality: str, inputs: NDArray[np.float32]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Posterior means and log variances, (parts, g, cells), a chunk of cells at a time."""
        k = self._index(modality)
        for rows in gen_batches(len(inputs), CHUNK):
            yield self.network.encode(k, torch.from_numpy(inputs[rows]).to(self._device).T)

    def _index(self, modality: str) -> int:
        return self.modalities.index(self.modality(modality))

    @property
    def _device(self) -> torch.device:
        return next(self.network.parameters()).device

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


def weighted_mean(
    latents: Mapping[str, tuple[Any, NDArray[np.intp], NDArray[np.float32]]], n: int
) -> NDArray[np.float32]:
    """Weighted mean of latents that some of n cells have: weights, rows, latents; NaN for a cell that has none."""
    g = next(iter(latents.values()))[2].shape[1]
    total, weight = np.zeros((n, g), dtype=np.float32), np.zeros((n, g), dtype=np.float32)
    for weights, rows, values in latents.values():
        total[rows] += weights * values
        weight[rows] += weights
    return np.divide(total, weight, out=np.full_like(total, np.nan), where=weight > 0)


def one_length(latent: NDArray[np.float32], parts: int = 1) -> NDArray[np.float32]:
    """Each part of each latent brought to the length that a standard normal one has, the root of its dimensions."""
    split = latent.reshape(len(latent), parts, -1)
    length = np.linalg.norm(split, axis=2, keepdims=True) / math.sqrt(split.shape[2])
    return (split / np.where(length > 0, length, 1)).reshape(latent.shape).astype(np.float32, copy=False)
