"""Models: backbones that there are."""
