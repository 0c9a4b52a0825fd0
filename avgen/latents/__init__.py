"""LATENTS <-> SEQUENCE: one sequence of tokens, and where each of them is in time and space."""
