"""Tidy frames and AnnData objects from what `jamie_sc.tl` wrote; nothing is written here."""

from ._correspondence import correspondence
from ._history import history
from ._imputed import imputed

__all__ = ["correspondence", "history", "imputed"]
