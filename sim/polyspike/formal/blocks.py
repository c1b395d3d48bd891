"""The rules of streams for every block that has an output stream, and what their proofs know of its inside."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from amaranth.hdl import Cat

from polyspike.gateware import (
    axi,
    buffer,
    compact_fire,
    compact_gather,
    compact_lanes,
    dealer,
    fetch,
    fire,
    gather,
    lanes,
    layouts,
    link,
    probabilistic,
    sequencer,
    uart,
    unpacker,
)
from polyspike.spec import Configuration

from .configurations import COLUMNS, COMPACT, PAIRS, REDUCED
from .properties import Inside, Properties
from .prove import Proof
from .streams import Helper, stream_rules


def _walks_for_an_item(prefix: str) -> Helper:
    """Return what states, of a `Walk` at a place in a block, that it ends what it began, and has an item meanwhile."""

    def helper(p: Properties, block: Any, inside: Inside) -> None:
        def signals(*names: str) -> Any:
            return Cat(inside[f"{prefix}{name}"] for name in names)

        working, started, judged, end_pass, last_slot = (
            inside[f"{prefix}{name}"] for name in ("working", "started", "judged", "end_pass", "last_slot")
        )
        # What the compiler keeps: one or two passes, each of some words.
        extent, words = block.layer.extent, [each.weights.words for each in layouts.passes(block.layer)]
        p.assume((extent.passes == 1) | (extent.passes == 2))
        p.assume((words[0] != 0) & ((extent.passes == 1) | (words[1] != 0)))
        leaving = signals("end_tap", "end_line", "end_pass")
        p.always("works_for_an_item", ~working | block.item.valid)
        p.always("leaves_while_working", ~(judged | leaving.any()) | working)
        p.always("moves_or_judges", ~(judged & (leaving.any() | signals("beginning", "entering").any())))
        p.always("works_on_a_pass", inside[f"{prefix}slot"] < extent.passes)
        p.always("stays_in_its_tap", ~judged | (inside[f"{prefix}word_index"] < inside[f"{prefix}weights"].words))
        p.always("skips_no_last_pass", ~(inside[f"{prefix}outside_pass"] & last_slot))
        p.always("ends_what_it_began", ~(end_pass & last_slot) | started)

    return helper


def _starts_when_idle(p: Properties, block: Any, inside: Inside) -> None:
    p.assume(~(block.start & inside["walking"]))


def _walks_while_dealing(p: Properties, block: Any, inside: Inside) -> None:
    p.always("walks_only_while_dealing", ~inside["dealer.walking"] | inside.state("DEAL"))


def _unpacks_a_part(p: Properties, block: Any, inside: Inside) -> None:
    under_way = inside["active"] & block.parts.valid & (inside["started"] | ~block.parts.p.first)
    p.always("words_come_from_a_part", ~block.words.valid | under_way)


def _holds_its_word(p: Properties, block: Any, inside: Inside) -> None:
    # The memory's contract: a word stays at its output while it is held.
    p.assume(~p.past(block.hold) | (block.word == p.past(block.word)))


def _fires_for_a_position(p: Properties, block: Any, inside: Inside) -> None:
    p.always("fires_for_a_position", inside.state("COLLECT") | inside["queue"].r_rdy)


def _works_for_a_tag(p: Properties, block: Any, inside: Inside) -> None:
    p.always("works_for_a_tag", inside.state("WAIT") | block.tag.valid)


def _answers_what_was_asked(p: Properties, block: Any, inside: Inside) -> None:
    # The engine answers what it was asked, and AxiEngine commands nothing that is in progress,
    # and clears no counters meanwhile.
    p.assume(~block.response.valid | inside["reading"])
    p.assume((block.start.as_value() & block.busy.as_value()) == 0)
    p.assume(~(block.clear.valid & block.busy.run))
    p.always("reads_for_a_free_output", ~(inside["reading"] & ~inside["for_bus"] & block.o.valid))


def stream_proofs() -> Iterator[Proof]:
    """Yield a proof for each block."""

    def rules(
        name: str,
        make: Callable[[], Any],
        *,
        constant: Iterable[str] = (),
        helper: Helper | None = None,
        cycles: int = 2,
        reach: int = 12,
        quick: bool = False,
    ) -> Proof:
        build = stream_rules(make, constant=constant, helper=helper)
        return Proof(name, "stream rules", build, cycles=cycles, reach=reach, quick=quick)

    def walks(c: Configuration, kind: str) -> Proof:
        helper = _walks_for_an_item("")
        return rules(f"Walk{kind}", lambda: fetch.Walk(c), constant=["layer"], helper=helper, cycles=4, reach=16)

    def behind_the_walk(c: Configuration, kind: str, steady: Sequence[str] = ()) -> Iterator[Proof]:
        helper = _walks_for_an_item("walk.")
        yield rules(f"Fetch{kind}", lambda: fetch.Fetch(c), constant=["layer"], helper=helper, cycles=4, reach=0)
        yield rules(f"Gather{kind}", lambda: gather.Gather(c), constant=["weights"])
        yield rules(f"Lanes{kind}", lambda: lanes.Lanes(c), constant=["weights", *steady], reach=16)
        yield rules(f"Fire{kind}", lambda: fire.Fire(c), constant=["fire", "counts", *steady], reach=30)

    yield rules("Buffer", lambda: buffer.Buffer(4), quick=True)
    yield walks(REDUCED, "")
    yield walks(COMPACT, ", compact")
    yield from behind_the_walk(REDUCED, "")
    yield walks(PAIRS, ", pairs")
    yield from behind_the_walk(PAIRS, ", pairs", ["paired"])
    yield rules("CompactGather", lambda: compact_gather.CompactGather(COMPACT), helper=_holds_its_word)
    yield rules("CompactLanes", lambda: compact_lanes.CompactLanes(COMPACT), constant=["weights"])
    yield rules(
        "CompactFire",
        lambda: compact_fire.CompactFire(COMPACT),
        constant=["fire"],
        helper=_works_for_a_tag,
        reach=0,
    )
    yield rules(
        "Probabilistic",
        lambda: probabilistic.Probabilistic(REDUCED.replace(probabilistic=1)),
        constant=["layer"],
        helper=_fires_for_a_position,
        reach=0,
    )
    yield rules("Dealer", lambda: dealer.Dealer(REDUCED), constant=["layer"], helper=_starts_when_idle)
    yield rules("Dealer, 2 columns", lambda: dealer.Dealer(COLUMNS), constant=["layer"], helper=_starts_when_idle)
    yield rules("Sequencer", lambda: sequencer.Sequencer(REDUCED), helper=_walks_while_dealing, reach=0)
    yield rules("Sequencer, 2 columns", lambda: sequencer.Sequencer(COLUMNS), helper=_walks_while_dealing, reach=0)
    yield rules("FrameDecoder", lambda: link.FrameDecoder(REDUCED), reach=0)
    yield rules("FrameEncoder", lambda: link.FrameEncoder(REDUCED))
    yield rules("Link", lambda: link.Link(REDUCED), reach=0)
    yield rules("Unpacker", lambda: unpacker.Unpacker(REDUCED), constant=["layout"], helper=_unpacks_a_part)
    yield rules("UARTReceiver", uart.UARTReceiver, reach=50)
    yield rules("AxiLite", axi.AxiLite)
    yield rules("Transfers", lambda: axi.Transfers(REDUCED), helper=_answers_what_was_asked)
