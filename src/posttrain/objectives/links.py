"""Links of the paired preference losses: from how much the policy raised two responses over the reference to a loss.

Notation: h_w, h_l = log-ratio of the preferred and the other response, policy over reference, summed over tokens; n_w, n_l their lengths
in trained tokens; z = beta * (h_w - h_l). Every link maps vectors [Q] to losses [Q]. Numbers in brackets are arXiv ids.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, NamedTuple

from pydantic import Field
from torch import Tensor
from torch.nn.functional import logsigmoid, relu

from posttrain.core.recipe import Kind

Rate = Annotated[float, Field(ge=0, lt=0.5)]


class Ratios(NamedTuple):
    """Log-ratios and lengths of the two responses of each pair, [Q] each."""

    h_w: Tensor
    h_l: Tensor
    n_w: Tensor
    n_l: Tensor

    def swapped(self) -> Ratios:
        """The same pairs with the preference turned round: the second term of a soft label."""
        return Ratios(self.h_l, self.h_w, self.n_l, self.n_w)


class Link(Kind):
    """A function of a pair's log-ratios."""

    family: ClassVar[str] = "link"

    def __call__(self, pair: Ratios, beta: float, margin: Tensor) -> Tensor:
        """Loss per pair [Q]; `margin` [Q] is subtracted from z."""
        raise AssertionError(f"{type(self).__name__} has no formula")


class Sigmoid(Link):
    """The logistic loss of DPO (2305.18290): -log sigma(z)."""

    name: ClassVar[str] = "sigmoid"

    def __call__(self, pair: Ratios, beta: float, margin: Tensor) -> Tensor:
        return -logsigmoid(beta * (pair.h_w - pair.h_l) - margin)


class Conservative(Link):
    """Label smoothing (Mitchell 2023, note on DPO): a share `flips` of the labels is taken to be wrong."""

    name: ClassVar[str] = "conservative"
    flips: Rate = 0.1
    """Share of labels that may be flipped; 0 is the plain logistic loss."""

    def __call__(self, pair: Ratios, beta: float, margin: Tensor) -> Tensor:
        z = beta * (pair.h_w - pair.h_l) - margin
        return -(1 - self.flips) * logsigmoid(z) - self.flips * logsigmoid(-z)


class Hinge(Link):
    """Hinge of SLiC (2305.10425) and RSO (2309.06657): max(0, 1 - z)."""

    name: ClassVar[str] = "hinge"

    def __call__(self, pair: Ratios, beta: float, margin: Tensor) -> Tensor:
        return relu(1 - (beta * (pair.h_w - pair.h_l) - margin))


class IPO(Link):
    """Identity preference optimisation (2310.12036): regress the difference of mean log-ratios to 1 / (2 beta).

    Its beta is on another scale than DPO's: it is the inverse of the gap to reach.
    """

    name: ClassVar[str] = "ipo"

    def __call__(self, pair: Ratios, beta: float, margin: Tensor) -> Tensor:
        gap = pair.h_w / pair.n_w - pair.h_l / pair.n_l - margin
        return (gap - 1 / (2 * beta)) ** 2
