"""The frame around the places: rail, bars, inspector, palette, dialogs, and what opens and closes."""
