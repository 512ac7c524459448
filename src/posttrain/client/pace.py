"""How many calls at a time: more while they succeed, fewer when the server says that it is too many; and how long to wait.

Additive increase, multiplicative decrease: 8 at first, one more per 20 successes, four fifths after each 429.
"""

from __future__ import annotations

import asyncio
import email.utils
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

STEP, SHRINK, LONGEST = 20, 0.8, 60.0


class Pace:
    """Turns for calls. limit: allowed at once, now."""

    def __init__(self, start: int = 8, most: int = 64) -> None:
        if start < 1 or most < 1:
            raise ValueError(f"concurrency starts at {start} and ends at {most}; give 1 or more")
        self.limit, self.most = float(min(start, most)), most
        self.running = self.peak = 0
        self._won = 0
        self._free = asyncio.Condition()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a free place and hold it."""
        async with self._free:
            await self._free.wait_for(lambda: self.running < int(self.limit))
            self.running += 1
            self.peak = max(self.peak, self.running)
        try:
            yield
        finally:
            async with self._free:
                self.running -= 1
                self._free.notify(max(1, int(self.limit) - self.running))

    def won(self) -> None:
        """A call succeeded."""
        self._won += 1
        if self._won % STEP == 0:
            self.limit = min(self.limit + 1, float(self.most))

    def refused(self) -> None:
        """The server said that there are too many."""
        self.limit = max(1.0, self.limit * SHRINK)


def pause(attempt: int, retry_after: str | None, rng: random.Random, unit: float = 1.0) -> float:
    """Seconds to wait before try `attempt` + 1 (from 0): uniform in [0, min(60, 2^attempt)] units, at least what the server asks for (at
    most ten minutes)."""
    drawn = rng.uniform(0, min(LONGEST, 2.0**attempt)) * unit
    return max(drawn, _asked(retry_after))


def _asked(value: str | None) -> float:
    """`Retry-After` in seconds: a number or a date; what is neither counts as nothing."""
    if not value:
        return 0.0
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, TypeError):
            return 0.0
    return min(max(seconds, 0.0), 600.0)
