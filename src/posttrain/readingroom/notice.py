"""UNIMARC notices in the compact line form: one field per line, `#` for a blank in leader, indicators and field 100.

Tag meanings follow the IFLA UNIMARC bibliographic manual: 010 ISBN, 100 coded data (36 characters), 101 language, 102 country,
200 title and responsibility, 210 publication, 215 extent, 225 series, 606 subject, 700 and 701 authors, 801 source. Dates of
entry, audience and similar codes are constants of this world. Leaves out every other field and the conversion to MARCXML, which
`posttrain.rewards.unimarc` has.
"""

from __future__ import annotations

from posttrain.readingroom.vocabulary import CODE_OF
from posttrain.readingroom.world import Book

LEADER = "LDR #####nam##22########45##"
SOURCE = "801 #0$aFR$bRR"
SCRIPT = {"en": "ba", "fr": "ba", "ru": "ca", "zh": "ea"}
CONTENT = ("010", "101", "102", "200", "210", "215", "225", "606", "700", "701")

Subfield = tuple[str, str, str]


def coded(year: int, cataloguing: str, script: str) -> str:
    """Field 100: date entered, type d (monograph complete in one year), year, audience k, cataloguing language, UTF-8, script."""
    return f"100 ##$a20260105d{year}####k##y0{CODE_OF[cataloguing]}y50######{script}"


def fields(book: Book) -> list[str]:
    """Content fields of a book, in tag order."""
    out = [f"010 ##$a{book.isbn}"] if book.isbn else []
    code = CODE_OF[book.lang]
    out.append(f"101 1#$a{code}$c{book.original}" if book.original else f"101 0#$a{code}")
    out.append(f"102 ##$a{book.country}")
    names = ", ".join(a.name for a in book.authors)
    subtitle = f"$e{book.subtitle}" if book.subtitle else ""
    out.append(f"200 1#$a{book.title}{subtitle}$f{names}")
    out.append(f"210 ##$a{book.place}$c{book.publisher}$d{book.year}")
    out.append(f"215 ##$a{book.pages} p.$d{book.size} cm")
    if book.series:
        out.append(f"225 1#$a{book.series[0]}$v{book.series[1]}")
    if book.subject:
        out.append(f"606 ##$a{book.subject}")
    for i, author in enumerate(book.authors):
        given = f"$b{author.given}" if author.given else ""
        out.append(f"70{min(i, 1)} #{1 if author.given else 0}$a{author.family}{given}$4070")
    return out


def lines(book: Book, cataloguing: str) -> str:
    """The whole notice as text. cataloguing: language of the agency's notice (`en` or `fr`)."""
    body = fields(book)
    head = [LEADER, f"001 {book.number}"]
    cut = 1 if book.isbn else 0
    return "\n".join([*head, *body[:cut], coded(book.year, cataloguing, SCRIPT[book.lang]), *body[cut:], SOURCE])


def content(text: str) -> tuple[list[Subfield], list[str], int]:
    """Content subfields (tag, code, value), the other well-formed lines, and how many lines do not parse."""
    found: list[Subfield] = []
    rest: list[str] = []
    broken = 0
    for raw in text.split("\n"):
        line = raw.rstrip()
        if not line:
            continue
        tag = line[:3]
        if tag in ("LDR", "001") and line[3:4] == " " and len(line) > 4:
            rest.append(line)
        elif tag.isdigit() and line[3:4] == " " and line[6:7] == "$" and all(len(p) > 1 for p in line[7:].split("$")):
            if tag in CONTENT:
                found.append((tag, "", line[4:6]))
                found.extend((tag, p[0], p[1:]) for p in line[7:].split("$"))
            else:
                rest.append(line)
        else:
            broken += 1
    return found, rest, broken
