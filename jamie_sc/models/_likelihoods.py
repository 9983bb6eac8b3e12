"""Likelihoods of a modality's values given what its decoder makes of a latent; features x cells, as the networks.

A decoder's output is linear; each likelihood turns it into the mean of its distribution and has parameters of its own
for each feature. A softmax spreads counts over the features of a cell: their means add up to its library size.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import scipy.sparse as sp
import torch
from torch import nn
from torch.nn import functional

from ._reducers import totals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ._reducers import Matrix

LEAST_SIGMA = 1e-4
"""Below any standard deviation of a Gaussian."""
MOST_LOG_THETA = 12.0
"""Above it a negative binomial is as good as Poisson, and differences of its log gamma functions are only rounding."""
STARTING_LOG_THETA = (-3.0, 5.0)
"""Between these it starts: a cell type with a feature of its own makes theta look smaller than it is within types."""


class Likelihood(nn.Module):
    """Distribution of the values of one modality, with parameters for each feature that start at zero."""

    name: ClassVar[str]
    counts: ClassVar[bool] = False
    """Whether it needs the library size of each cell."""

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.n_features = n_features

    def nll(
        self,
        decodings: Sequence[torch.Tensor],
        x: torch.Tensor,
        library: torch.Tensor | None,
        cells: Sequence[torch.Tensor | None] | None = None,
    ) -> list[torch.Tensor]:
        """Negative log-likelihood of each cell of each decoding, averaged over features.

        From decodings, (features, cells), of all cells or of those `cells`, their values, (features, cells), and their library
        sizes, (cells,). What does not depend on the decoding is computed once. One decoding after the other, for temporary
        tensors of a reasonable size.
        """
        x, shared = x.contiguous(), self._shared(x)  # products are faster
        each = []
        for out, rows in zip(decodings, cells or [None] * len(decodings), strict=True):
            part = x if rows is None else x[:, rows]
            total = library if library is None or rows is None else library[rows]
            each.append(
                -(self._log_likelihood(out, part, total) + (shared if rows is None else shared.index_select(0, rows)))
                / len(x)
            )
        return each

    def start(self, X: Matrix) -> None:
        """Set the parameters to what suits cells x features that are all alike; the decoder learns how they differ."""

    @abstractmethod
    def mean(self, out: torch.Tensor, library: torch.Tensor | None) -> torch.Tensor:
        """Expected values, same shape as `out`."""

    @abstractmethod
    def _log_likelihood(self, out: torch.Tensor, x: torch.Tensor, library: torch.Tensor | None) -> torch.Tensor:
        """Of one decoding, summed over features: (cells,). Without `_shared`."""

    def _shared(self, x: torch.Tensor) -> torch.Tensor:
        """Terms that do not depend on the decoding, summed over features: (cells,)."""
        return x.new_zeros(x.shape[1])


class Gaussian(Likelihood):
    """Normal distribution around the decoder's output."""

    name = "gaussian"

    def __init__(self, n_features: int) -> None:
        super().__init__(n_features)
        self.spread = nn.Parameter(torch.zeros(n_features, 1))

    @property
    def sigma(self) -> torch.Tensor:
        """Standard deviations, (features, 1); 1 at first."""
        return _softplus(self.spread, 1 - LEAST_SIGMA) + LEAST_SIGMA

    def mean(self, out: torch.Tensor, library: torch.Tensor | None) -> torch.Tensor:
        """The decoder's output."""
        return out

    def _log_likelihood(self, out: torch.Tensor, x: torch.Tensor, library: torch.Tensor | None) -> torch.Tensor:
        return -((x - out) / self.sigma).square().sum(0) / 2

    def _shared(self, x: torch.Tensor) -> torch.Tensor:
        return -(self.sigma.log() + math.log(2 * math.pi) / 2).sum().expand(x.shape[1])


class _Scored(Likelihood):
    """The decoder's output is scaled and shifted, each feature by its own parameters, before it is a logit."""

    def __init__(self, n_features: int) -> None:
        super().__init__(n_features)
        self.scale = nn.Parameter(torch.zeros(n_features, 1))
        self.shift = nn.Parameter(torch.zeros(n_features, 1))

    def logits(self, out: torch.Tensor) -> torch.Tensor:
        """Of each feature, up to a number that all counts of a cell share."""
        return out * _softplus(self.scale, 1) + self.shift

    def linear(self, weight: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights, (features, n), and biases, (features,), of the logits, given those that the outputs are made by."""
        return self.logits(weight) - self.shift, self.logits(bias[:, None])[:, 0]


class Bernoulli(_Scored):
    """Values 0 and 1."""

    name = "bernoulli"

    def start(self, X: Matrix) -> None:
        """The logit of how often each feature is 1."""
        ones = (_sums(X) + 0.5) / (X.shape[0] + 1)
        _fill(self.shift, np.log(ones / (1 - ones)))

    def mean(self, out: torch.Tensor, library: torch.Tensor | None) -> torch.Tensor:
        """Probability of a 1."""
        return torch.sigmoid(self.logits(out))

    def _log_likelihood(self, out: torch.Tensor, x: torch.Tensor, library: torch.Tensor | None) -> torch.Tensor:
        logit = self.logits(out)
        return (x * logit - functional.softplus(logit)).sum(0)


class _Counts(_Scored):
    """Counts, whose means mu are shares of the cell's library size; a cell without counts has likelihood 1."""

    counts = True

    def start(self, X: Matrix) -> None:
        """The logarithm of each feature's share of all counts."""
        _fill(self.shift, np.log(self._shares(X)))

    def _shares(self, X: Matrix) -> NDArray[np.float64]:
        """Of each feature among all counts; half a count for one that has none."""
        sums = np.maximum(_sums(X), 0.5)
        return sums / sums.sum()

    def mean(self, out: torch.Tensor, library: torch.Tensor | None) -> torch.Tensor:
        """Library size, spread over the features."""
        return torch.softmax(self.logits(out), -2) * self._known(library)

    def linear(self, weight: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The same of the centred log-ratio of the means: log mu less its mean over the features."""
        weight, bias = super().linear(weight, bias)
        return weight - weight.mean(0), bias - bias.mean()

    def _log_mu(self, out: torch.Tensor, library: torch.Tensor | None) -> torch.Tensor:
        library = self._known(library)
        tiny = torch.finfo(library.dtype).tiny  # not zero, for the gradient's sake
        return torch.log_softmax(self.logits(out), -2) + library.clamp_min(tiny).log()

    def _known(self, library: torch.Tensor | None) -> torch.Tensor:
        if library is None:
            msg = f"The likelihood {self.name!r} needs library, the total counts of each cell."
            raise ValueError(msg)
        return library


class Poisson(_Counts):
    """Poisson distribution of counts."""

    name = "poisson"

    def _log_likelihood(self, out: torch.Tensor, x: torch.Tensor, library: torch.Tensor | None) -> torch.Tensor:
        return (x * self._log_mu(out, library)).sum(0) - self._known(library)  # which is the sum of mu

    def _shared(self, x: torch.Tensor) -> torch.Tensor:
        return -torch.lgamma(x + 1).sum(0)


class NegativeBinomial(_Counts):
    """Negative binomial distribution of counts, of variance mu + mu^2 / theta."""

    name = "nb"

    def __init__(self, n_features: int) -> None:
        super().__init__(n_features)
        self.log_theta = nn.Parameter(torch.zeros(n_features, 1))

    def start(self, X: Matrix) -> None:
        """Also theta, by its moments: the variance beyond Poisson's is the sum of mu^2 over theta."""
        super().start(X)
        p, library = self._shares(X), totals(X)
        squares = _sums(X.multiply(X) if sp.issparse(X) else np.square(X))
        mu2 = p**2 * np.square(library).sum()
        beyond = squares - 2 * p * (X.T @ library) + mu2 - p * library.sum()
        _fill(self.log_theta, np.clip(np.log(mu2) - np.log(np.maximum(beyond, 1e-6 * mu2)), *STARTING_LOG_THETA))

    def _log_likelihood(self, out: torch.Tensor, x: torch.Tensor, library: torch.Tensor | None) -> torch.Tensor:
        return self._each(self._log_mu(out, library), x).sum(0)

    def _each(self, log_mu: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Of each value but for `_shared`, x log mu - (x + theta) log(1 + mu / theta): (features, cells)."""
        log_theta = self._log_theta
        return x * log_mu - (x + log_theta.exp()) * functional.softplus(log_mu - log_theta)

    def _shared(self, x: torch.Tensor) -> torch.Tensor:
        """Sum of log Gamma(x + theta) - log Gamma(theta) - x log theta - log x!, which is 0 where x is 0 or 1.

        In double precision, where there is one: these terms are large if theta is, and their sum small.
        """
        wide = torch.float32 if x.device.type == "mps" else torch.float64
        feature, cell = (x > 1).nonzero(as_tuple=True)
        value, log_theta = x[feature, cell].to(wide), self._log_theta[:, 0].to(wide)
        theta = log_theta.exp()
        terms = torch.lgamma(value + theta[feature]) - torch.lgamma(theta)[feature] - value * log_theta[feature]
        terms = terms - torch.lgamma(value + 1)
        return terms.new_zeros(x.shape[1]).index_put((cell,), terms, accumulate=True).to(x.dtype)

    @property
    def _log_theta(self) -> torch.Tensor:
        return self.log_theta.clamp(max=MOST_LOG_THETA)


class ZeroInflated(NegativeBinomial):
    """Negative binomial distribution of counts, in place of which there is a zero with probability pi."""

    name = "zinb"

    def __init__(self, n_features: int) -> None:
        super().__init__(n_features)
        self.logit_pi = nn.Parameter(torch.zeros(n_features, 1))

    def mean(self, out: torch.Tensor, library: torch.Tensor | None) -> torch.Tensor:
        """Library size, spread over the features, less what is lost to zeros."""
        return torch.sigmoid(-self.logit_pi) * super().mean(out, library)

    def linear(self, weight: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The same, of what zeros leave of the means."""
        weight, bias = super().linear(weight, bias)
        left = functional.logsigmoid(-self.logit_pi)[:, 0]
        return weight, bias + left - left.mean()

    def _each(self, log_mu: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        each = super()._each(log_mu, x)
        return torch.where(x > 0, each, torch.logaddexp(self.logit_pi, each)) - functional.softplus(self.logit_pi)


LIKELIHOODS: dict[str, type[Likelihood]] = {
    cls.name: cls for cls in (Gaussian, NegativeBinomial, ZeroInflated, Poisson, Bernoulli)
}


def likelihood_of(X: Matrix) -> str:
    """What suits the values: "bernoulli" for 0 and 1, "nb" for other counts, "gaussian" for all else."""
    values = X.data if sp.issparse(X) else X
    if _no_counts(values).any():
        return "gaussian"
    return "nb" if (values > 1).any() else "bernoulli"


def check_likelihood(name: str, X: Matrix, modality: str) -> None:
    """Refuse a likelihood that there is not, or that gives some of the values no probability."""
    if name not in LIKELIHOODS:
        msg = f"There is no likelihood {name!r} for modality {modality!r}. Choose one of {list(LIKELIHOODS)}."
        raise ValueError(msg)
    values = X.data if sp.issparse(X) else X
    if LIKELIHOODS[name].counts and (bad := values[_no_counts(values)]).size:
        msg = (
            f"Modality {modality!r} has likelihood {name!r} but holds {bad.size} values that are negative or not whole "
            f"numbers (first: {bad[0]:g}). Give the layer with raw counts: layer={{{modality!r}: 'counts'}}; or choose "
            f"{likelihood_of(X)!r}, which suits the values."
        )
        raise ValueError(msg)
    if name == "bernoulli" and (bad := values[(values != 0) & (values != 1)]).size:
        msg = (
            f"Modality {modality!r} has likelihood {name!r} but holds {bad.size} values other than 0 and 1 (first: "
            f"{bad[0]:g}). Give a layer of zeros and ones; or choose {likelihood_of(X)!r}, which suits the values."
        )
        raise ValueError(msg)


def _sums(X: Matrix) -> NDArray[np.float64]:
    """Of each feature."""
    return np.asarray(X.sum(axis=0, dtype=np.float64)).ravel()


def _fill(parameter: nn.Parameter, values: NDArray[np.float64]) -> None:
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(values[:, None]))


def _no_counts(values: NDArray) -> NDArray[np.bool_]:
    return (values < 0) | (values != np.floor(values))


def _softplus(x: torch.Tensor, at_zero: float) -> torch.Tensor:
    """Softplus, moved so that it has this value at zero."""
    return functional.softplus(x + math.log(math.expm1(at_zero)))
