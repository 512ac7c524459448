"""L5, fidelity: does the record say what the gold facts say, and nothing that neither they nor the source say?

Every content subfield falls in one class: matched, misplaced, supported, repeated, padding, invented (definitions at `_classify`).
Recall is the weighted share of gold facts found in the right place, with half credit in a related code; precision is
``matched / (matched + misplaced + repeated + padding + invented)``; F = 2PR/(P+R). Supported subfields are neutral: pasting source
words never raises precision. The order of fields changes nothing.

Links and institution codes ($2 $3 $5 $6 $7 $8 $9) cannot be read off a source: they count neither way where the gold has the same one
and as invented where it has not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from posttrain.rewards.unimarc.extract import extract
from posttrain.rewards.unimarc.fields import Record
from posttrain.rewards.unimarc.fold import Budget, fold, number, similarity
from posttrain.rewards.unimarc.grading import is_content
from posttrain.rewards.unimarc.profile import load_profile
from posttrain.rewards.unimarc.support import Source

SUPPORTED_AT_MOST = 10
_LINKS = frozenset("2356789")
_RELATED_TAGS = (
    ("210", "214"),
    ("700", "701", "702"),
    ("710", "711", "712"),
    ("720", "721", "722"),
    ("606", "607", "608", "610"),
)
_FAMILY = {tag: tags[0] for tags in _RELATED_TAGS for tag in tags}
_RELATED_CODES = {
    ("200", "f"): "f",
    ("200", "g"): "f",
    ("200", "a"): "a",
    ("200", "d"): "a",
    ("200", "e"): "a",
    ("200", "i"): "a",
}


@dataclass(frozen=True, slots=True)
class Fact:
    """One gold value in its place."""

    tag: str
    code: str
    value: str
    folded: str

    @property
    def weight(self) -> float:
        """Title 3; responsibility, year, ISBN and ISSN 2; others 1."""
        if self.tag == "200":
            return {"a": 3.0, "f": 2.0, "g": 2.0}.get(self.code, 1.0)
        if (self.tag in ("210", "214") and self.code == "d") or (self.tag in ("010", "011") and self.code == "a"):
            return 2.0
        return 2.0 if self.tag[0] == "7" and self.code in "ab" else 1.0


@dataclass(frozen=True, slots=True)
class Fidelity:
    """precision, recall, f1 are None without gold facts.

    supported, invented: ``tag $code value`` of such subfields, verbatim. missing: gold facts not found at all. counts: subfields
    per class. anchored: indices of the fields that carry a matched fact. supported_share: among what is neither matched nor
    misplaced nor repeated, the share that the source supports (1 where there is nothing).
    """

    precision: float | None
    recall: float | None
    f1: float | None
    supported: tuple[str, ...]
    invented: tuple[str, ...]
    missing: tuple[str, ...]
    counts: Mapping[str, int]
    anchored: frozenset[int]
    supported_share: float


def _comparable(tag: str, code: str, value: str) -> str:
    """Folded value; numbers compare without hyphens."""
    return number(value) if tag in ("010", "011") and code in "ayz" else fold(value)


def _place(tag: str, code: str) -> tuple[str, str]:
    """Family of a place: values of related places earn half credit for each other."""
    return _FAMILY.get(tag, tag), _RELATED_CODES.get((tag, code), code)


def facts_of(gold: Record | str | bytes | Sequence[Any] | Mapping[str, Any]) -> tuple[Fact, ...]:
    """Gold facts of a record in any form, or of a list of ``(tag, code, value)`` or ``{"tag", "code", "value"}``.

    Raises ValueError for a gold that is neither, or holds no content.
    """
    rows = _rows(gold)
    facts = (Fact(t, c, v, _comparable(t, c, v)) for t, c, v in rows if is_content(t) and c not in _LINKS)
    kept = tuple(fact for fact in facts if fact.folded)
    if not kept:
        raise ValueError(
            "the gold holds no content fact (010, 011, 200-225, 3XX, 6XX, 7XX); fidelity needs at least one"
        )
    return kept


def links_of(gold: Record | str | bytes | Sequence[Any] | Mapping[str, Any]) -> frozenset[tuple[str, str, str]]:
    """Links and institution codes of the gold: ``(tag, code, value)``."""
    return frozenset(row for row in _rows(gold) if row[1] in _LINKS)


def _rows(gold: Record | str | bytes | Sequence[Any] | Mapping[str, Any]) -> list[tuple[str, str, str]]:
    if isinstance(gold, (Record, str, bytes)):
        found = extract(gold)
        if found.record is None:
            raise ValueError(f"the gold record cannot be read: {found.fault}; give a record in one of the three forms")
        return _content(found.record)
    return [_row(row) for row in (gold.get("facts", ()) if isinstance(gold, Mapping) else gold)]


def _row(row: Any) -> tuple[str, str, str]:
    try:
        tag, code, value = (row["tag"], row["code"], row["value"]) if isinstance(row, Mapping) else row
    except (KeyError, ValueError, TypeError):
        raise ValueError(f"gold fact {row!r} is neither (tag, code, value) nor a mapping with these keys") from None
    return str(tag), str(code), str(value)


def _content(record: Record) -> list[tuple[str, str, str]]:
    return [(f.tag, c, v) for f in record.fields if not f.is_control and is_content(f.tag) for c, v in f.subfields]


@dataclass(slots=True)
class _Item:
    """A content subfield of the answer on its way to a class."""

    field: int
    fact: Fact
    kind: str = ""
    score: float = 0.0


def _match(items: list[_Item], facts: Sequence[Fact]) -> list[float]:
    """Give each item at most one gold fact. Returns credit per fact: 1 or a similarity in place, half in a related place."""
    credit = [0.0] * len(facts)
    free: dict[tuple[str, str, str], list[int]] = {}
    by_place: dict[tuple[str, str], list[int]] = {}
    for n, fact in enumerate(facts):
        free.setdefault((fact.tag, fact.code, fact.folded), []).append(n)
        by_place.setdefault((fact.tag, fact.code), []).append(n)
    for item in items:
        if found := free.get((item.fact.tag, item.fact.code, item.fact.folded)):
            credit[found.pop(0)] = 1.0
            item.kind, item.score = "matched", 1.0
    left = {n for found in free.values() for n in found}
    _match_alike(items, facts, by_place, left, credit)
    related: dict[tuple[str, str, str], list[int]] = {}
    for n in sorted(left):
        related.setdefault((*_place(facts[n].tag, facts[n].code), facts[n].folded), []).append(n)
    for item in items:
        key = (*_place(item.fact.tag, item.fact.code), item.fact.folded)
        if not item.kind and (found := related.get(key)):
            credit[found.pop(0)] = 0.5
            item.kind = "misplaced"
    return credit


def _match_alike(
    items: list[_Item],
    facts: Sequence[Fact],
    by_place: Mapping[tuple[str, str], list[int]],
    left: set[int],
    credit: list[float],
) -> None:
    """Match what is nearly equal in the same place, most alike first, whatever the order of fields."""
    budget, pairs = Budget(), []
    values = sorted({(it.fact.tag, it.fact.code, it.fact.folded) for it in items if not it.kind})
    alike: dict[tuple[str, str, str], list[tuple[float, int]]] = {}
    for tag, code, value in values:
        for n in by_place.get((tag, code), ()):
            if n in left and (s := similarity(value, facts[n].folded, budget)):
                alike.setdefault((tag, code, value), []).append((s, n))
    for k, item in enumerate(items):
        if not item.kind:
            for s, n in alike.get((item.fact.tag, item.fact.code, item.fact.folded), ()):
                pairs.append((-s, item.fact.folded, n, k))
    for minus, _, n, k in sorted(pairs):
        if n in left and not items[k].kind:
            left.discard(n)
            items[k].kind, items[k].score, credit[n] = "matched", -minus, -minus


def _classify(items: list[_Item], facts: Sequence[Fact], source: Source | None) -> None:
    """Name a class for every item without one.

    repeated: a further copy of a value in the same place. misplaced: a gold value elsewhere. supported: in the source (only the
    first ten; none longer than half the source). padding: supported beyond that. invented: the rest.
    """
    gold_values = {fact.folded for fact in facts}
    taken = Counter((it.fact.tag, it.fact.code, it.fact.folded) for it in items if it.kind)
    supported = 0
    for item in items:
        if item.kind:
            continue
        fact = item.fact
        key = (fact.tag, fact.code, fact.folded)
        if taken[key]:
            item.kind = "repeated"
        elif fact.folded and fact.folded in gold_values:
            item.kind = "misplaced"
        elif source is not None and _supported(fact, source):
            supported += 1
            long = len(fact.folded) > len(source.folded) / 2
            item.kind = "padding" if long or supported > SUPPORTED_AT_MOST else "supported"
        else:
            item.kind = "invented"
        taken[key] += 1


def _supported(fact: Fact, source: Source) -> bool:
    # What is longer than the source cannot stand in it; asking first keeps huge values cheap.
    within = len(fact.folded) <= len(source.folded) + 40
    return within and fact.code not in _LINKS and source.supports(fact.tag, fact.code, fact.value)


def _items(record: Record, links: frozenset[tuple[str, str, str]]) -> list[_Item]:
    out = []
    for i, f in enumerate(record.fields):
        if f.is_control or not is_content(f.tag):
            continue
        for code, value in f.subfields:
            if code in _LINKS and (f.tag, code, value) in links:
                continue
            out.append(_Item(i, Fact(f.tag, code, value, _comparable(f.tag, code, value))))
    return out


def judge(
    record: Record, facts: Sequence[Fact], source: Source | None, links: frozenset[tuple[str, str, str]] = frozenset()
) -> Fidelity:
    """Fidelity of one record; `facts` empty = no gold, only `invented` and the supported share mean something."""
    items = _items(record, links)
    credit = _match(items, facts)
    _classify(items, facts, source)
    counts = Counter(it.kind for it in items)
    shown = {kind: tuple(_shown(it.fact) for it in items if it.kind == kind) for kind in ("supported", "invented")}
    extra = counts["supported"] + counts["padding"] + counts["invented"]
    share = counts["supported"] / extra if extra else 1.0
    anchored = frozenset(it.field for it in items if it.kind == "matched")
    missing = tuple(_shown(fact) for fact, c in zip(facts, credit, strict=True) if not c)
    precision = recall = f1 = None
    if facts:
        matched = sum(it.score for it in items if it.kind == "matched")
        judged = sum(counts[k] for k in ("matched", "misplaced", "repeated", "padding", "invented"))
        precision = matched / judged if judged else 0.0
        recall = sum(c * fact.weight for c, fact in zip(credit, facts, strict=True)) / sum(
            fact.weight for fact in facts
        )
        f1 = 2 * precision * recall / (precision + recall) if matched else 0.0
    return Fidelity(
        precision, recall, f1, shown["supported"], shown["invented"], missing, dict(counts), anchored, share
    )


def _shown(fact: Fact) -> str:
    return f"{fact.tag} ${fact.code} {fact.value}"


def fidelity(
    xml: str | bytes | Record,
    gold: Record | str | bytes | Sequence[Any] | None = None,
    source: str | None = None,
    profile: str = "ifla",
) -> Fidelity:
    """Fidelity of a record to gold facts, a source text, or both.

    gold: a record in any form or a list of facts. A text that is no record has nothing matched. Raises ValueError where both
    are absent or the gold cannot be read.
    """
    if gold is None and source is None:
        raise ValueError("fidelity needs gold facts, a source text, or both")
    facts = () if gold is None else facts_of(gold)
    record = extract(xml).record
    links = frozenset() if gold is None else links_of(gold)
    prepared = None if source is None else Source(source, load_profile(profile))
    if record is None:
        zero = 0.0 if facts else None
        missing = tuple(_shown(fact) for fact in facts)
        return Fidelity(zero, zero, zero, (), (), missing, {}, frozenset(), 0.0)
    return judge(record, facts, prepared, links)
