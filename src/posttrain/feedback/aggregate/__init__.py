"""From judgments to strengths, reliabilities and soft labels: what training consumes."""
