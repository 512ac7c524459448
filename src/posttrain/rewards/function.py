"""A reward that is a Python function, named by its module so that a recipe can hold it: ``reward: my_rewards:short``.

The function is any that `as_reward` takes. Naming it runs the code of its module: name only modules that you would import yourself.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from posttrain.core.group import Group, Score
from posttrain.core.protocols import Reward
from posttrain.rewards.criterion import Criterion, RewardExample, as_reward


class Function(Criterion):
    """What a function of yours says, found by `module:function`."""

    name: ClassVar[str] = "function"
    verifiable: ClassVar[bool] = False
    call: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]
    """Module and function; modules beside you (in the working directory) are found."""

    @cached_property
    def reward(self) -> Reward:
        """The function as a Reward. Raises ValueError naming what cannot be found."""
        module, _, name = self.call.partition(":")
        here = str(Path.cwd())
        if here not in sys.path:
            sys.path.append(here)
        try:
            found = getattr(import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise ValueError(
                f"reward {self.call}: {error}; give module:function of something that can be imported"
            ) from error
        return as_reward(found)

    def __call__(self, groups: Sequence[Group]) -> list[list[Score]]:
        return self.reward(groups)

    @classmethod
    def example(cls) -> RewardExample:
        return RewardExample()
