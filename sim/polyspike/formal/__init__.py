"""Proofs about the gateware: properties of its blocks, and what proves them. `python -m polyspike.formal` runs all."""
