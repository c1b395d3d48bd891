"""The structures that blocks exchange, derived from the instruction formats and a configuration."""

from typing import Any

from amaranth.hdl import Module, Mux, Shape, Value, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from polyspike.spec import Configuration
from polyspike.spec.configuration import ADDRESS_BITS, WORD_BITS
from polyspike.spec.instructions import (
    COORDINATE_BITS,
    FIRE,
    OPCODE_BITS,
    OUTPUT,
    PASS_SLOTS,
    SHAPE,
    SOURCE,
    WEIGHTS,
    WINDOW,
    FireKind,
    Format,
    RandomValue,
)
from polyspike.spec.lfsr import WIDTH

#: A window's position inside its source; signed, because padding hangs over the border. See `spec.instructions`.
COORDINATE = signed(COORDINATE_BITS)
#: Width of the count of spikes emitted so far for a position: 255 timesteps of up to 255 spikes.
EMITTED_BITS = 16
#: A decoded spike count, and one that had 4 bits.
COUNT, NARROW_COUNT = signed(9), signed(5)
#: Nonzero marks of the counts in a word.
MARKS = 16


def instruction(format: Format) -> data.StructLayout:
    """Return the layout of an instruction word."""
    fields: dict[str, Shape] = {"opcode": unsigned(OPCODE_BITS)}
    fields |= {field.name: Shape(field.width, field.signed) for field in format.fields}
    return data.StructLayout(fields)


def address_bits(configuration: Configuration) -> int:
    """Return the bits of a spike memory address. Addresses are sums, so they are cut to this width from the start."""
    return int(ceil_log2(configuration.spike_depth))


def row_bits(configuration: Configuration) -> int:
    """Return the bits of a weight row's number."""
    return int(ceil_log2(configuration.weight_depth))


def channel_bits(configuration: Configuration) -> int:
    """Return the bits of a channel's number in the parameter memory."""
    return int(ceil_log2(configuration.param_depth))


def descriptor(format: Format, configuration: Configuration) -> wiring.Signature:
    """Return the fields of an instruction as separate signals, addresses as wide as the configuration needs them."""
    sizes = {
        (SOURCE, "origin"): address_bits,
        (SOURCE, "row_pitch"): address_bits,
        (SOURCE, "pixel_pitch"): address_bits,
        (SOURCE, "time_pitch"): address_bits,
        (OUTPUT, "base"): address_bits,
        (OUTPUT, "row_pitch"): address_bits,
        (OUTPUT, "pixel_pitch"): address_bits,
        (OUTPUT, "time_pitch"): address_bits,
        (WEIGHTS, "base"): row_bits,
        (WEIGHTS, "tile_step"): row_bits,
        (FIRE, "params"): channel_bits,
    }
    fields = {}
    for field in format.fields:
        if (format, field.name) == (SHAPE, "pairs") and not configuration.pairs:
            continue
        size = sizes.get((format, field.name))
        width = field.width if size is None else min(field.width, size(configuration))
        fields[field.name] = Out(Shape(width, field.signed))
    return wiring.Signature(fields)


def steps(configuration: Configuration) -> wiring.Signature:
    """Return what SETUP derives from a pass: rows and addresses that would need a multiplier in every column."""
    address, row = address_bits(configuration), row_bits(configuration)
    return wiring.Signature(
        {"x": Out(address), "y": Out(address), "row_word": Out(5), "row_tap": Out(row), "row_line": Out(row)}
    )


def layer(configuration: Configuration) -> wiring.Signature:
    """Return the descriptors of the layer that is being executed. Constant while it runs.

    Passes are members `pass0`, `pass1` rather than an array, which Amaranth 0.5 cannot flip inside a nested interface.
    """
    one = wiring.Signature(
        {
            "source": Out(descriptor(SOURCE, configuration)),
            "window": Out(descriptor(WINDOW, configuration)),
            "weights": Out(descriptor(WEIGHTS, configuration)),
            "steps": Out(steps(configuration)),
        }
    )
    return wiring.Signature(
        {f"pass{slot}": Out(one) for slot in range(PASS_SLOTS)}
        | {
            "output": Out(descriptor(OUTPUT, configuration)),
            "extent": Out(descriptor(SHAPE, configuration)),
            "fire": Out(descriptor(FIRE, configuration)),
        }
        | ({"random": Out(RANDOM_VALUES)} if configuration.probabilistic else {})
    )


#: What RANDOM sets.
RANDOM_VALUES = wiring.Signature({value.name.lower(): Out(WIDTH) for value in RandomValue})


def steadily(fire: Any, configuration: Configuration) -> Value:
    """Return whether a layer's results leave the fire unit at every timestep, not after the last one only."""
    every: Value = fire.kind != FireKind.MEMBRANE
    return every & (fire.kind != FireKind.PROBABILISTIC) if configuration.probabilistic else every


def passes(layer: Any) -> list[Any]:
    """Return the passes of a layer's descriptors."""
    return [getattr(layer, f"pass{slot}") for slot in range(PASS_SLOTS)]


def select(m: Module, slots: list[Any], slot: Value, name: str, domain: str = "comb") -> Any:
    """Return the descriptors of the pass `slot`, chosen field by field; in domain "sync" a cycle later."""
    chosen = slots[0].signature.create(path=(name,))
    for field in slots[0].signature.members:
        m.d[domain] += getattr(chosen, field).eq(Mux(slot, *(getattr(each, field) for each in reversed(slots))))
    return chosen


def item(configuration: Configuration) -> data.StructLayout:
    """Return the layout of one output position of one tile: what a column needs to know to work on it.

    `random` is the state before the position's first draw of channel 0.
    """
    address = address_bits(configuration)
    window = data.StructLayout({"origin": address, "y": COORDINATE, "x": COORDINATE, "row": row_bits(configuration)})
    return data.StructLayout(
        {
            "window": data.ArrayLayout(window, PASS_SLOTS),
            "output": address,
            "params": channel_bits(configuration),
            "tile": 10,
        }
        | ({"random": WIDTH} if configuration.probabilistic else {})
    )


def position(configuration: Configuration) -> data.StructLayout:
    """Return the layout of what random firing needs to know of a position of a tile."""
    return data.StructLayout({"params": channel_bits(configuration), "upper": 1, "random": WIDTH})


def fetched(configuration: Configuration) -> data.StructLayout:
    """Return the layout of a fetched spike word on its way to the gather.

    `marks` has a bit for each nonzero count, `several` says that more than one is set; `sub` tells which lanes an
    elementwise or raw word is for; `last` ends the sum of a position and timestep. Of a pair, `other` is the word of
    the second position, or `second` says that an elementwise word is that position's.
    """
    return data.StructLayout(
        {"word": WORD_BITS, "marks": MARKS, "several": 1, "row": row_bits(configuration)}
        | {"slot": 1, "sub": 3, "last": 1}
        | ({"other": WORD_BITS, "second": 1} if configuration.pairs else {})
    )


def event(configuration: Configuration) -> data.StructLayout:
    """Return the layout of one addition: row and count for all lanes, or a word whose counts go to lanes one by one.

    Of a pair, `other` is the count of the second position, or `second` says that the word is that position's.
    """
    return data.StructLayout(
        {
            "row": row_bits(configuration),
            "count": COUNT,
            "word": WORD_BITS,
            "slot": 1,
            "sub": 3,
            "add": 1,
            "last": 1,
        }
        | ({"other": NARROW_COUNT, "second": 1} if configuration.pairs else {})
    )


def tag(configuration: Configuration) -> data.StructLayout:
    """Return the layout of what the fire unit needs to know of a sum; `second` is that of a pair's second position."""
    return data.StructLayout(
        {
            "output": address_bits(configuration),
            "params": channel_bits(configuration),
            "upper": 1,
            "first": 1,
            "last": 1,
        }
        | ({"second": 1} if configuration.pairs else {})
    )


def spike_write(configuration: Configuration) -> data.StructLayout:
    """Return the layout of a write to the spike memory; `mask` enables the lower and upper half of the word."""
    return data.StructLayout({"address": address_bits(configuration), "data": WORD_BITS, "mask": 2})


#: One word that the host writes into a column's memories.
COLUMN_WRITE = data.StructLayout({"address": ADDRESS_BITS, "data": WORD_BITS})

#: What a column did in a cycle, one bit each; at most one of the first five is set.
ACTIVITY = data.StructLayout(
    {"event": 1, "stall_fetch": 1, "stall_port": 1, "stall_drain": 1, "stall_idle": 1, "word": 1, "zero_word": 1}
)


def classify(activity: Any, adding: Value, waiting: Value, idle: Value, port: Value) -> list[Any]:
    """Return the assignments of the first five: an event, or why there is none.

    `adding`: an event is added; `waiting`: one waits for the lanes; `idle`: the column is; `port`: a fetch waits.
    """
    nothing = ~waiting & ~adding
    return [
        activity.event.eq(adding),
        activity.stall_drain.eq(waiting),
        activity.stall_idle.eq(nothing & idle),
        activity.stall_port.eq(nothing & ~idle & port),
        activity.stall_fetch.eq(nothing & ~idle & ~port),
    ]


def column(configuration: Configuration) -> dict[str, wiring.Member]:
    """Return the members of a column, whichever kind it is of."""
    return {
        "layer": In(layer(configuration)),
        "item": In(stream.Signature(item(configuration))),
        "request": Out(stream.Signature(address_bits(configuration))),
        "word": In(WORD_BITS),
        "words": Out(stream.Signature(spike_write(configuration))),
        "write": In(COLUMN_WRITE),
        "write_weights": In(1),
        "write_params": In(1),
        "idle": Out(1),
        "activity": Out(ACTIVITY),
    }


def sums(configuration: Configuration) -> data.ArrayLayout:
    """Return the layout of one sum a lane, and of one more a lane for the second position of a pair behind them."""
    return data.ArrayLayout(signed(configuration.membrane_bits), configuration.lanes * (1 + configuration.pairs))


def group_bits(configuration: Configuration) -> int:
    """Return the bits that number the groups of lanes that are fired together."""
    return int(ceil_log2(configuration.lanes // configuration.fire_width))
