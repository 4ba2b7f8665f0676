"""One picture or many: the grid, the large canvas, tiles, and what is laid over a picture."""
