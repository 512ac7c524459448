"""Bans hold for every segmentation, and forbid nothing else."""

from __future__ import annotations

import random
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posttrain.guard.automaton import DEAD, START, Automaton
from posttrain.guard.bans import Bans, BanTooBroad
from posttrain.guard.fold import Folding, word_class
from posttrain.guard.vocabulary import Vocabulary

FOLD = Folding()


def holds(text: str, phrase: str, word: bool) -> bool:
    """By brute force: does the folded text hold the folded phrase, between word boundaries where asked?"""
    body, sought = FOLD.text(text), FOLD.text(phrase)
    for i in range(len(body) - len(sought) + 1):
        if body[i : i + len(sought)] != sought:
            continue
        before, after = body[i - 1 : i], body[i + len(sought) : i + len(sought) + 1]
        open_left = not before or word_class(before) != 1 or word_class(sought[0]) != 1
        open_right = not after or word_class(after) != 1 or word_class(sought[-1]) != 1
        if not word or (open_left and open_right):
            return True
    return False


TEXT = st.text(alphabet="abBÁco -\u200b\u0301аb密é", max_size=14)
PHRASE = st.text(alphabet="abcoé密 ", min_size=1, max_size=4).filter(
    lambda s: FOLD.text(s).strip() == FOLD.text(s) != ""
)


@settings(max_examples=400, deadline=None)
@given(TEXT, PHRASE, st.booleans())
def test_the_automaton_finds_what_brute_force_finds(text: str, phrase: str, word: bool) -> None:
    assert (Automaton([(phrase, word)]).find(text) >= 0) == holds(text, phrase, word)


@settings(max_examples=60, deadline=None)
@given(st.lists(PHRASE, min_size=1, max_size=5), st.booleans(), st.integers(0, 10**6))
def test_random_walks_over_random_vocabularies_never_spell_a_ban(phrases: list[str], word: bool, seed: int) -> None:
    """Tokens are random byte pieces, also halves of characters; the walk is pushed towards the phrases. Every masked token would have
    completed a ban, every other one would not."""
    rng = random.Random(seed)
    pieces: set[bytes] = {bytes([b]) for b in "abcoé密 -B\u200bа".encode()}
    for phrase in phrases:
        body = f" {phrase} ".encode()
        for _ in range(8):
            i, j = sorted((rng.randrange(len(body)), rng.randrange(len(body))))
            pieces.add(body[i : j + 1])
    bodies = sorted(pieces)
    vocabulary = Vocabulary([None, *bodies])
    try:
        bans = Bans(vocabulary, [] if word else phrases, phrases if word else [], stop_ids=[0])
    except BanTooBroad:
        return
    state, text = START, b""
    for _ in range(60):
        allowed = bans.allowed(state)
        mask = np.ones(vocabulary.size, dtype=bool) if allowed is None else allowed.numpy()
        for token in range(1, vocabulary.size):
            assert mask[token] == (bans.advance(state, token) != DEAD)
        choices = np.flatnonzero(mask[1:]) + 1
        if not len(choices):
            break
        wanted = [t for t in choices if len(vocabulary.bodies[t] or b"") > 1] or list(choices)
        token = int(rng.choice(wanted if rng.random() < 0.7 else list(choices)))
        state, text = bans.advance(state, token), text + (vocabulary.bodies[token] or b"")
    said = bans.cut(text.decode("utf-8", "replace"))
    assert not any(holds(said, p, word) for p in phrases)


def test_case_marks_lookalikes_and_hidden_characters_do_not_help() -> None:
    found = Automaton([("bomb", False)])
    for said in (
        "BOMB",
        "b\u200bomb",
        "bómb",
        "b\u043emb",
        "ｂｏｍｂ",
        unicodedata.normalize("NFD", "bömb"),
        "a bombe",
    ):
        assert found.find(said) > 0, said
    assert found.find("b om b") < 0


def test_words_are_not_banned_inside_words_and_chinese_needs_no_spaces() -> None:
    words = Automaton([("con", True), ("密码", True)])
    assert words.find("conseil et icone") < 0 and words.find("un con.") > 0 and words.find("un con") > 0
    assert words.find("un con", end=False) < 0
    assert words.find("我的密码是") > 0


def test_an_allowed_phrase_suspends_a_ban_until_it_is_complete() -> None:
    found = Automaton([("con", False)], allow=["conseil"])
    assert found.find("un conseil") < 0 and found.find("une console") > 0 and found.find("con") > 0


def test_the_end_is_forbidden_only_where_it_would_complete_a_word() -> None:
    bans = Bans(Vocabulary([None, *(bytes([b]) for b in range(32, 127))]), words=["con"], stop_ids=[0])
    state = START
    for c in b"con":
        assert bans.allowed(state) is None or bool(bans.allowed(state)[0])
        state = bans.advance(state, c - 31)
    mask = bans.allowed(state)
    assert mask is not None and not mask[0] and not mask[ord(" ") - 31] and mask[ord("s") - 31]
    assert bans.cut("le con") == "le co"


def test_a_ban_on_half_the_alphabet_is_refused() -> None:
    vocabulary = Vocabulary([bytes([b]) for b in range(97, 123)])
    with pytest.raises(BanTooBroad, match="forbid"):
        Bans(vocabulary, list("abcdefgh"))
    with pytest.raises(ValueError, match="folded"):
        Bans(vocabulary, ["\u200b"])
