"""Score, forward, backward, step and state: one device or one rank of several."""
