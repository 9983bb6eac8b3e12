"""What the manifests in ``data_manifests/`` say about each data set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

PACKAGED = Path(__file__).parent / "manifests"  # in a wheel
REPOSITORY = Path(__file__).parents[2] / "data_manifests"  # in an editable install


@dataclass(frozen=True)
class File:
    """A file of a data set. Without a known checksum, `sha256` is None."""

    name: str
    url: str
    sha256: str | None


@dataclass(frozen=True)
class Manifest:
    """A data set: where it comes from, who made it, what it holds."""

    name: str
    description: str
    source: str
    citation: str
    licence: str
    files: tuple[File, ...]
    modalities: tuple[str, ...]
    shape: dict[str, tuple[int | None, int | None]]
    role_in_paper: str
    notes: str = ""

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Manifest:
        """Build a manifest from the fields of its YAML file."""
        return cls(
            **fields
            | {
                "files": tuple(File(**file) for file in fields["files"]),
                "modalities": tuple(fields["modalities"]),
                "shape": {modality: tuple(shape) for modality, shape in fields["shape"].items()},
            }
        )

    @property
    def n_cells(self) -> int | None:
        """Cells of the largest modality, or None where the manifest does not know."""
        return max((cells for cells, _ in self.shape.values() if cells is not None), default=None)

    @property
    def has_checksum(self) -> bool:
        """Whether every file can be verified."""
        return bool(self.files) and all(file.sha256 is not None for file in self.files)


def manifest_dir() -> Path:
    """Folder of the manifests: inside an installed package, or at the root of the repository."""
    return PACKAGED if PACKAGED.is_dir() else REPOSITORY


def manifest_names() -> list[str]:
    """Names of the data sets that have a manifest."""
    return sorted(path.stem for path in manifest_dir().glob("*.yaml"))


def read_manifest(name: str) -> Manifest:
    """Read the manifest of one data set."""
    path = manifest_dir() / f"{name}.yaml"
    if name not in manifest_names():
        msg = f"No data set is called {name!r}. `jamie_sc.datasets.available()` lists them: {manifest_names()}."
        raise ValueError(msg)
    return Manifest.from_dict(yaml.safe_load(path.read_text(encoding="utf-8")))
