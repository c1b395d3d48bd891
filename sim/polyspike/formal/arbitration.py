"""Sharing: one at a time, and everybody gets a turn."""

from collections.abc import Callable

from amaranth.hdl import Mux, Signal

from polyspike.gateware import arbiter

from .properties import Properties
from .streams import assert_rules, assume_rules


def round_robin(inputs: int) -> Callable[[], Properties]:
    """Return what makes the properties of `RoundRobin` with a number of inputs."""

    def build() -> Properties:
        p = Properties()
        m = p.m
        block = arbiter.RoundRobin(2, inputs)
        inside = p.block(block)
        streams = [getattr(block, f"i{index}") for index in range(inputs)]
        for each in streams:
            assume_rules(p, each)
        choice = inside["choice"]
        assert_rules(p, block.o, "o")

        granted = [each.valid & each.ready for each in streams]
        passed = block.o.valid & block.o.ready
        total = sum(granted[1:], granted[0])
        p.always("grants_one_at_a_time", total <= 1)
        p.always("grants_what_passes", total == passed)
        p.always("choice_exists", choice < inputs)
        for index, each in enumerate(streams):
            p.always("passes_the_item", ~granted[index] | ((block.o.p.item == each.p) & (block.o.p.source == index)))
            # How many others were served, and how many cycles could have served somebody, since it began to wait.
            others, chances = Signal(range(inputs + 1)), Signal(range(2 * inputs + 1))
            waits = each.valid & ~each.ready
            m.d.sync += [
                others.eq(Mux(waits, others + passed, 0)),
                chances.eq(Mux(waits, chances + block.o.ready, 0)),
            ]
            distance = Mux(choice <= index, index - choice, index + inputs - choice)
            waiting = p.past(waits)
            p.always("serves_within_a_round", others <= inputs - 1)
            p.always("serves_within_a_round_of_cycles", chances <= inputs - 1)
            p.always("round_so_far", ~waiting | ((others <= chances) & (chances + distance <= inputs - 1)))
            p.reach("waits_for_all_others", granted[index] & (others == inputs - 1))
        return p

    return build
