"""Compare: several networks on the same pictures."""
