"""The files of a data set: found on this machine or downloaded, and verified in either case."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pooch

from .._logging import logger
from .._settings import settings
from ._manifest import read_manifest

if TYPE_CHECKING:
    from ._manifest import File, Manifest

DATA_DIR = "JAMIE_SC_DATA_DIR"


def fetch(name: str, *, trust_unverified: bool = False) -> dict[str, Path]:
    """Get the files of a data set as its source publishes them.

    Each file is looked for in the folder that the environment variable `JAMIE_SC_DATA_DIR` names, then in the cache
    (a folder of the data set's name in `settings.datasetdir`), and is then downloaded to the cache. Wherever it comes
    from, its SHA-256 must be the one in the manifest.

    Parameters
    ----------
    name
        A name that :func:`available` lists.
    trust_unverified
        Accept files whose checksum the manifest does not know.

    Returns
    -------
    The path of each file, by its name.

    Examples
    --------
    >>> import jamie_sc as jsc
    >>> jsc.datasets.fetch("patchseq_motor")  # doctest: +SKIP
    {'motor_data_filtered.rda': PosixPath('/home/me/.cache/jamie_sc/patchseq_motor/motor_data_filtered.rda')}
    """
    manifest = read_manifest(name)
    if not manifest.files:
        msg = f"The manifest of {name!r} names no file to fetch: get the data from {manifest.source}. {manifest.notes}"
        raise ValueError(msg)
    if not manifest.has_checksum and not trust_unverified:
        unknown = [file.name for file in manifest.files if file.sha256 is None]
        msg = (
            f"The checksums of {', '.join(unknown)} are not known, so {name!r} cannot be verified. If you trust "
            f"{manifest.source}, call `jamie_sc.datasets.fetch({name!r}, trust_unverified=True)`."
        )
        raise ValueError(msg)
    return {file.name: _find(file, manifest) or _download(file, manifest) for file in manifest.files}


def _find(file: File, manifest: Manifest) -> Path | None:
    """The file on this machine, verified, or None."""
    folders = [Path(os.environ[DATA_DIR])] if os.environ.get(DATA_DIR) else []
    for folder in [*folders, settings.datasetdir / manifest.name]:
        path = folder / file.name
        if path.is_file():
            _verify(path, file)
            return path
    return None


def _verify(path: Path, file: File) -> None:
    if file.sha256 is None:
        logger.warning("%s is not verified: its checksum is not known", path)
        return
    found = pooch.file_hash(str(path), alg="sha256")
    if found != file.sha256:
        msg = (
            f"{path} is not the file that the manifest describes: its SHA-256 is {found}, expected {file.sha256}. "
            f"Delete it or put the file from {file.url} in its place, then call again."
        )
        raise ValueError(msg)


def _download(file: File, manifest: Manifest) -> Path:
    """Download to the cache; a file appears there only when it is complete and right."""
    folder = settings.datasetdir / manifest.name
    logger.info("downloading %s to %s", file.url, folder)
    known_hash = file.sha256 and f"sha256:{file.sha256}"
    try:
        path = pooch.retrieve(file.url, known_hash=known_hash, fname=file.name, path=folder)
    except ValueError as error:
        msg = f"{file.url} gave another file than the manifest describes, and it was not kept. {error}"
        raise ValueError(msg) from error
    except OSError as error:  # those of requests are OSErrors
        msg = (
            f"Could not download {file.url} to {folder}. Without a network, put {file.name} into a folder and set "
            f"the environment variable {DATA_DIR} to it. ({error})"
        )
        raise OSError(msg) from error
    return Path(path)
