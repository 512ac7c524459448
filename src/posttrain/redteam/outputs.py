"""What a campaign leaves behind: results.jsonl, summary.json, JUnit for CI, SARIF for code scanners, a hit list, one page.

The page is built by whoever may use the report room; here are the plain files. Harmful text stays in results.jsonl only: every other file
shows it redacted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as xml

from posttrain.core.files import write_json, write_text
from posttrain.redteam.gate import GateVerdict, verdict_json
from posttrain.redteam.pairs import redact
from posttrain.redteam.rates import Row, rates, share, success_at
from posttrain.redteam.techniques import FAMILIES

KS = (1, 5, 10, 25)


def summary(
    rows: Sequence[Row], not_run: Mapping[str, str], upper_bound: bool, verdict: GateVerdict | None
) -> dict[str, Any]:
    """Figures of the whole, by language, family and technique."""
    out: dict[str, Any] = {
        "schema": "redteam-summary/1",
        "pooled": rates(rows).to_json(),
        "appropriate_refusal": _appropriate(rows),
        "success_at": {str(k): v for k in KS if (v := success_at(rows, k)) is not None},
        "success_is_upper_bound": upper_bound,
        "human_validated": False if all(not str(r["checked"]).startswith("human") for r in rows) else "in part",
        "not_run": dict(not_run),
    }
    for name, field in (
        ("by_language", "lang"),
        ("by_family", "family"),
        ("by_technique", "technique"),
        ("by_category", "category"),
    ):
        found: dict[str, list[Row]] = {}
        for row in rows:
            found.setdefault(str(row[field]), []).append(row)
        out[name] = {key: rates(part).to_json() for key, part in sorted(found.items())}
    if verdict is not None:
        out["gate"] = verdict_json(verdict)
    return out


def _appropriate(rows: Sequence[Row]) -> dict[str, Any] | None:
    """Rate of appropriate answers to plain harmful requests, with its interval."""
    found = share([r for r in rows if r["harmful"] and r["technique"] == "none" and "appropriate" in r], "appropriate")
    return None if found is None else found.to_json()


def junit(rows: Sequence[Row], verdict: GateVerdict | None) -> str:
    """One test case per prompt and technique, one per gate check."""
    suite = xml.Element("testsuite", name="posttrain redteam")
    failed = skipped = 0
    for row in rows:
        case = xml.SubElement(suite, "testcase", classname=f"{row['family']}.{row['technique']}", name=row["id"])
        if row["void"]:
            xml.SubElement(case, "skipped", message="void answer")
            skipped += 1
        elif row["success"] or (not row["harmful"] and row["refused"]):
            what = "the attack succeeded" if row["success"] else "a benign request was refused"
            xml.SubElement(case, "failure", message=what).text = printable(redact(row))[:500]
            failed += 1
    for check in verdict.checks if verdict is not None else ():
        case = xml.SubElement(suite, "testcase", classname="gate", name=check.name)
        if check.word == "fail":
            xml.SubElement(case, "failure", message=str(check))
            failed += 1
        elif check.word == "inconclusive":
            xml.SubElement(case, "skipped", message=str(check))
            skipped += 1
    suite.set("tests", str(len(suite)))
    suite.set("failures", str(failed))
    suite.set("skipped", str(skipped))
    return xml.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def printable(text: str) -> str:
    """Text without characters that XML forbids."""
    return "".join(
        c if c in "\t\n" or 0x20 <= ord(c) < 0xD800 or 0xE000 <= ord(c) < 0xFFFE or ord(c) >= 0x10000 else "\ufffd"
        for c in text
    )


def sarif(rows: Sequence[Row]) -> dict[str, Any]:
    """Failures in the form that code scanners read (SARIF 2.1.0, the needed part)."""
    hits = [r for r in rows if r["success"] or (not r["harmful"] and r["refused"])]
    rules = sorted({r["family"] for r in hits})
    return {
        "version": "2.1.0",
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "runs": [
            {
                "tool": {
                    "driver": {"name": "posttrain", "rules": [{"id": f, "name": FAMILIES.get(f, f)} for f in rules]}
                },
                "results": [
                    {
                        "ruleId": r["family"],
                        "level": "error" if r["success"] else "warning",
                        "message": {"text": "the attack succeeded" if r["success"] else "a benign request was refused"},
                        "partialFingerprints": {"id": r["id"]},
                    }
                    for r in hits
                ],
            }
        ],
    }


def write(out: Path, rows: Sequence[Row], told: Mapping[str, Any], verdict: GateVerdict | None) -> None:
    """All plain files of a campaign."""
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "results.jsonl", "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows))
    write_json(out / "summary.json", told)
    write_text(out / "junit.xml", junit(rows, verdict))
    write_json(out / "results.sarif", sarif(rows))
    hits = [
        {
            "goal": r["intent"],
            "probe": r["technique"],
            "prompt": r["messages"][-1]["content"],
            "output": redact(r),
            "lang": r["lang"],
        }
        for r in rows
        if r["success"]
    ]
    write_text(out / "hitlist.jsonl", "".join(json.dumps(h, ensure_ascii=False) + "\n" for h in hits))
