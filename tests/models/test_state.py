import json

import numpy as np
import pytest
import scipy.sparse as sp
import torch

import jamie_sc as jsc
from jamie_sc.models import JAMIE, from_state, get_model, load
from jamie_sc.models._base import FORMAT_VERSION


@pytest.fixture(scope="module")
def trained():
    mdata = jsc.datasets.simulated(60, n_features=(12, 9))
    jsc.tl.integrate(mdata, params={"max_steps": 10, "members": 2}, progress=False)
    return mdata, from_state(mdata.uns["jamie"]["model"])


def test_a_folder_holds_the_model(trained, tmp_path):
    mdata, model = trained
    model.save(tmp_path / "model")
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == ["config.json", "weights.safetensors"]
    again = load(tmp_path / "model")
    assert again.modalities[0].var_names == model.modalities[0].var_names
    assert again.config == model.config
    X = mdata["modality1"].X
    np.testing.assert_array_equal(again.encode("modality1", X), model.encode("modality1", X))


@pytest.mark.parametrize("recipe", ["default", "paper"])
def test_state_round_trip(recipe):
    """None is a value of its own: the paper's widths follow from it."""
    mdata = jsc.datasets.simulated(40, n_features=(12, 9))
    jsc.tl.integrate(mdata, recipe=recipe, params={"max_steps": 4, "min_steps": 2}, progress=False)
    model = from_state(mdata.uns["jamie"]["model"])
    assert model.config == JAMIE(recipe=recipe, max_steps=4, min_steps=2).config
    latent = model.embed(model.encode("modality1", mdata["modality1"].X))
    np.testing.assert_array_equal(latent, mdata["modality1"].obsm["X_jamie"])


def test_state_written_before_a_hyperparameter_existed(trained):
    """It takes the default."""
    state = trained[1].state()
    config = json.loads(state["config"])
    for name in ("rho", "alignment", "lone", "unit_columns"):
        del config["hyperparameters"][name]
    assert from_state(state | {"config": json.dumps(config)}).config == trained[1].config


def test_state_of_format_1(trained):
    """Which knew no likelihoods, library sizes, batches and labels."""
    mdata, model = trained
    state = model.state()
    config = json.loads(state["config"]) | {"format_version": 1}
    del config["labels"]
    for m in config["modalities"]:
        for name in ("likelihood", "library", "batches"):
            del m[name]
    old = from_state(state | {"config": json.dumps(config)})
    assert old.labels == ()
    for m in old.modalities:
        assert (m.likelihood, m.library, m.batches) == ("gaussian", None, {})
    X = mdata["modality1"].X
    latent = model.encode("modality1", X)
    np.testing.assert_array_equal(old.encode("modality1", X), latent)
    np.testing.assert_array_equal(old.decode("modality2", latent), model.decode("modality2", latent))


def test_save_never_overwrites(trained, tmp_path):
    trained[1].save(tmp_path / "model")
    with pytest.raises(FileExistsError, match="another folder"):
        trained[1].save(tmp_path / "model")


def test_load_without_a_model(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config\.json is missing"):
        load(tmp_path)


def test_config_is_plain_json(trained):
    config = json.loads(trained[1].state()["config"], parse_constant=lambda c: pytest.fail(f"{c} is not JSON"))
    assert config["format_version"] == FORMAT_VERSION
    assert config["model"] == "jamie"


def test_a_newer_format_is_refused(trained):
    state = trained[1].state()
    newer = json.loads(state["config"]) | {"format_version": 99}
    with pytest.raises(ValueError, match="pip install -U"):
        from_state(state | {"config": json.dumps(newer)})


def test_sample_is_centred_on_decoded_draws(trained):
    mdata, model = trained
    X = mdata["modality1"].X
    mean, sd = model.sample("modality1", "modality2", X, n_samples=200, seed=0)
    few, _ = model.sample("modality1", "modality2", X, n_samples=2, seed=0)
    assert mean.shape == sd.shape == (60, 9)
    assert (sd > 0).all()
    point = model.decode("modality2", model.encode("modality1", X))
    assert np.abs(mean - point).mean() < np.abs(few - point).mean()


def test_sample_has_the_moments_of_its_draws(trained):
    """Two draws: their mean and spread, by hand, with the same noise."""
    mdata, model = trained
    X = mdata["modality1"].X
    mean, log_variance = next(model._posteriors("modality1", model.inputs("modality1", X)))
    generator = torch.Generator().manual_seed(4)
    latents = [mean + torch.randn(mean.shape, generator=generator) * (log_variance / 2).exp() for _ in range(2)]
    draws = [model.decode("modality2", z.flatten(0, 1).T.numpy()) for z in latents]
    got_mean, got_sd = model.sample("modality1", "modality2", X, n_samples=2, seed=4)
    np.testing.assert_allclose(got_mean, np.mean(draws, axis=0), atol=1e-4)
    np.testing.assert_allclose(got_sd, np.std(draws, axis=0, ddof=1), atol=1e-4)


@pytest.mark.parametrize("values", [1, 9 * 60 * 7])
def test_draws_in_several_passes_are_the_same(trained, monkeypatch, values):
    """One or seven draws in a pass."""
    from jamie_sc.models import _autoencoder

    mdata, model = trained
    X = mdata["modality1"].X
    at_once = model.sample("modality1", "modality2", X, n_samples=20, seed=4)
    monkeypatch.setattr(_autoencoder, "CHUNK_VALUES", values)
    for a, b in zip(at_once, model.sample("modality1", "modality2", X, n_samples=20, seed=4), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_moments_of_parts():
    from jamie_sc.models._blocks import Moments

    values = np.random.default_rng(0).normal(3, 2, size=(9, 4, 5))
    moments = Moments()
    for part in np.split(values, [3, 8]):
        moments.add(torch.from_numpy(part))
    np.testing.assert_allclose(moments.mean, values.mean(axis=0))
    np.testing.assert_allclose(moments.sd(), values.std(axis=0, ddof=1))


def test_embedding_has_one_length(trained):
    mdata, model = trained
    z = model.embed(model.encode("modality1", mdata["modality1"].X)).reshape(60, 2, 32)
    np.testing.assert_allclose(np.linalg.norm(z, axis=2), np.sqrt(32), rtol=1e-5)


def test_joint_is_equation_3(trained):
    """A cell in both modalities: weights exp(w); a cell in one: its own latent."""
    _, model = trained
    w = model.network.log_weight.detach().exp().numpy()
    a, b = np.ones((2, 64), np.float32), np.full((2, 64), 3, np.float32)
    joint = model.joint({"modality1": (np.array([0, 1]), a), "modality2": (np.array([1, 2]), b)}, 4)
    np.testing.assert_allclose(joint[:, 0], [1, (w[0] + 3 * w[1]) / w.sum(), 3, np.nan], rtol=1e-6)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"dropuot": 0.1}, "dropuot"),
        ({"dropout": 1.0}, "dropout"),
        ({"recipe": "cake"}, "cake"),
        ({"max_steps": 1}, "max_steps"),
        ({"rho": 1.1}, "rho is 1.1"),
        ({"lone": -0.1}, "lone"),
    ],
)
def test_bad_hyperparameters(params, message):
    with pytest.raises(ValueError, match=message):
        JAMIE(**params)


def test_unknown_model():
    with pytest.raises(ValueError, match="glue"):
        get_model("glue")
    with pytest.raises(AttributeError, match="GLUE"):
        jsc.models.GLUE  # noqa: B018


# CLUE ---------------------------------------------------------------------------------------------------------------

LIKELIHOODS = {"rna": "nb", "adt": "gaussian"}


@pytest.fixture(scope="module", params=[True, False], ids=["shared_layers", "own_layers"])
def clue(request, simulate):
    """Counts, batches of two keys, labels."""
    mdata, rng = simulate(), np.random.default_rng(0)
    mdata["rna"].X = sp.csr_matrix(rng.poisson(np.exp(mdata["rna"].X)).astype(np.float32))
    for name in ("rna", "adt"):
        mdata[name].obs["site"] = rng.choice(["s1", "s2"], mdata[name].n_obs)
        mdata[name].obs["donor"] = rng.choice(["a", "b", "c"], mdata[name].n_obs)
        mdata[name].obs["cell_type"] = mdata.obs["cell_type"].loc[mdata[name].obs_names].to_numpy()
    jsc.tl.integrate(
        mdata,
        model="clue",
        likelihood=LIKELIHOODS,
        batch_key=["site", "donor"],
        labels_key="cell_type",
        params={"max_steps": 10, "latent_dim": 4, "shared_layers": request.param, "labels": 0.5},
        calibrate=False,
        progress=False,
    )
    return mdata, from_state(mdata.uns["clue"]["model"])


def same(got, expected):
    """But for what another order in memory does to sums."""
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("way", ["state", "folder"])
def test_clue_round_trip(clue, tmp_path, way):
    mdata, model = clue
    if way == "folder":
        model.save(tmp_path / "model")
        again = load(tmp_path / "model")
    else:
        again = from_state(model.state())
    assert again.name == "clue"
    assert again.config == model.config
    assert again.labels == model.labels == ("branch 1", "branch 2", "branch 3")
    for new, old in zip(again.modalities, model.modalities, strict=True):
        for name in ("name", "var_names", "likelihood", "library", "batches", "n_output", "n_input"):
            assert getattr(new, name) == getattr(old, name)
        assert [list(of) for of in new.batches.values()] == [["s1", "s2"], ["a", "b", "c"]]  # and in this order
    assert {m.name: m.likelihood for m in again.modalities} == LIKELIHOODS
    assert again.modality("adt").library is None
    assert again.modality("rna").library == np.median(np.asarray(mdata["rna"].X.sum(axis=1)))
    for source in LIKELIHOODS:
        X = mdata[source].X
        latent = model.encode(source, X)
        same(again.encode(source, X), latent)
        same(again.embed(latent), mdata[source].obsm["X_clue"])
        for target in LIKELIHOODS:
            same(again.decode(target, latent), model.decode(target, latent))
            given = {"site": np.full(len(latent), "s2"), "donor": np.full(len(latent), "a")}
            conditions = (m.conditions(target, len(latent), given) for m in (again, model))
            new, old = (m.decode(target, latent, conditions=c) for m, c in zip((again, model), conditions, strict=True))
            same(new, old)
            assert (new != model.decode(target, latent)).any()


def test_clue_is_plain_json(clue):
    state = clue[1].state()
    config = json.loads(state["config"], parse_constant=lambda c: pytest.fail(f"{c} is not JSON"))
    assert config["model"] == "clue"
    assert all(isinstance(array, np.ndarray) for array in state["weights"].values())
    assert any("classifier" in name for name in state["weights"])


def test_clue_is_no_jamie(clue):
    with pytest.raises(ValueError, match=r"'clue' model, not 'jamie'.*models\.load"):
        JAMIE.from_state(clue[1].state())


def test_clue_draws_have_the_moments_of_their_decodings(clue):
    """Two draws by hand, with the same noise, each cell in its own batch and of its own depth."""
    mdata, model = clue
    X, n = mdata["rna"].X, mdata["rna"].n_obs
    given = {key: mdata["rna"].obs[key].to_numpy(dtype=object) for key in ("site", "donor")}
    conditions = model.conditions("rna", n, given, np.linspace(10, 500, n).astype(np.float32))
    mean, log_variance = next(model._posteriors("rna", model.inputs("rna", X)))
    generator = torch.Generator().manual_seed(4)
    latents = [mean + torch.randn(mean.shape, generator=generator) * (log_variance / 2).exp() for _ in range(2)]
    draws = [model.decode("rna", z.flatten(0, 1).T.numpy(), conditions=conditions) for z in latents]
    got_mean, got_sd = model.sample("rna", "rna", X, conditions=conditions, n_samples=2, seed=4)
    np.testing.assert_allclose(got_mean, np.mean(draws, axis=0), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(got_sd, np.std(draws, axis=0, ddof=1), rtol=1e-2, atol=1e-2)
