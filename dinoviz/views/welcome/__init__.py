"""Welcome: open, try, go on."""
