"""What a written mathematical result is worth: numbers in any everyday or LaTeX spelling, tuples, sets, and formulas.

    parse(r"\\frac{1}{2}") and parse("0.5") are equal; so are "1,234.5 km" and "1234.5", "50 %" and "50", "(x+1)^2" and "x^2+2x+1".

A recursive descent over a small grammar, exact fractions where numbers are rational. Formulas with variables are equal when they agree at
fixed points. Nothing is evaluated as code, and sizes are bounded, so hostile text costs microseconds. Leaves out equations with several
solutions, matrices and complex numbers: such text has no value here and is compared as text by the caller.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction

Number = Fraction | float
Term = Callable[[Mapping[str, float]], Number]

LONGEST, DEEPEST, HIGHEST = 500, 30, 512
"""Characters, nested brackets, and the largest exact exponent."""
POINTS = (0.7310585, 1.6180339, 2.2360679, 3.3166247, 0.2718281)
FUNCTIONS: Mapping[str, Callable[[float], float]] = {
    "sqrt": math.sqrt, "sin": math.sin, "cos": math.cos, "tan": math.tan, "ln": math.log, "log": math.log10, "exp": math.exp,
    "abs": abs, "arcsin": math.asin, "arccos": math.acos, "arctan": math.atan,
}  # fmt: skip
SPACES = "\u00a0\u2009\u202f~"
REWRITES: tuple[tuple[str, str], ...] = (
    (r"\\(?:left|right|displaystyle|limits|!|,|;|:|quad|qquad)(?![a-zA-Z])|\\ ", " "),
    (r"\\[dt]frac", r"\\frac"),
    (r"\\(?:text|mathrm|mbox|textbf|mathbf|operatorname)\s*\{([^{}]*)\}", r" \1 "),
    (r"\^\s*(?:\{\s*)?\\circ(?:\s*\})?|°", " deg "),
    (r"\\(?:cdot|times|ast)(?![a-zA-Z])|[×·⋅]", "*"),
    (r"\\div(?![a-zA-Z])|÷", "/"),
    (r"\\pi(?![a-zA-Z])|π", " pi "),
    (r"\\infty(?![a-zA-Z])|∞", " inf "),
    (r"√\s*(\d+)", r"sqrt(\1)"),
    (r"\\%|％", "%"),
    (r"\\\{", "{{"),
    (r"\\\}", "}}"),
    (r"\\[$€£]|[$€£¥₽]", " "),
    (r"[−–—]", "-"),
    (r"\*\*", "^"),
)
COMPILED = tuple((re.compile(pattern), to) for pattern, to in REWRITES)
GROUPED = re.compile(r"(?<![\d.,])(\d{1,3}(?:([,' ])\d{3})(?:\2\d{3})*)(?=[.,]?\d*(?:\D|$))(?!\d)")
DECIMAL_COMMA = re.compile(r"(?<![\d.,])(\d+),(\d+)(?![\d,.])")
NAMED = re.compile(r"^\s*[a-zA-Z]\s*(?:=|≈)\s*")
UNIT = re.compile(
    r"(?<=[\d)}\s])\s*(%|(?:deg(?:rees?)?|[a-zA-Zµ]{2,}|[а-яА-Я]{1,}\.?|(?<=\s)[a-zA-Z])(?:\s*(?:/|per)\s*[a-zA-Z]+)?(?:\s*\^\s*\{?[23]\}?|[²³])?"
    r"(?:\s+[a-zA-Z]{2,})*)\.?\s*$"
)
UNITS: Mapping[str, str] = {
    **{u: u for u in ("m", "cm", "mm", "km", "kg", "g", "mg", "l", "ml", "s", "h", "min", "ms", "mph", "%", "deg", "j", "w", "v")},
    "km/h": "km/h", "m/s": "m/s",
    "meter": "m", "metre": "m", "kilometer": "km", "kilometre": "km", "centimeter": "cm", "centimetre": "cm", "gram": "g",
    "kilogram": "kg", "liter": "l", "litre": "l", "second": "s", "sec": "s", "hour": "h", "hr": "h", "minute": "min",
    "degree": "deg", "percent": "%", "м": "m", "км": "km", "кг": "kg", "г": "g", "см": "cm",
}  # fmt: skip
"""Units that are no product of letters, by their spellings; longer words are units too."""
TOKEN = re.compile(r"\s*(\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+|\\?[a-zA-Z]+|[-+*/^(){}\[\]|_!])")


class Unreadable(ValueError):
    """The text has no value in this grammar."""


@dataclass(frozen=True, slots=True)
class Value:
    """What was written. items: one term for a number or formula, several for a tuple, list or set. brackets: as written around
    several (``()``, ``[)``, ``{}``, or nothing for a bare list). unit: what followed the number, lower case, ``""`` for none."""

    items: tuple[Term, ...]
    variables: frozenset[str]
    brackets: str = ""
    unit: str = ""


def plain(text: str) -> str:
    """LaTeX commands, currencies, dashes and thousands separators to one spelling."""
    for space in SPACES:
        text = text.replace(space, " ")
    text = text.strip().strip("$").strip().rstrip(".。")
    for pattern, to in COMPILED:
        text = pattern.sub(to, text)
    text = re.sub(r"(?<=\d)\{,\}(?=\d{3})", ",", text)
    return re.sub(r"\s+", " ", text).strip()


def parse(text: str) -> Value:
    """The value of a written result. Raises Unreadable."""
    if len(text) > LONGEST:
        raise Unreadable(f"longer than {LONGEST} characters")
    text = NAMED.sub("", plain(text))
    several = _several(text)
    if several is not None:
        brackets, pieces = several
        parsed = [_single(piece) for piece in pieces]
        return Value(tuple(t for t, _ in parsed), frozenset().union(*(v for _, v in parsed)), brackets)
    text = _numbers(text)
    unit = UNIT.search(text)
    if unit is not None and unit.start() and _unit(unit.group(1)):
        with suppress(Unreadable):
            term, variables = _read(text[: unit.start()])
            return Value((term,), variables, unit=_unit(unit.group(1)))
    term, variables = _read(text)
    return Value((term,), variables)


def _unit(text: str) -> str:
    """One spelling of a unit; empty for what may be a product of variables."""
    name = " ".join(text.lower().split())
    known = UNITS.get(name) or UNITS.get(name.rstrip("s."))
    return known or (name.rstrip("s") if len(name) > 2 and name not in ("pi", "inf") else "")


def _numbers(text: str) -> str:
    """1,234,567.8 and 1 234 567,8 and 3,14 as Python writes them."""
    text = GROUPED.sub(lambda m: re.sub(r"[,' ]", "", m.group(1)), text)
    return DECIMAL_COMMA.sub(r"\1.\2", text)


def _several(text: str) -> tuple[str, list[str]] | None:
    """(brackets, pieces) of a tuple, interval, set or bare list; None for a single value."""
    if re.fullmatch(r"\{\{.*\}\}", text) and text.count("{{") == 1:
        return "{}", _pieces(text[2:-2])
    if text[:1] in "([" and text[-1:] in ")]" and len(text) > 2:
        pieces = _pieces(text[1:-1])
        return (text[0] + text[-1], pieces) if len(pieces) > 1 else None
    whole = _numbers(text)
    pieces = _pieces(whole)
    return ("", pieces) if len(pieces) > 1 else None


def _pieces(text: str) -> list[str]:
    """Parts between commas (or semicolons, or the word and) outside brackets."""
    text = re.sub(r"\s(?:and|et|и)\s", ", ", text)
    cut = ";" if ";" in text else ","
    if re.fullmatch(r"\s*\d{1,3}(,\d{3})+(\.\d+)?\s*", text):
        return [text]
    out, depth, start = [], 0, 0
    for place, char in enumerate(text):
        depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(char, 0)
        if char == cut and depth == 0:
            out.append(text[start:place])
            start = place + 1
    return [*out, text[start:]]


def _single(text: str) -> tuple[Term, frozenset[str]]:
    return _read(_numbers(NAMED.sub("", text.strip())))


def _read(text: str) -> tuple[Term, frozenset[str]]:
    reader = _Reader(text)
    term = reader.sum(0)
    if reader.here is not None:
        raise Unreadable(f"{reader.here!r} is left over")
    return term, frozenset(reader.variables)


class _Reader:
    """Recursive descent: sum of products of powers of atoms."""

    def __init__(self, text: str) -> None:
        self.tokens: list[str] = []
        self.variables: set[str] = set()
        at = 0
        text = text.strip()
        while at < len(text):
            found = TOKEN.match(text, at)
            if found is None:
                raise Unreadable(f"{text[at]!r} is not understood")
            self.tokens.append(found.group(1))
            at = found.end()
        self.at = 0

    @property
    def here(self) -> str | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def take(self, wanted: str | None = None) -> str:
        token = self.here
        if token is None or (wanted is not None and token != wanted):
            raise Unreadable(f"expected {wanted or 'more'}, found {token or 'the end'}")
        self.at += 1
        return token

    def sum(self, depth: int) -> Term:
        if depth > DEEPEST:
            raise Unreadable("nested too deeply")
        left = self.product(depth)
        while self.here in ("+", "-"):
            sign = self.take()
            left = _added(left, self.product(depth), -1 if sign == "-" else 1)
        return left

    def product(self, depth: int) -> Term:
        left = self.power(depth)
        mixed = self.at and re.fullmatch(r"\d+", self.tokens[self.at - 1])
        while self.here is not None and self.here not in "+-)]}|":
            if self.here == "/":
                self.take()
                left = _divided(left, self.power(depth))
            elif self.here in ("\\frac", "frac") and mixed:  # 2\frac{1}{2} is two and a half
                left = _added(left, self.power(depth), 1)
            else:
                if self.here == "*":
                    self.take()
                elif re.match(r"[\d.]", self.here):
                    raise Unreadable("two numbers side by side")
                left = _multiplied(left, self.power(depth))
            mixed = None
        return left

    def power(self, depth: int) -> Term:
        if depth > DEEPEST:
            raise Unreadable("nested too deeply")
        if self.here in ("-", "+"):
            sign = -1 if self.take() == "-" else 1
            return _scaled(self.power(depth + 1), sign)
        base = self.atom(depth)
        if self.here == "^":
            self.take()
            return _raised(base, self.power(depth + 1))
        return base

    def atom(self, depth: int) -> Term:
        token = self.take()
        if re.match(r"[\d.]", token):
            return _constant(_exact(token))
        if token in ("(", "[", "{"):
            inside = self.sum(depth + 1)
            self.take({"(": ")", "[": "]", "{": "}"}[token])
            return inside
        if token == "|":
            inside = self.sum(depth + 1)
            self.take("|")
            return _applied(abs, inside)
        name = token.lstrip("\\")
        if name == "frac":
            return _divided(self.argument(depth), self.argument(depth))
        if name == "sqrt" and self.here == "[":
            self.take("[")
            root = self.sum(depth + 1)
            self.take("]")
            return _raised(self.argument(depth), _divided(_constant(Fraction(1)), root))
        if name in FUNCTIONS:
            return _applied(FUNCTIONS[name], self.argument(depth))
        if name in ("pi", "e", "inf"):
            return _constant({"pi": math.pi, "e": math.e, "inf": math.inf}[name])
        return self.letters(name)

    def letters(self, name: str) -> Term:
        """xy is x times y; longer words are no formula."""
        if not name.isalpha() or len(name) > 2:
            raise Unreadable(f"{name!r} is a word")
        self.variables.update(name)
        return lambda at: math.prod(at[v] for v in name)

    def argument(self, depth: int) -> Term:
        """A braced or bracketed argument, or one digit or letter as LaTeX allows."""
        if self.here in ("{", "("):
            return self.atom(depth + 1)
        if self.here is not None and re.fullmatch(r"\d\d", self.here):  # \frac12
            self.tokens[self.at : self.at + 1] = list(self.here)
        return self.power(depth + 1)


def _exact(token: str) -> Fraction:
    exponent = token.lower().partition("e")[2]
    if abs(int(exponent or 0)) > HIGHEST:
        raise Unreadable("an exponent beyond all bounds")
    return Fraction(token)


def _constant(value: Number) -> Term:
    return lambda at: value


def _scaled(a: Term, sign: int) -> Term:
    return lambda at: sign * a(at)


def _added(a: Term, b: Term, sign: int) -> Term:
    return lambda at: a(at) + sign * b(at)


def _multiplied(a: Term, b: Term) -> Term:
    return lambda at: a(at) * b(at)


def _divided(a: Term, b: Term) -> Term:
    return lambda at: a(at) / b(at)


def _applied(function: Callable[[float], float], a: Term) -> Term:
    return lambda at: function(float(a(at)))


def _raised(a: Term, b: Term) -> Term:
    def raised(at: Mapping[str, float]) -> Number:
        base, exponent = a(at), b(at)
        small = isinstance(base, Fraction) and max(base.numerator.bit_length(), base.denominator.bit_length()) <= 64
        if small and isinstance(exponent, Fraction) and exponent.denominator == 1 and abs(exponent) <= HIGHEST:
            return Fraction(base) ** int(exponent)
        made = float(base) ** float(exponent)
        if isinstance(made, complex):
            raise ValueError("a root of a negative number")
        return made

    return raised


def equal(a: Value, b: Value, tolerance: float = 1e-6) -> bool:
    """Is the same meant? tolerance is relative, and absolute below 1. Units decide only where both have one; sets and bare lists
    have no order."""
    if len(a.items) != len(b.items) or a.variables != b.variables:
        return False
    if a.brackets and b.brackets and a.brackets != b.brackets:
        return False
    if a.unit and b.unit and a.unit != b.unit:
        return False
    points = [dict.fromkeys(sorted(a.variables), 0.0)] if not a.variables else _points(sorted(a.variables))
    left, right = [_values(t, points) for t in a.items], [_values(t, points) for t in b.items]
    if len(left) > 1 and (a.brackets in ("", "{}") or b.brackets in ("", "{}")):
        left, right = sorted(left, key=_order), sorted(right, key=_order)
    return all(_agree(x, y, tolerance, len(points)) for x, y in zip(left, right, strict=True))


def _order(values: list[float | None]) -> list[float]:
    return [math.inf if v is None else v for v in values]


def _points(variables: list[str]) -> list[dict[str, float]]:
    return [
        {v: POINTS[(i + 2 * j) % len(POINTS)] + 0.1 * j for j, v in enumerate(variables)} for i in range(len(POINTS))
    ]


def _values(term: Term, points: list[dict[str, float]]) -> list[float | None]:
    """The term at each point; None where it has no real value there."""
    out: list[float | None] = []
    for at in points:
        try:
            out.append(float(term(at)))
        except (ValueError, ZeroDivisionError, OverflowError):
            out.append(None)
    return out


def _agree(a: list[float | None], b: list[float | None], tolerance: float, points: int) -> bool:
    shared = [(x, y) for x, y in zip(a, b, strict=True) if x is not None and y is not None]
    if len(shared) < min(points, 3) or any((x is None) != (y is None) for x, y in zip(a, b, strict=True)):
        return False
    return all(x == y or abs(x - y) <= tolerance * max(1.0, abs(x), abs(y)) for x, y in shared)
