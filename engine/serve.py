"""The resident services: they keep what is slow to make, and answer questions until the pipe closes."""
