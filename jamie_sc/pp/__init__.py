"""Before training: which cells correspond, and fewer dimensions."""

from ._pairing import pairing
from ._reduce import reduce

__all__ = ["pairing", "reduce"]
