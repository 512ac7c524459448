"""One file, one method. `registry` imports them all, so that every method is known by name."""

from posttrain.methods.aot import AOT
from posttrain.methods.apo_zero_unpaired import APOZeroUnpaired
from posttrain.methods.bco import BCO
from posttrain.methods.choose import MultipleChoice
from posttrain.methods.classify import SequenceClassification
from posttrain.methods.cpo import CPO
from posttrain.methods.dft import DFT
from posttrain.methods.distill import Distill
from posttrain.methods.dpo import DPO
from posttrain.methods.embed import Contrastive
from posttrain.methods.extract_answer import QuestionAnswering
from posttrain.methods.grpo import GRPO
from posttrain.methods.kto import KTO
from posttrain.methods.listwise import Listwise
from posttrain.methods.lm import LM
from posttrain.methods.mlm import MaskedLM
from posttrain.methods.orpo import ORPO
from posttrain.methods.ppo import PPO
from posttrain.methods.regress import Regression
from posttrain.methods.reinforce_pp import ReinforcePP
from posttrain.methods.reward import RewardModel
from posttrain.methods.reward_ensemble import RewardEnsemble
from posttrain.methods.reward_labels import RewardLabels
from posttrain.methods.reward_pairs import RewardPairs
from posttrain.methods.reward_scores import RewardScores
from posttrain.methods.rloo import RLOO
from posttrain.methods.sft import SFT
from posttrain.methods.simpo import SimPO
from posttrain.methods.tag import TokenClassification

__all__ = [
    "AOT",
    "BCO",
    "CPO",
    "DFT",
    "DPO",
    "GRPO",
    "KTO",
    "LM",
    "ORPO",
    "PPO",
    "RLOO",
    "SFT",
    "APOZeroUnpaired",
    "Contrastive",
    "Distill",
    "Listwise",
    "MaskedLM",
    "MultipleChoice",
    "QuestionAnswering",
    "Regression",
    "ReinforcePP",
    "RewardEnsemble",
    "RewardLabels",
    "RewardModel",
    "RewardPairs",
    "RewardScores",
    "SequenceClassification",
    "SimPO",
    "TokenClassification",
]
