"""Detectors: a prompt and a response in, a `Verdict` out. One protocol, `safety_classifier(prompt, response) -> Verdict`."""

from posttrain.detectors.language import language_of
from posttrain.detectors.refusal import refusal
from posttrain.detectors.scan import DETECTORS, scan
from posttrain.detectors.verdict import SafetyClassifier, Span, Verdict

__all__ = ["DETECTORS", "SafetyClassifier", "Span", "Verdict", "language_of", "refusal", "scan"]
