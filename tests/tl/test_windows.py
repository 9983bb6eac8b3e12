"""Features around a place of a made-up genome."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from jamie_sc.tl._windows import windows_around

NAMES = ("rna", "atac")


def places(**rows):
    return pd.DataFrame.from_dict(rows, orient="index", columns=["chrom", "start", "end"])


GENES = places(g=("chr1", 50_000, 60_000), far=("chr2", 10, 20), lost=(np.nan, 50_000, 60_000))
PEAKS = places(
    other_chromosome=("chr2", 50_000, 60_000),
    inside=("chr1", 52_000, 52_500),
    around=("chr1", 40_000, 70_000),
    over_the_start=("chr1", 49_000, 50_500),
    at_10kb_left=("chr1", 39_000, 40_000),
    beyond_10kb_left=("chr1", 39_000, 39_999),
    at_10kb_right=("chr1", 70_000, 70_500),
    beyond_10kb_right=("chr1", 70_001, 70_500),
    touching=("chr1", 60_000, 61_000),
    at_100kb=("chr1", 160_000, 161_000),
    beyond_100kb=("chr1", 160_001, 161_000),
    nowhere=(np.nan, 50_000, 60_000),
    without_edges=("chr1", np.nan, np.nan),
)
NEAR = {"inside", "around", "over_the_start", "at_10kb_left", "at_10kb_right", "touching"}


def windows(gene="g", genes=GENES, peaks=PEAKS, sizes=(10_000, 100_000)):
    return windows_around(gene, genes, peaks, sizes, names=NAMES)


def named(rows):
    return set(PEAKS.index[rows])


def test_edges():
    """Distances are from edge to edge, 0 where gene and peak overlap; the window itself is in it."""
    found = windows()
    assert list(found) == ["within 10 kb", "within 100 kb", "same chromosome", "genome-wide"]
    assert named(found["within 10 kb"]) == NEAR
    assert named(found["within 100 kb"]) == NEAR | {"beyond_10kb_left", "beyond_10kb_right", "at_100kb"}
    assert named(found["same chromosome"]) == set(PEAKS.index) - {"other_chromosome", "nowhere"}
    np.testing.assert_array_equal(found["genome-wide"], np.arange(len(PEAKS)))


def test_against_a_loop():
    rng = np.random.default_rng(0)
    start = rng.integers(0, 300_000, 200)
    peaks = pd.DataFrame(
        {"chrom": rng.choice(["chr1", "chr2"], 200), "start": start, "end": start + rng.integers(1, 5000, 200)}
    )
    for window, rows in zip((10_000, 100_000), list(windows(peaks=peaks).values())[:2], strict=True):
        near = [
            i
            for i, (chrom, left, right) in enumerate(peaks.itertuples(index=False))
            if chrom == "chr1" and right >= 50_000 - window and left <= 60_000 + window
        ]
        assert list(rows) == near


def test_each_window_holds_the_one_before():
    found = list(windows(sizes=(100_000, 0, 10_000)).values())
    assert all(set(a) <= set(b) for a, b in zip(found, found[1:], strict=False))
    assert named(found[0]) == NEAR - {"at_10kb_left", "at_10kb_right"}


def test_names_of_windows():
    sizes = (5, 1_500, 10_000, 2_500_000)
    expected = ["within 5 bp", "within 1.5 kb", "within 10 kb", "within 2.5 Mb", "same chromosome", "genome-wide"]
    assert list(windows(sizes=sizes)) == expected


def test_no_window_is_lost():
    assert len(windows(sizes=(1_234_567, 1_234_568))) == 4


def test_no_windows():
    assert list(windows(sizes=())) == ["same chromosome", "genome-wide"]


def test_another_chromosome():
    found = windows("far")
    assert named(found["within 100 kb"]) == {"other_chromosome"}
    assert named(found["same chromosome"]) == {"other_chromosome"}


def test_categorical_chromosomes_and_text():
    """As they come back from a file."""
    peaks = PEAKS.astype({"chrom": "category"})
    genes = GENES.astype({"chrom": "category", "start": str, "end": str})
    for name, rows in windows(peaks=peaks, genes=genes).items():
        np.testing.assert_array_equal(rows, windows()[name])


def test_chromosome_without_peaks():
    genes = places(g=("chrY", 50_000, 60_000))
    found = windows(genes=genes)
    assert [len(rows) for rows in found.values()] == [0, 0, 0, len(PEAKS)]


def test_gene_without_a_place():
    """An unknown chromosome is not that of the peaks of which it is unknown, too."""
    with pytest.raises(ValueError, match="'lost'"):
        windows("lost")


@pytest.mark.parametrize("which", ["genes", "peaks"])
def test_missing_columns(which):
    frame = {"genes": GENES, "peaks": PEAKS}[which].drop(columns=["chrom", "end"])
    name = {"genes": "rna", "peaks": "atac"}[which]
    with pytest.raises(KeyError, match=rf"mdata\['{name}'\].var has no 'chrom' and no 'end'.*are the columns 'chrom'"):
        windows(**{which: frame})


def test_unknown_gene():
    with pytest.raises(KeyError, match="'rna' has no feature 'nonsense'"):
        windows("nonsense")
