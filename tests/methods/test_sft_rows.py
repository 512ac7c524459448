"""Rows that supervised fine-tuning must not imitate, and windows of documents that are no repeats."""

from __future__ import annotations

import numpy as np

from posttrain.core.group import Group, Response, document, group
from posttrain.data.sanity import sanity
from posttrain.methods.sft import SFT


def test_two_opposite_behaviours_are_refused() -> None:
    rows = group("Do you agree?", " Yes", " No", facts={"matching": 0})
    reason = SFT().accepts(rows)
    assert reason is not None and "opposite behaviours" in reason
    assert SFT().accepts(group("Do you agree?", " Yes", facts={"matching": 0})) is None
    assert SFT().accepts(group("Two good answers?", "Yes", "Surely")) is None


def test_windows_of_one_document_are_no_duplicates() -> None:
    text = document("one two three four")
    (whole,) = text.responses

    def cut(*tokens: int) -> Group:
        piece = Response(whole.turns, tokens=np.asarray(tokens), trained=np.ones(len(tokens)))
        return text.with_responses([piece])

    assert not sanity([cut(1, 2), cut(3, 4)]).duplicates
    assert len(sanity([cut(1, 2), cut(1, 2)]).duplicates) == 1
