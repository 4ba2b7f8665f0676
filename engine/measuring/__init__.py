"""Measuring a backbone by the papers' protocols."""
