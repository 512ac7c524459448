"""An OpenAI-compatible server over any Model that streams."""
