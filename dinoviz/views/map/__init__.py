"""Map: all pictures at once."""
