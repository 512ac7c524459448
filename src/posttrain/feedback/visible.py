"""Untrusted text made harmless to look at: control, escape, zero-width and direction characters become marks that one can see.

A NUL shows as ␀, a right-to-left override as ⟨U+202E⟩. Lines and tabs stay. Ordinary right-to-left letters stay, too: only
characters that steer the display are marked (Unicode Technical Report 36; Boucher and Anderson 2021 on overrides in source code).
"""

from __future__ import annotations

import re

# C0 without tab and newline, DEL and C1, soft hyphen, Arabic letter mark, Mongolian separator, zero-width and direction controls,
# line and paragraph separators, invisible operators, deprecated formats, byte order mark, surrogates, tags.
_STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)


def _mark(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"⟨U+{code:04X}⟩"


def visible(text: str) -> str:
    """`text` with every steering character as a visible mark; Windows line ends become plain ones.

    >>> visible("a\\x00b\\u202ec")
    'a␀b⟨U+202E⟩c'
    """
    return _STEERING.sub(_mark, text.replace("\r\n", "\n"))
