"""From an integer network to a program: tiling, memory allocation, range proof, encoding. Needs no torch."""
