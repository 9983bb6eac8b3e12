"""Package-wide settings."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import pooch

from ._logging import logger

if TYPE_CHECKING:
    from os import PathLike


class Settings:
    """Settings of the package, one instance: ``jamie_sc.settings``.

    Examples
    --------
    >>> import jamie_sc as jsc
    >>> jsc.settings.verbosity = "info"  # log messages go to standard error
    >>> jsc.settings.verbosity = None  # silent again
    """

    def __init__(self) -> None:
        self._datasetdir: Path | None = None
        self._handler: logging.Handler | None = None

    @property
    def datasetdir(self) -> Path:
        """Folder where downloaded data sets are kept (default: the user's cache folder)."""
        return self._datasetdir or Path(pooch.os_cache("jamie_sc"))

    @datasetdir.setter
    def datasetdir(self, path: str | PathLike[str] | None) -> None:
        self._datasetdir = None if path is None else Path(path)

    @property
    def verbosity(self) -> str | None:
        """Level of the messages shown on standard error, or None for silence (the default)."""
        return None if self._handler is None else logging.getLevelName(self._handler.level).lower()

    @verbosity.setter
    def verbosity(self, level: str | None) -> None:
        if level is not None and level.upper() not in logging.getLevelNamesMapping():
            msg = f"settings.verbosity is one of 'debug', 'info', 'warning', 'error' or None, not {level!r}."
            raise ValueError(msg)
        if self._handler is not None:
            logger.removeHandler(self._handler)
            self._handler = None
            logger.setLevel(logging.NOTSET)
            logger.propagate = True
        if level is not None:
            self._handler = logging.StreamHandler()
            self._handler.setFormatter(logging.Formatter("%(message)s"))
            self._handler.setLevel(level.upper())
            logger.addHandler(self._handler)
            logger.propagate = False
            logger.setLevel(level.upper())


settings = Settings()
