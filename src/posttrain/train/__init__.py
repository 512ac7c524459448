"""The loop, what hooks onto its steps, checkpoints and the preflight."""
