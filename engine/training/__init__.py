"""From a list of pictures to a trained backbone."""
