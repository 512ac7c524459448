"""Attacks in a grid of techniques and intents, each intent with a benign twin; one verdict of attack success and over-refusal."""

from posttrain.redteam.campaign import RedTeam, RedTeamReport
from posttrain.redteam.lesson import red_team_test

__all__ = ["RedTeam", "RedTeamReport", "red_team_test"]
