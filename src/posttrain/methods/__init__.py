"""One file, one method. `registry` imports them all, so that every method is known by name."""

from posttrain.methods.dpo import DPO
from posttrain.methods.lm import LM
from posttrain.methods.reward import RewardModel
from posttrain.methods.sft import SFT

__all__ = ["DPO", "LM", "SFT", "RewardModel"]
