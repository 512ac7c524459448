"""Synthetic data: critique and revise, generators with provenance, and a ledger of everything that was dropped."""

from posttrain.synth.constitution import Constitution, Principle
from posttrain.synth.refine import Refined, Refiner, critique_and_refine

__all__ = ["Constitution", "Principle", "Refined", "Refiner", "critique_and_refine"]
