"""Any model answers: an OpenAI-compatible endpoint (`Endpoint`), or any Model with its answers kept (`Recorded`); a reward behind HTTP."""

from posttrain.client.endpoint import Endpoint
from posttrain.client.money import Budget, BudgetExceeded, Estimate, Price
from posttrain.client.recorded import Recorded
from posttrain.client.scores import RewardEndpoint
from posttrain.client.store import Store
from posttrain.client.wire import CallFailed

__all__ = [
    "Budget",
    "BudgetExceeded",
    "CallFailed",
    "Endpoint",
    "Estimate",
    "Price",
    "Recorded",
    "RewardEndpoint",
    "Store",
]
