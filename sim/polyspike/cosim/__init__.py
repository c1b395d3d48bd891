"""Simulated gateware: built into native libraries, and driven over the link's bytes like a board."""
