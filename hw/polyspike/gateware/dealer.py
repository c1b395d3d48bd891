"""Dealing the output positions of a layer to the columns."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from polyspike.spec import Configuration
from polyspike.spec.instructions import PASS_SLOTS, FireKind

from . import layouts
from .jump import Jump


class Dealer(wiring.Component):
    """Walk over tiles and, within a tile, over output positions, row by row, and deal them to the columns.

    Position i of a tile goes to column i mod P of its group, so which column works on what never depends on timing, and
    a position waits until all columns it is for have room for it. With `pairs`, it goes to that column if it has room,
    and otherwise to the first one of its group that has: no result depends on which, and columns end together.
    Addresses are kept by additions. A single column sees the walk itself; several have a register each, so that they
    need not take a position at the same time.

    Rate: a position in two cycles, in 35 where numbers are drawn for it. Latency: 3 cycles from `start` to the first
    item, 1 to a single column.

    Members
    -------
    layer : ``In(layer(configuration))``, constant from `start` until all columns are idle again
    start : ``In(1)``, begin with the first position of the first tile
    done : ``Out(1)``, high in the cycle that deals the last position
    item0, item1, ... : ``Out(stream.Signature(item(configuration)))``, one a column
    """

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        super().__init__(
            {"layer": In(layouts.layer(configuration)), "start": In(1), "done": Out(1)}
            | {
                f"item{column}": Out(stream.Signature(layouts.item(configuration)))
                for column in range(configuration.columns)
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Build the block."""
        m = Module()
        columns, layer = self.configuration.columns, self.layer
        ports = [getattr(self, f"item{column}") for column in range(columns)]
        address, shape = layouts.address_bits(self.configuration), layouts.item(self.configuration)
        # The position that is dealt next. Windows also have the address at the start of their row of pixels.
        at = Signal(shape)
        walks = list(zip(at.window, layouts.passes(layer), strict=True))
        lines = [Signal(address, name=f"line{slot}") for slot in range(PASS_SLOTS)]
        walking = Signal()
        last_x, last_y, last_tile = Signal(), Signal(), Signal()
        y, x = Signal(10), Signal(10)
        output_line = Signal(address)
        first_tile = Signal(11)
        member = Signal(4)  # which column of each group the position is for

        members = Signal(5)  # columns that divide the positions of a tile
        groups = Signal(5)  # tiles that are worked on side by side
        position_log2 = layer.extent.position_log2
        deal = Signal()
        on = walking & ~deal
        if self.configuration.probabilistic:
            on = on & ~self._jumping(m, at.random, deal, last_x & last_y)
        if columns == 1:
            # The walk goes on in the cycle after the column has taken it.
            m.d.sync += deal.eq(self.item0.valid & self.item0.ready)
            m.d.comb += [members.eq(1), groups.eq(1), self.item0.valid.eq(on)]
            m.d.comb += [self.item0.p.eq(at), self.item0.p.tile.eq(first_tile)]
        else:
            # With pairs, what follows from the layer's shape is in registers: the way on to `deal` is long.
            shaped = m.d["sync" if self.configuration.pairs else "comb"]
            shaped += [members.eq(1 << position_log2), groups.eq(columns >> position_log2)]
            # Deal when every column that this position is for has room. Every register of the walk goes on by `deal`,
            # so it is one itself: what it says was found in the cycle before, in which the position was there already.
            room = Signal(columns)
            has_room = [~port.valid | port.ready for port in ports]
            has_turn = [(column & (members - 1)) == member for column in range(columns)]
            if self.configuration.pairs:
                takes, found = self._takers(m, has_room, has_turn)
            m.d.sync += deal.eq(on & room.all())
            for column, port in enumerate(ports):
                tile = Signal(11, name=f"tile{column}")
                is_mine, mine = Signal(name=f"is_mine{column}"), Signal(name=f"mine{column}")
                there = tile < layer.extent.tiles
                if self.configuration.pairs:
                    group = Signal(4, name=f"group{column}")
                    shaped += group.eq(column >> position_log2)
                    m.d.comb += [
                        tile.eq(first_tile + group),
                        is_mine.eq(takes[column] & there),
                        room[column].eq(found[column] | ~there),
                    ]
                else:
                    m.d.comb += [
                        tile.eq(first_tile + (column >> position_log2)),
                        is_mine.eq(has_turn[column] & there),
                        room[column].eq(has_room[column] | ~is_mine),
                    ]
                m.d.sync += mine.eq(is_mine)
                with m.If(port.ready):
                    m.d.sync += port.valid.eq(0)
                with m.If(deal & mine):
                    m.d.sync += [port.valid.eq(1), port.p.eq(at), port.p.tile.eq(tile)]

        # Go on to the next pixel, the next row or the next tile.
        # (What is known of a position is in registers, a cycle after the position; none is dealt in that cycle.)
        m.d.sync += [
            last_x.eq(x + 1 == layer.extent.width),
            last_y.eq(y + 1 == layer.extent.height),
            last_tile.eq(first_tile + groups >= layer.extent.tiles),
        ]
        m.d.comb += self.done.eq(deal & last_x & last_y & last_tile)
        with m.If(deal):
            m.d.sync += member.eq(Mux(member + 1 == members, 0, member + 1))
            with m.If(~last_x):
                m.d.sync += [x.eq(x + 1), at.output.eq(at.output + layer.output.pixel_pitch)]
                for walk, each in walks:
                    m.d.sync += [walk.x.eq(walk.x + each.window.stride_x), walk.origin.eq(walk.origin + each.steps.x)]
            with m.Else():
                below = (output_line + layer.output.row_pitch)[:address]
                m.d.sync += [x.eq(0), y.eq(y + 1), at.output.eq(below), output_line.eq(below)]
                for (walk, each), line in zip(walks, lines, strict=True):
                    line_below = (line + each.steps.y)[:address]
                    m.d.sync += [walk.x.eq(-each.window.pad_x), walk.y.eq(walk.y + each.window.stride_y)]
                    m.d.sync += [walk.origin.eq(line_below), line.eq(line_below)]
        with m.If(self.done):
            m.d.sync += walking.eq(0)
        with m.If(self.start | (deal & last_x & last_y)):
            base = layer.output.base
            m.d.sync += [y.eq(0), x.eq(0), at.output.eq(base), output_line.eq(base), member.eq(0)]
            for (walk, each), line in zip(walks, lines, strict=True):
                origin = each.source.origin
                m.d.sync += [walk.origin.eq(origin), line.eq(origin)]
                m.d.sync += [walk.y.eq(-each.window.pad_y), walk.x.eq(-each.window.pad_x)]
                m.d.sync += walk.row.eq(Mux(self.start, each.weights.base, walk.row + each.weights.tile_step))
            m.d.sync += [
                first_tile.eq(Mux(self.start, 0, first_tile + groups)),
                at.params.eq(Mux(self.start, layer.fire.params, at.params + self.configuration.lanes)),
            ]
        with m.If(self.start):
            m.d.sync += walking.eq(1)
        return m

    def _takers(self, m: Module, has_room: list[Value], has_turn: list[Value]) -> tuple[Signal, Signal]:
        """Return which columns take a position, one of each group, and in which columns' groups one has room."""
        count = len(has_room)
        joined = Signal(count.bit_length())  # bit b: columns that differ in their lowest b bits are of a group
        m.d.sync += joined.eq(Cat(self.layer.extent.position_log2 >= bits for bits in range(len(joined))))
        free, turn, takes, found = (Signal(count, name=name) for name in ("free", "turn", "takes", "found"))
        for column in range(count):
            group = [other for other in range(count) if other != column]
            together = {other: joined[(other ^ column).bit_length()] for other in group}
            better = Cat(together[other] & free[other] & (turn[other] | (other < column)) for other in group).any()
            m.d.comb += [
                free[column].eq(has_room[column]),
                turn[column].eq(has_turn[column]),
                takes[column].eq(free[column] & (turn[column] | ~better)),
                found[column].eq(free[column] | Cat(together[other] & free[other] for other in group).any()),
            ]
        return takes, found

    def _jumping(self, m: Module, random: Signal, deal: Signal, last: Value) -> Value:
        """Add what keeps `random`, and return when it is not known yet what it is at the next position."""
        layer, begin = self.layer, Signal()
        m.submodules.jump = jump = Jump()
        m.d.sync += begin.eq((self.start | deal) & (layer.fire.kind == FireKind.PROBABILISTIC))
        m.d.comb += [
            jump.start.eq(begin),
            jump.taps.eq(layer.random.taps),
            jump.state.eq(random),
            jump.jump.eq(layer.random.position),
        ]
        with m.If(deal):
            m.d.sync += random.eq(jump.result)
        with m.If(self.start | (deal & last)):
            m.d.sync += random.eq(layer.random.first)
        return begin | jump.busy
