"""Text of a row while its tokens arrive.

A token may end inside a UTF-8 character and a stop string may straddle tokens, so text is held back until it is certain: no event
ever carries a replacement character that a later byte would have completed, nor the beginning of a stop string.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

REPLACEMENT = "\ufffd"
PATIENCE = 8  # tokens to wait for the end of a character; after that the bytes are taken to be invalid
OVERLAP = 6  # tokens decoded again before the new ones, so that word-boundary marks of the tokenizer come out right


class TextStream:
    """Tokens in, settled text out.

    >>> stream = TextStream(tokenizer, stop=("END",))
    >>> stream.push(17), stream.finish()
    """

    def __init__(self, tokenizer: Any, stop: Sequence[str] = ()) -> None:
        self.tokenizer, self.stop = tokenizer, tuple(s for s in stop if s)
        self.ids: list[int] = []
        self.read = 0  # tokens whose text is settled
        self.pending = ""  # settled text held back because it may begin a stop string
        self.text = ""  # everything given out
        self.stopped = False

    def _decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def _new(self, last: bool) -> str:
        start = max(0, self.read - OVERLAP)
        known, full = self._decode(self.ids[start : self.read]), self._decode(self.ids[start:])
        if not last and full.endswith(REPLACEMENT) and len(self.ids) - self.read < PATIENCE:
            return ""
        self.read = len(self.ids)
        return full[len(known) :]

    def push(self, token: int) -> str:
        """Text that became certain with this token. Sets `stopped` when a stop string is complete; the rest is cut."""
        self.ids.append(token)
        return self._settle(self._new(last=False), last=False)

    def finish(self) -> str:
        """The text still held back at the end of a row."""
        return "" if self.stopped else self._settle(self._new(last=True), last=True)

    def _settle(self, new: str, last: bool) -> str:
        text = self.pending + new
        found = [at for at in (text.find(s) for s in self.stop) if at >= 0]
        if found:
            self.stopped, self.pending = True, ""
            out = text[: min(found)]
        else:
            hold = 0 if last else max((_overhang(text, s) for s in self.stop), default=0)
            out, self.pending = (text[: len(text) - hold], text[len(text) - hold :])
        self.text += out
        return out


def _overhang(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop` without completing it."""
    return next((n for n in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:n])), 0)
