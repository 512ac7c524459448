"""Personal data by form: e-mail addresses, telephone numbers, payment cards (Luhn), IBANs (ISO 13616, remainder 1 modulo 97).

Cards and IBANs count only with right check digits. Leaves out names, addresses of houses and identity numbers, which need a model.
"""

from __future__ import annotations

import re

from posttrain.detectors.verdict import Span, Verdict, void

MAIL = re.compile(r"\b[\w.+-]{1,64}@(?:[\w-]{1,63}\.){1,4}[a-z]{2,24}\b", re.IGNORECASE)
PHONE = re.compile(
    r"(?<![\w.,/-])(?:\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?|\(\d{2,4}\)[ .-]?|0)\d{1,4}(?:[ .-]\d{2,4}){2,4}(?![\w/-])"
)
CARD = re.compile(r"(?<![\w.])\d(?:[ -]?\d){12,18}(?![\w.])")
IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
EXAMPLES = re.compile(
    r"@(?:[\w-]+\.)*example\.(?:com|org|net)$|@(?:[\w-]+\.)*(?:test|invalid|localhost)$", re.IGNORECASE
)


def luhn(digits: str) -> bool:
    """The check digit of a payment card.

    >>> luhn("4539578763621486"), luhn("4539578763621487")
    (True, False)
    """
    total = 0
    for place, c in enumerate(reversed(digits)):
        value = int(c) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


def iban(text: str) -> bool:
    """The check digits of an account number.

    >>> iban("GB82 WEST 1234 5698 7654 32"), iban("GB82 WEST 1234 5698 7654 33")
    (True, False)
    """
    plain = text.replace(" ", "")
    turned = plain[4:] + plain[:4]
    return 15 <= len(plain) <= 34 and int("".join(str(int(c, 36)) for c in turned)) % 97 == 1


def personal(prompt: str, response: str) -> Verdict:
    """Flagged where the response holds an address, a number or an account of somebody; reserved example domains do not count."""
    empty = void("personal", response)
    if empty:
        return empty
    spans = [
        Span(m.start(), m.end(), "e-mail address") for m in MAIL.finditer(response) if not EXAMPLES.search(m.group())
    ]
    spans += [Span(m.start(), m.end(), "payment card") for m in CARD.finditer(response)
              if luhn(d := re.sub(r"\D", "", m.group())) and len(set(d)) > 1]  # fmt: skip
    spans += [Span(m.start(), m.end(), "account number") for m in IBAN.finditer(response) if iban(m.group())]
    spans += [
        Span(m.start(), m.end(), "telephone number")
        for m in PHONE.finditer(response)
        if 8 <= len(re.sub(r"\D", "", m.group())) <= 15
    ]
    kinds = sorted({s.why for s in spans})
    told = ", ".join(kinds) or "none found"
    return Verdict(
        "personal", "personal" if spans else "none", bool(spans), float(bool(spans)), tuple(sorted(spans)), told
    )
