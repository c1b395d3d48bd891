"""Executing instructions on the instruction-set simulator."""

from polyspike.spec.instructions import encode
from polyspike.spec.memory import Space


def execute(machine, instructions):
    """Write instructions to the program memory and run them."""
    machine.write(Space.PROGRAM, 0, 0, [encode(each) for each in instructions])
    machine.run(0, len(instructions))
