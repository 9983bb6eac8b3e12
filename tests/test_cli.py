from __future__ import annotations

import re
from functools import partial

import mudata
import numpy as np
import pytest
from typer.testing import CliRunner

import jamie_sc as jsc
from jamie_sc._cli import app, main
from jamie_sc._compat import no_pull


@pytest.fixture(autouse=True)
def _silent_again():
    yield
    jsc.settings.verbosity = None


@pytest.fixture
def small(monkeypatch):
    """The demo on little data with few steps."""
    little = partial(jsc.datasets.simulated, 60, n_features=(12, 10))
    monkeypatch.setattr(jsc.datasets, "simulated", little)
    for name in ("evaluate", "integrate"):
        monkeypatch.setattr(jsc.tl, name, partial(getattr(jsc.tl, name), params={"max_steps": 20}))


def run(*args):
    return CliRunner().invoke(app, list(map(str, args)), catch_exceptions=False)


def plain(text):
    """Without the colours and frames of the terminal."""
    return " ".join(re.sub(r"\x1b\[[0-9;]*m|[│╭╮╰╯─]", " ", text).split())


def test_demo(small, tmp_path):
    out = tmp_path / "new" / "folder"
    result = run("demo", "--out", out)
    assert result.exit_code == 0, result.output
    for said in ("label transfer accuracy", "FOSCTTM", "Pearson", "neighbours", "Next:", "modality1 -> modality2"):
        assert said in result.output
    assert sorted(path.name for path in out.iterdir()) == ["embedding.png", "history.png", "integrated.h5mu"]
    for name in ("embedding.png", "history.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
        assert str(out / name) in result.output
    with no_pull():
        mdata = mudata.read_h5mu(out / "integrated.h5mu")
    assert mdata.obsm["X_jamie"].shape[0] == 60
    assert np.isfinite(mdata["modality2"].layers["jamie_from_modality1"]).all()
    assert np.isfinite(mdata["modality1"].layers["jamie_from_modality2"]).all()
    assert jsc.get.imputed(mdata, source="modality1", target="modality2").shape == (60, 10)


def test_another_seed_into_the_same_folder(small, tmp_path):
    found = []
    for seed in (0, 1):
        assert run("demo", "--seed", seed, "--out", tmp_path).exit_code == 0
        with no_pull():
            found.append(mudata.read_h5mu(tmp_path / "integrated.h5mu")["modality1"].X)
    assert not np.array_equal(*found)


def test_unknown_dataset(tmp_path):
    result = run("demo", "--dataset", "pbmc", "--out", tmp_path / "out")
    assert result.exit_code == 2
    message = plain(result.output)
    for said in ("no demo of 'pbmc'", "simulated", "patchseq_motor", "bmmc_cite"):
        assert said in message
    assert not (tmp_path / "out").exists()


def test_dataset_that_cannot_be_had(monkeypatch, tmp_path):
    def offline():
        msg = "no route to host"
        raise OSError(msg)

    monkeypatch.setattr(jsc.datasets, "patchseq_motor", offline)
    result = run("demo", "--dataset", "patchseq_motor", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "no route to host" in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "out").exists()


def test_help():
    assert "demo" in run("--help").output
    for option in ("--dataset", "--out", "--seed"):
        assert option in plain(run("demo", "--help").output)


def test_entry_point(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["jamie-sc", "--help"])
    with pytest.raises(SystemExit, match="0"):
        main()
    assert "demo" in capsys.readouterr().out
