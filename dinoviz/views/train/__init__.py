"""Train: runs, and what they learn."""
