"""Decoding-time control: bans that hold for every tokenisation, biases, guidance, experts, steering vectors, best-of-n."""
