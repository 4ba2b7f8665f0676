"""Look: what a network sees in a picture."""
