"""The embedded world with known truth: a library's reference desk, simulated. See `room.ReadingRoom`."""

from posttrain.readingroom.annotators import Annotator, annotate
from posttrain.readingroom.gold import GoldReward, gold_answer
from posttrain.readingroom.room import ReadingRoom
from posttrain.readingroom.world import SIMULATION_NOTE, VERSION

__all__ = ["SIMULATION_NOTE", "VERSION", "Annotator", "GoldReward", "ReadingRoom", "annotate", "gold_answer"]
