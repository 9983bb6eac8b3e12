"""What every model can do: fit, encode, decode, impute, and turn into plain data and back."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from safetensors.numpy import load_file, save_file

from ._calibration import Calibration
from ._covariates import one_hot
from ._reducers import Reducer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import scipy.sparse as sp
    from numpy.typing import NDArray
    from torch import nn

    from .._core._modalities import Modality

    Matrix = NDArray[np.float32] | sp.csr_matrix
    Correspondence = dict[tuple[int, int], sp.csr_matrix]

FORMAT_VERSION = 2
MIN_CELLS = 10
"""Fewer cells of a modality, or fewer pairs, are no batch to train on."""


@dataclass(frozen=True, eq=False)
class FittedModality:
    """What the model keeps of a modality: enough to read new cells of it, and to write imputed ones."""

    name: str
    var_names: tuple[str, ...]
    inputs: Reducer
    """What the encoder reads: features, reduced."""
    outputs: Reducer
    """What the decoder predicts: features standardised, reduced, without the noise."""
    layer: str | None = None
    use_rep: str | None = None
    n_rep: int | None = None
    """Width of `use_rep`; None where the encoder reads the reduced features."""
    likelihood: str = "gaussian"
    """Of the target's values given the latent."""
    library: float | None = None
    """Median total of the cells trained on, where the likelihood is one of counts."""

    batches: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """For each key of a batch, its categories and how often each occurs among the cells trained on."""

    @property
    def n_output(self) -> int:
        """Width of what the decoder predicts: components, or the features themselves."""
        return self.outputs.n_components if self.likelihood == "gaussian" else len(self.var_names)

    @property
    def n_input(self) -> int:
        """Width of what the encoder reads."""
        return self.inputs.n_components if self.n_rep is None else self.n_rep


@dataclass(frozen=True, eq=False)
class Conditions:
    """What a decoder reads of cells besides their latent."""

    batch: NDArray[np.float32]
    """One-hot batches, (n, categories), the keys side by side; as often as each occurs where a cell's is unknown."""
    library: NDArray[np.float32] | None
    """Total counts, (n,), of a modality that has counts."""

    def take(self, rows: slice | NDArray[np.intp]) -> Conditions:
        """These cells."""
        return Conditions(self.batch[rows], None if self.library is None else self.library[rows])

    def repeat(self, n: int) -> Conditions:
        """All cells `n` times over."""
        return self.take(np.tile(np.arange(len(self.batch)), n))


@dataclass
class History:
    """Loss terms over training, one row an epoch."""

    step: list[int] = field(default_factory=list)
    terms: dict[str, list[float]] = field(default_factory=dict)
    interrupted: bool = False
    """Whether the user ended training with Ctrl-C."""

    def append(self, step: int, terms: Mapping[str, float]) -> None:
        """Add one row."""
        self.step.append(step)
        for name, value in terms.items():
            self.terms.setdefault(name, []).append(value)

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """Columns as arrays, `step` first."""
        return {"step": np.array(self.step, dtype=float)} | {k: np.array(v) for k, v in self.terms.items()}


class Model(ABC):
    """A model of several modalities whose cells correspond; arrays in, arrays out."""

    name: ClassVar[str]
    options: ClassVar[frozenset[str]] = frozenset()
    """Which of `Modality.likelihood`, `.batches` and `.labels` it reads, as the arguments of `tl.integrate` that give them."""
    config: Any
    """Dataclass of the hyperparameters."""
    modalities: tuple[FittedModality, ...]
    labels: tuple[str, ...]
    """Classes that cells were labelled with."""
    history: History
    calibrations: dict[tuple[str, str], Calibration]
    """For each source and target, how far imputed values lie from measured ones."""

    @abstractmethod
    def __init__(self, *, recipe: str = "default", **params: Any) -> None: ...

    @abstractmethod
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
        """Train on modalities whose cells correspond as the sparse matrices F^ab, one for each two modalities a < b, say.

        `inferred` says where cells without a partner there may have theirs: (cells of a, cells of b), rows sum to 1; for
        (a, b), for (b, a) or for both. `prepared` are the modalities of another model like this one: what it made of the
        features, to be used again.
        """

    @abstractmethod
    def inputs(self, modality: str, X: Matrix, rep: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """What the encoder reads of each cell, (n, k)."""

    @abstractmethod
    def axes(self, modality: str) -> NDArray[np.float32]:
        """What a step of each feature, scaled as `FittedModality.inputs.features` has it, adds to `inputs`, (k, p)."""

    @abstractmethod
    def encode_inputs(self, modality: str, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Latent of what the encoder reads, (n, g): the mean of its posterior, which `decode` understands."""

    def encode(self, modality: str, X: Matrix, rep: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Latent of each cell, (n, g): the mean of its posterior, which `decode` understands."""
        return self.encode_inputs(modality, self.inputs(modality, X, rep))

    @abstractmethod
    def road(self, source: str, target: str | None = None, features: NDArray[np.intp] | None = None) -> nn.Module:
        """The whole way as standard layers, cells in rows: scaled features of the source to the target's values.

        The features are scaled as `FittedModality.inputs.features` has them; without a target the way ends at the latent.
        """

    @abstractmethod
    def embed(self, latent: NDArray[np.float32]) -> NDArray[np.float32]:
        """Latents as they are written for the user, so that Euclidean distances mean most."""

    def conditions(
        self,
        target: str,
        n: int,
        batches: Mapping[str, NDArray[np.object_]] | None = None,
        library: NDArray[np.float32] | None = None,
    ) -> Conditions:
        """What the target's decoder is to read of n cells besides their latent; typical ones where nothing is known.

        `batches` are the cells' own, None where unknown; `library` their totals, NaN for the median of those trained on.
        """
        m, totals = self.modality(target), None
        if m.library is not None:
            totals = np.full(n, np.nan, dtype=np.float32) if library is None else library
            totals = np.where(np.isnan(totals), m.library, totals).astype(np.float32)
        return Conditions(one_hot(m.batches, batches or {}, n), totals)

    @abstractmethod
    def decode(
        self,
        modality: str,
        latent: NDArray[np.float32],
        features: NDArray[np.intp] | None = None,
        conditions: Conditions | None = None,
    ) -> NDArray[np.float32]:
        """Feature values, (n, p), on the scale of the data trained on; `features` for some columns, in that order."""

    @abstractmethod
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
        """Mean and standard deviation of the target's values over draws from the source's posterior."""

    @abstractmethod
    def joint(self, latents: Mapping[str, tuple[NDArray[np.intp], NDArray[np.float32]]], n: int) -> NDArray[np.float32]:
        """One latent a cell, (n, g), from those of the modalities that have it: rows of the cells, latents."""

    @staticmethod
    def what_is_missing(
        data: Sequence[Modality], correspondence: Correspondence, inferred: Correspondence | None = None
    ) -> str | None:
        """Say where a modality has too few cells, or too few of them a partner, known or inferred; None if all is well."""
        links = [*correspondence.items(), *(inferred or {}).items()]
        for k, m in enumerate(data):
            paired = max(
                int((F if a == k else F.T).getnnz(axis=1).astype(bool).sum()) for (a, b), F in links if k in (a, b)
            )
            for count, what in ((m.n_obs, "cells"), (paired, "cells that correspond to one of another modality")):
                if count < MIN_CELLS:
                    return f"Modality {m.name!r} has {count} {what}; a batch needs at least {MIN_CELLS}. Leave it out: modalities=[...]."
        return None

    def modality(self, name: str) -> FittedModality:
        """The fitted modality of this name, or an error that lists the names there are."""
        for modality in self.modalities:
            if modality.name == name:
                return modality
        msg = f"The model has no modality {name!r}. It was trained on {[m.name for m in self.modalities]}."
        raise KeyError(msg)

    @property
    def batch_keys(self) -> list[str]:
        """Keys of obs that its decoders read."""
        return list({key: None for m in self.modalities for key in m.batches})

    def hyperparameters(self) -> dict[str, Any]:
        """The configuration as values that an .h5mu can hold; what is None is left out."""
        plain = {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self.config).items()}
        return {name: value for name, value in plain.items() if value is not None}

    # A model is data: JSON and arrays --------------------------------------------------------------------------

    @abstractmethod
    def weights(self) -> dict[str, NDArray]:
        """Every array of the network."""

    @abstractmethod
    def load_weights(self, weights: Mapping[str, NDArray]) -> None:
        """Build the network of `config` and `modalities` and fill it."""

    def state(self) -> dict[str, Any]:
        """`{"config": JSON, "weights": {name: array}}`: the whole model, without code."""
        config = {
            "format_version": FORMAT_VERSION,
            "jamie_sc": version("jamie_sc"),
            "model": self.name,
            "hyperparameters": asdict(self.config),
            "modalities": [_modality_to_json(m) for m in self.modalities],
            "labels": self.labels,
        }
        arrays = {f"network.{name}": array for name, array in self.weights().items()}
        for i, m in enumerate(self.modalities):
            for role, part in product(_ROLES, _PARTS):
                arrays[f"{role}.{i}.{part}"] = getattr(getattr(m, role), part)
        index = {m.name: i for i, m in enumerate(self.modalities)}
        for (a, b), calibration in self.calibrations.items():
            arrays |= {
                f"calibration.{index[a]}.{index[b]}.{part}": value for part, value in calibration.arrays().items()
            }
        return {"config": json.dumps(config), "weights": arrays}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """The model that `state` described."""
        config = json.loads(str(state["config"]))
        if config["format_version"] > FORMAT_VERSION:
            msg = (
                f"The model was written in format {config['format_version']} by jamie_sc {config['jamie_sc']}; this version "
                f"reads formats up to {FORMAT_VERSION}. Update: pip install -U jamie_sc."
            )
            raise ValueError(msg)
        if config["model"] != cls.name:
            msg = f"This is a {config['model']!r} model, not {cls.name!r}. Read it with jamie_sc.models.load."
            raise ValueError(msg)
        arrays = {name: np.asarray(array) for name, array in state["weights"].items()}
        model = cls(**config["hyperparameters"])
        model.modalities = tuple(_modality_from_state(i, m, arrays) for i, m in enumerate(config["modalities"]))
        model.labels = tuple(config.get("labels", ()))
        prefix = "network."
        model.load_weights({k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)})
        model.calibrations = _calibrations_from(arrays, [m.name for m in model.modalities])
        return model

    def save(self, path: str | Path) -> None:
        """Write `config.json` and `weights.safetensors` into a new folder."""
        path = Path(path)
        if path.exists() and any(path.iterdir()):
            msg = f"{path} exists and is not empty. Give another folder; a model never overwrites files."
            raise FileExistsError(msg)
        path.mkdir(parents=True, exist_ok=True)
        state = self.state()
        (path / "config.json").write_text(state["config"])
        save_file({k: np.ascontiguousarray(v) for k, v in state["weights"].items()}, path / "weights.safetensors")


def read_folder(path: str | Path) -> dict[str, Any]:
    """The state that `Model.save` wrote."""
    path = Path(path)
    for name in ("config.json", "weights.safetensors"):
        if not (path / name).is_file():
            msg = f"{path} holds no model: {name} is missing. A model's folder is written by its method save(path)."
            raise FileNotFoundError(msg)
    return {"config": (path / "config.json").read_text(), "weights": load_file(path / "weights.safetensors")}


_ROLES, _PARTS = ("inputs", "outputs"), ("mean", "scale", "components", "variance", "shrinkage", "bounds")


def _calibrations_from(arrays: Mapping[str, NDArray], names: Sequence[str]) -> dict[tuple[str, str], Calibration]:
    parts: dict[tuple[str, str], dict[str, NDArray]] = {}
    for key, array in arrays.items():
        if key.startswith("calibration."):
            _, a, b, part = key.split(".")
            parts.setdefault((names[int(a)], names[int(b)]), {})[part] = array
    return {ab: Calibration.from_arrays(found) for ab, found in parts.items()}


def _modality_to_json(m: FittedModality) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "name": m.name,
        "var_names": m.var_names,
        "layer": m.layer,
        "use_rep": m.use_rep,
        "n_rep": m.n_rep,
        "likelihood": m.likelihood,
        "library": m.library,
        "batches": m.batches,
    }
    return plain | {f"{role}_target_sum": getattr(m, role).target_sum for role in _ROLES}


def _modality_from_state(i: int, m: Mapping[str, Any], arrays: Mapping[str, NDArray]) -> FittedModality:
    def reducer(role: str) -> Reducer:
        parts = {part: arrays[f"{role}.{i}.{part}"] for part in _PARTS}
        return Reducer(**parts, target_sum=m[f"{role}_target_sum"])

    reducers = reducer("inputs"), reducer("outputs")
    rest = {name: m[name] for name in ("likelihood", "library", "batches") if name in m}  # not in format 1
    return FittedModality(m["name"], tuple(m["var_names"]), *reducers, m["layer"], m["use_rep"], m["n_rep"], **rest)
