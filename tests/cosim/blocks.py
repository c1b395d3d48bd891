"""What benches of single blocks simulate: configurations that are small, and chains of blocks."""

from gateware.adding import configuration

#: Two of the multipliers are made of look-up tables.
LANES = configuration(16).replace(fabric_lanes=2)
