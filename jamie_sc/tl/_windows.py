"""Features around a place in the genome."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

PLACE = ("chrom", "start", "end")


def windows_around(
    gene: str, genes: pd.DataFrame, peaks: pd.DataFrame, windows: int | Sequence[int], *, names: tuple[str, str]
) -> dict[str, NDArray[np.intp]]:
    """Rows of the peaks within each window of the gene, on its chromosome, and all; `names` of both modalities."""
    for frame, name in zip((genes, peaks), names, strict=True):
        if missing := [column for column in PLACE if column not in frame]:
            msg = (
                f"mdata[{name!r}].var has no {' and no '.join(map(repr, missing))}: places in the genome are the columns 'chrom', "
                "'start' and 'end'."
            )
            raise KeyError(msg)
    if gene not in genes.index:
        msg = f"{names[0]!r} has no feature {gene!r}."
        raise KeyError(msg)
    chrom, start, end = (genes[column][gene] for column in PLACE)
    if pd.isna([chrom, start, end]).any():
        msg = f"{gene!r} of {names[0]!r} has no place: its 'chrom', 'start' or 'end' is missing in var."
        raise ValueError(msg)
    same = (peaks["chrom"].notna() & (peaks["chrom"].astype(str) == str(chrom))).to_numpy()
    starts, ends = (peaks[edge].to_numpy(dtype=np.float64, na_value=np.nan) for edge in PLACE[1:])
    gap = np.maximum(np.maximum(starts - float(end), float(start) - ends), 0)  # 0 where they overlap
    reach = sorted({int(window) for window in np.atleast_1d(windows)})
    found = {f"within {_distance(window)}": np.flatnonzero(same & (gap <= window)) for window in reach}
    return found | {"same chromosome": np.flatnonzero(same), "genome-wide": np.arange(len(peaks))}


def _distance(window: int) -> str:
    """As one says it: 10 kb."""
    for unit, size in (("Mb", 1_000_000), ("kb", 1_000)):
        if window >= size:
            return f"{window / size:.9g} {unit}"
    return f"{window} bp"
