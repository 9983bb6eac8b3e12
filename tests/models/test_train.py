import math

import pytest
import torch
from torch import nn

from jamie_sc.models._blocks import BatchNorm, Dropout, Linear
from jamie_sc.models._train import Patience, resolve_device, seeded, train


class Point(nn.Module):
    def __init__(self):
        super().__init__()
        self.x = nn.Parameter(torch.tensor(4.0))


def run(losses, network, n_steps=20, steps_per_epoch=2, patience=None, lr=0.1, **options):
    return train(
        network,
        losses,
        optimizer=torch.optim.SGD(network.parameters(), lr=lr),
        scheduler=None,
        n_steps=n_steps,
        steps_per_epoch=steps_per_epoch,
        patience=patience or Patience(0),
        progress=False,
        **options,
    )


def test_history_has_means_of_epochs():
    network = Point()
    history = run(
        lambda step: {"total": network.x * 0 + step, "half": network.x.detach() * 0 + step / 2}, network, n_steps=5
    )
    assert history.step == [2, 4, 5]
    assert history.terms == {"total": [0.5, 2.5, 4.0], "half": [0.25, 1.25, 2.0]}


def test_best_weights_come_back():
    """The loss falls, then rises for good: the network ends where it was lowest."""
    network = Point()
    seen = []

    def losses(step):
        seen.append(network.x.item())
        return {"total": (network.x - 1) ** 2 * (1 if step < 10 else -1) + (0 if step < 10 else 100)}

    run(losses, network, steps_per_epoch=1)
    assert network.x.item() == pytest.approx(seen[10])


def test_patience_counts_lapses_after_the_minimum():
    network = Point()
    history = run(
        lambda _: {"total": network.x * 0 + 1}, network, n_steps=100, steps_per_epoch=1, patience=Patience(10, 5)
    )
    assert history.step[-1] == 15  # a first best at step 10, then five lapses


def test_min_change():
    network = Point()
    losses = lambda step: {"total": network.x * 0 + 1 - 1e-4 * step}
    stopped = run(losses, network, 100, 1, Patience(1, 5, min_change=0.1))
    assert stopped.step[-1] == 6
    assert run(losses, network, 100, 1, Patience(1, 5, min_change=0)).step[-1] == 100


def test_nan_names_the_term():
    network = Point()
    terms = lambda step: {"kl": network.x * (math.nan if step == 3 else 1), "fine": network.x}
    with pytest.raises(FloatingPointError, match=r"step 3.*'kl'"):
        run(lambda step: (t := terms(step)) | {"total": sum(t.values())}, network)


def test_validation_says_which_weights_are_best():
    """The training loss falls all the time; that of the validation batches is lowest at the start of step 6."""
    network, seen = Point(), []

    def validate():
        seen.append(network.x.item())
        return {"total": torch.tensor(abs(len(seen) / 2 - 6.0))}

    history = run(lambda _: {"total": network.x**2}, network, steps_per_epoch=1, validate=[validate] * 2)
    assert len(seen) == 40  # both batches after every epoch
    assert network.x.item() == seen[11] != seen[-1]
    assert history.terms["validation"] == [(abs(i - 6.5) + abs(i - 6)) / 2 for i in range(1, 21)]
    assert history.terms["total"] == sorted(history.terms["total"], reverse=True)


def test_patience_is_that_of_the_validation():
    network = Point()
    rising = run(
        lambda _: {"total": network.x**2},
        network,
        n_steps=100,
        steps_per_epoch=1,
        patience=Patience(10, 5),
        validate=[lambda: {"total": -network.x.detach()}],
    )
    assert rising.step[-1] == 15


def test_validation_is_in_evaluation_and_without_gradient():
    network, modes = Point(), []

    def losses(_):
        modes.append(("train", network.training, torch.is_grad_enabled()))
        return {"total": network.x**2}

    def validate():
        modes.append(("validate", network.training, torch.is_grad_enabled()))
        return {"total": network.x**2}

    run(losses, network, n_steps=4, steps_per_epoch=2, validate=[validate])
    assert modes == ([("train", True, True)] * 2 + [("validate", False, False)]) * 2
    assert not network.training


class Two(Point):
    def __init__(self):
        super().__init__()
        self.opponent = nn.Parameter(torch.tensor(1.0))


@pytest.mark.parametrize("validated", [False, True])
def test_adversary_does_not_say_which_weights_are_best(validated):
    """It grows wildly while the total falls: the network ends with its last weights, not with its first."""
    network, seen = Two(), []

    def losses(step):
        seen.append((network.x.item(), network.opponent.item()))
        return {"total": network.x**2, "adversary": network.opponent**2 * 10.0**step}

    validate = [lambda: {"total": network.x**2, "adversary": 1e30 * network.x**0}] if validated else None
    history = run(losses, network, n_steps=6, steps_per_epoch=1, lr=0.1, validate=validate)
    assert abs(network.x.item()) < seen[-1][0]
    assert history.terms["adversary"][-1] > 1e5 > 10 > history.terms["adversary"][0]
    assert history.terms["total"] == [pytest.approx(x**2) for x, _ in seen]


def test_adversary_is_minimised_with_the_total():
    network = Two()
    run(lambda _: {"total": (network.x - 2) ** 2, "adversary": (network.opponent - 3) ** 2}, network, n_steps=100)
    assert network.x.item() == pytest.approx(2, abs=1e-3)
    assert network.opponent.item() == pytest.approx(3, abs=1e-3)


def test_nan_of_the_adversary_is_named():
    network = Two()
    terms = lambda step: {"total": network.x**2, "adversary": network.opponent * (math.nan if step == 3 else 1)}
    with pytest.raises(FloatingPointError, match=r"step 3: the loss term 'adversary' is nan"):
        run(terms, network)


def test_seeded_leaves_the_global_state():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with seeded(1, torch.device("cpu")):
        first = torch.rand(3)
    with seeded(1, torch.device("cpu")):
        assert torch.equal(first, torch.rand(3))
    assert torch.equal(before, torch.get_rng_state())


def test_device():
    assert resolve_device("cpu").type == "cpu"
    assert resolve_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(RuntimeError):
        resolve_device("abacus")


def test_members_are_independent_networks():
    """The batched layers are as many ordinary ones."""
    torch.manual_seed(0)
    linear, norm = Linear(3, 4, 5), BatchNorm(3, 5)
    x = torch.randn(3, 4, 6)
    got = norm(linear(x))
    for m in range(3):
        one = nn.functional.linear(x[m].T, linear.weight[m], linear.bias[m, :, 0])
        expected = nn.BatchNorm1d(5)(one).T
        torch.testing.assert_close(got[m], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("p", [0.1, 0.3, 0.6])
def test_dropout(p):
    torch.manual_seed(0)
    dropout, x = Dropout(p), torch.ones(2, 300, 501, requires_grad=True)
    y = dropout(x)
    assert (y == 0).float().mean().item() == pytest.approx(p, abs=0.005)
    assert y.mean().item() == pytest.approx(1, abs=0.01)
    assert len(y.unique()) == 2
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())  # the gradient is dropped with the value
    assert dropout.eval()(x) is x
    assert Dropout(0.0)(x).equal(x)
