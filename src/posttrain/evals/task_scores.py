"""Figures of task heads and of texts, by the field's own libraries, each with an interval over resampled rows.

seqeval scores spans, scikit-learn classes and numbers, sacrebleu and rouge-score texts. A corpus figure such as F1 is not a mean over rows:
its interval resamples rows and scores each replicate again from counts that add up.
"""

from __future__ import annotations

import re
import string
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from posttrain.stats import Interval, cluster_bootstrap

REPLICATES = 2000


def class_figures(
    gold: Sequence[str], said: Sequence[str], labels: Sequence[str], seed: int = 0
) -> dict[str, Interval]:
    """Accuracy, macro F1, and F1 of each class. Class names as given."""
    from sklearn.metrics import f1_score

    known = list(labels)
    pairs = np.asarray([[known.index(g), known.index(s)] for g, s in zip(gold, said, strict=True)], dtype=np.float64)
    hits = (pairs[:, 0] == pairs[:, 1]).astype(float)
    out = {"accuracy": cluster_bootstrap(hits, seed=seed)}
    numbers = list(range(len(known)))

    def macro(rows: np.ndarray) -> float:
        return float(f1_score(rows[:, 0], rows[:, 1], labels=numbers, average="macro", zero_division=0))

    def fast(rows: np.ndarray) -> float:
        return float(np.mean([_f1(*_counts(rows, c)) for c in numbers]))

    assert abs(macro(pairs) - fast(pairs)) < 1e-9
    out["f1"] = cluster_bootstrap(pairs, stat=fast, reps=REPLICATES, seed=seed)
    for c in numbers:

        def of_class(rows: np.ndarray, c: int = c) -> float:
            return _f1(*_counts(rows, c))

        out[f"f1/{known[c]}"] = cluster_bootstrap(pairs, stat=of_class, reps=REPLICATES, seed=seed)
    return out


def _counts(rows: np.ndarray, c: int) -> tuple[float, float, float]:
    gold, said = rows[:, 0] == c, rows[:, 1] == c
    return float((gold & said).sum()), float((said & ~gold).sum()), float((gold & ~said).sum())


def _f1(hit: float, false: float, missed: float) -> float:
    return 2 * hit / (2 * hit + false + missed) if hit + false + missed else 0.0


def span_figures(gold: Sequence[Sequence[str]], said: Sequence[Sequence[str]], seed: int = 0) -> dict[str, Interval]:
    """Micro precision, recall and F1 of whole spans from BIO tags (both ends and the label must agree), and F1 of each label."""
    from seqeval.metrics import f1_score
    from seqeval.metrics.sequence_labeling import get_entities

    rows, by_label = [], Counter[str]()
    for g, s in zip(gold, said, strict=True):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # seqeval warns of labels that are not its own
            a, b = set(get_entities(list(g))), set(get_entities(list(s)))
        rows.append((a, b))
        by_label.update(e[0] for e in a)
    table = np.asarray([[len(a & b), len(b - a), len(a - b)] for a, b in rows], dtype=np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = float(f1_score([list(g) for g in gold], [list(s) for s in said], zero_division=0))
    assert abs(whole - _f1(*table.sum(0))) < 1e-9
    out = {"f1": _ratio(table, seed)}
    for label in sorted(by_label):
        part = [({e for e in a if e[0] == label}, {e for e in b if e[0] == label}) for a, b in rows]
        out[f"f1/{label}"] = _ratio(
            np.asarray([[len(a & b), len(b - a), len(a - b)] for a, b in part], dtype=np.float64), seed
        )
    return out


def _ratio(table: np.ndarray, seed: int) -> Interval:
    return cluster_bootstrap(table, stat=lambda rows: _f1(*rows.sum(0)), reps=REPLICATES, seed=seed)


def answer_words(text: str) -> list[str]:
    """Words of an answer as SQuAD compares them: lower case, no punctuation, no articles (Rajpurkar et al. 2016, arXiv:1606.05250)."""
    bare = "".join(c for c in text.lower() if c not in set(string.punctuation))
    return re.sub(r"\b(a|an|the)\b", " ", bare).split()


def answer_scores(said: str, gold: Sequence[str]) -> tuple[float, float]:
    """(exact match, word F1) of an extracted answer against the best of the gold ones; no gold means that nothing is to be said."""
    if not gold or not said:
        right = float(bool(gold) == bool(said))
        return right, right
    best = (0.0, 0.0)
    for one in gold:
        a, b = answer_words(said), answer_words(one)
        shared = sum((Counter(a) & Counter(b)).values())
        f1 = 2 * shared / (len(a) + len(b)) if shared else float(a == b)
        best = max(best, (float(a == b), f1))
    return best


def number_figures(gold: Sequence[float], said: Sequence[float], seed: int = 0) -> dict[str, Interval]:
    """Mean absolute and squared distance, R2 and rank correlation."""
    from sklearn.metrics import r2_score

    pairs = np.stack([np.asarray(gold, dtype=float), np.asarray(said, dtype=float)], 1)
    gap = pairs[:, 1] - pairs[:, 0]
    return {
        "absolute_error": cluster_bootstrap(np.abs(gap), seed=seed),
        "squared_error": cluster_bootstrap(gap**2, seed=seed),
        "r2": cluster_bootstrap(pairs, stat=lambda r: float(r2_score(r[:, 0], r[:, 1])), reps=REPLICATES, seed=seed),
        "spearman": cluster_bootstrap(pairs, stat=_rank_correlation, reps=REPLICATES, seed=seed),
    }


def _rank_correlation(rows: np.ndarray) -> float:
    from posttrain.stats import spearman

    constant = np.ptp(rows[:, 0]) == 0 or np.ptp(rows[:, 1]) == 0
    return 0.0 if constant else float(spearman(rows[:, 0], rows[:, 1]).estimate)


def text_scores(said: str, gold: Sequence[str]) -> Mapping[str, float]:
    """BLEU, chrF and ROUGE-L of one answer against its references, each 0 to 1. Corpus BLEU differs from their mean."""
    from rouge_score import rouge_scorer
    from sacrebleu import sentence_bleu, sentence_chrf

    rouge = rouge_scorer.RougeScorer(["rougeL"], tokenizer=_Words())
    return {
        "bleu": sentence_bleu(said, list(gold)).score / 100,
        "chrf": sentence_chrf(said, list(gold)).score / 100,
        "rouge_l": max(rouge.score(one, said)["rougeL"].fmeasure for one in gold),
    }


class _Words:
    """Words of any script: the scorer's own tokenizer keeps ASCII letters only."""

    def tokenize(self, text: str) -> list[str]:
        return re.findall(r"[\u4e00-\u9fff]|\w+", text.lower())


def retrieval_ranks(queries: np.ndarray, documents: np.ndarray) -> np.ndarray:
    """[n] rank (1 = first) of document i for query i by the scalar product; ties count against it."""
    scores = queries @ documents.T
    own = np.diag(scores)[:, None]
    return (scores >= own).sum(1)


def retrieval_figures(queries: np.ndarray, documents: np.ndarray, seed: int = 0) -> dict[str, Interval]:
    """Recall at 1 and at 10, and mean reciprocal rank, of the document that belongs to each query among all."""
    ranks = retrieval_ranks(queries, documents)
    return {
        "recall@1": cluster_bootstrap((ranks <= 1).astype(float), seed=seed),
        "recall@10": cluster_bootstrap((ranks <= 10).astype(float), seed=seed),
        "mrr": cluster_bootstrap(1.0 / ranks, seed=seed),
    }
