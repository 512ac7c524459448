"""Names that cannot be guessed: ULIDs for rows that are read in order of time, random tokens for everything people may see."""

from __future__ import annotations

import hashlib
import secrets
import time

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def ulid(now: float | None = None) -> str:
    """26 characters: milliseconds since 1970, then 80 random bits (github.com/ulid/spec)."""
    value = (int((time.time() if now is None else now) * 1000) << 80) | secrets.randbits(80)
    return "".join(_ALPHABET[(value >> shift) & 31] for shift in range(125, -1, -5))


def token() -> str:
    """128 random bits for ids in addresses, 22 characters."""
    return secrets.token_urlsafe(16)


def secret() -> str:
    """256 random bits: sessions, invitations, API tokens."""
    return secrets.token_urlsafe(32)


def digest(text: str) -> str:
    """SHA-256, hex. Secrets are stored as this."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
