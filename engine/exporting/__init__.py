"""What can be taken away: masks, attention, features, maps and backbones, in the formats other programs read."""
