"""The structures that blocks exchange, derived from the instruction formats and a configuration."""

from typing import Any

from amaranth.hdl import Module, Mux, Shape, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import Out
from amaranth.utils import ceil_log2

from polyspike.spec import Configuration
from polyspike.spec.configuration import ADDRESS_BITS, WORD_BITS
from polyspike.spec.instructions import FIRE, OPCODE_BITS, OUTPUT, PASS_SLOTS, SHAPE, SOURCE, WEIGHTS, WINDOW, Format

#: A window's position inside its source; signed, because padding hangs over the border.
COORDINATE = signed(15)
#: A decoded spike count.
COUNT = signed(9)
#: Nonzero marks of the counts in a word.
MARKS = 16


def instruction(format: Format) -> data.StructLayout:
    """Return the layout of an instruction word."""
    fields: dict[str, Shape] = {"opcode": unsigned(OPCODE_BITS)}
    fields |= {field.name: Shape(field.width, field.signed) for field in format.fields}
    return data.StructLayout(fields)


def descriptor(format: Format) -> wiring.Signature:
    """Return the fields of an instruction as separate signals: what a register of that kind hands out."""
    return wiring.Signature({field.name: Out(Shape(field.width, field.signed)) for field in format.fields})


#: What SETUP derives from a pass: rows and addresses that would otherwise need a multiplier in every column.
STEPS = wiring.Signature({"x": Out(16), "y": Out(16), "row_word": Out(5), "row_tap": Out(16), "row_line": Out(16)})

#: The descriptors of one pass.
PASS = wiring.Signature(
    {
        "source": Out(descriptor(SOURCE)),
        "window": Out(descriptor(WINDOW)),
        "weights": Out(descriptor(WEIGHTS)),
        "steps": Out(STEPS),
    }
)

#: The descriptors of the layer that is being executed. Constant while it runs. Passes are members `pass0`, `pass1`
#: rather than an array, which Amaranth 0.5 cannot flip inside a nested interface.
LAYER = wiring.Signature(
    {f"pass{slot}": Out(PASS) for slot in range(PASS_SLOTS)}
    | {"output": Out(descriptor(OUTPUT)), "extent": Out(descriptor(SHAPE)), "fire": Out(descriptor(FIRE))}
)


def passes(layer: Any) -> list[Any]:
    """Return the passes of a layer's descriptors."""
    return [getattr(layer, f"pass{slot}") for slot in range(PASS_SLOTS)]


def select(m: Module, slots: list[Any], slot: Value, name: str) -> Any:
    """Return the descriptors of the pass `slot`, chosen field by field."""
    chosen = slots[0].signature.create(path=(name,))
    for field in slots[0].signature.members:
        m.d.comb += getattr(chosen, field).eq(Mux(slot, *(getattr(each, field) for each in reversed(slots))))
    return chosen


#: One output position of one tile: what a column needs to know to work on it.
ITEM = data.StructLayout(
    {
        "window": data.ArrayLayout(
            data.StructLayout({"origin": ADDRESS_BITS, "y": COORDINATE, "x": COORDINATE, "row": 16}), PASS_SLOTS
        ),
        "output": ADDRESS_BITS,
        "params": 16,
        "tile": 10,
    }
)

#: A fetched spike word on its way to the gather. `marks` has a bit for each nonzero count; `sub` tells which lanes an
#: elementwise or raw word is for; `last` ends the sum of a position and timestep.
FETCHED = data.StructLayout({"word": WORD_BITS, "marks": MARKS, "row": 16, "slot": 1, "sub": 3, "last": 1})

#: One addition: weight row and count for all lanes, or a word whose counts go to the lanes one by one.
EVENT = data.StructLayout({"row": 16, "count": COUNT, "word": WORD_BITS, "slot": 1, "sub": 3, "add": 1, "last": 1})

#: What stays of an event when its operands are in the lanes.
EVENT_FLAGS = data.StructLayout({"add": 1, "last": 1, "raw": 1, "maximum": 1})

#: What the fire unit needs to know of a sum.
TAG = data.StructLayout({"output": ADDRESS_BITS, "params": 16, "upper": 1, "first": 1, "last": 1})

#: A write to the spike memory; `mask` enables the lower and upper half of the word.
SPIKE_WRITE = data.StructLayout({"address": ADDRESS_BITS, "data": WORD_BITS, "mask": 2})

#: One word that the host writes into a column's memories.
COLUMN_WRITE = data.StructLayout({"address": ADDRESS_BITS, "data": WORD_BITS})

#: What a column did in a cycle, one bit each; at most one of the first five is set.
ACTIVITY = data.StructLayout(
    {"event": 1, "stall_fetch": 1, "stall_port": 1, "stall_drain": 1, "stall_idle": 1, "word": 1, "zero_word": 1}
)


def sums(configuration: Configuration) -> data.ArrayLayout:
    """Return the layout of one sum a lane."""
    return data.ArrayLayout(signed(configuration.membrane_bits), configuration.lanes)


def group_bits(configuration: Configuration) -> int:
    """Return the bits that number the groups of lanes that are fired together."""
    return int(ceil_log2(configuration.lanes // configuration.fire_width))
