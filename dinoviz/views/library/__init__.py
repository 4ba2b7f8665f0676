"""Library: all pictures."""
