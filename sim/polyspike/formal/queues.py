"""Queues: nothing is lost, repeated or overtaken, and nothing is written where there is no room."""

from collections.abc import Callable
from typing import Any

from amaranth.asserts import AnySeq
from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from polyspike.gateware import buffer, fetch, fire
from polyspike.spec import Configuration

from .properties import Inside, Properties
from .streams import assert_rules, assume_rules, hold

#: Places of the queues there are: of positions in a column, of words in a fire unit, of words and steps in a fetch unit
#: with 8 of them, of tags in a column.
DEPTHS = (4, 8, 9, 16)


class Scoreboard:
    """Watches what enters and leaves a queue, and one item that is followed: any one, because nobody knows which.

    It states that this item leaves as it entered, in its turn, and that never more leaves than has entered.

    Parameters
    ----------
    p, name
        The properties it adds to, and what their names begin with.
    enters, item
        Whether an item enters in this cycle, and which.
    leaves, left
        Whether one leaves, and which.
    capacity
        How many there may be.

    Attributes
    ----------
    count : items inside
    following : whether the followed item is inside
    kept : what it is
    ahead : how many items are before it
    """

    def __init__(self, p: Properties, name: str, *, enters: Any, item: Any, leaves: Any, left: Any, capacity: int):
        item, left = Value.cast(item), Value.cast(left)
        self.count = count = Signal(range(capacity + 1), name=f"{name}_count")
        self.following = following = Signal(name=f"{name}_following")
        self.kept = kept = Signal(len(item), name=f"{name}_kept")
        self.ahead = ahead = Signal(range(capacity + 1), name=f"{name}_ahead")
        chosen = Signal(name=f"{name}_chosen")  # the item to follow has come
        m = p.m
        m.d.sync += count.eq(count + enters - leaves)
        with m.If(following & leaves):
            m.d.sync += ahead.eq(ahead - 1)
            with m.If(ahead == 0):
                m.d.sync += following.eq(0)
        with m.If(enters & ~chosen & AnySeq(1)):
            m.d.sync += [chosen.eq(1), following.eq(1), kept.eq(item), ahead.eq(count - leaves)]
        p.always(f"{name}_keeps_order_and_items", ~(following & leaves & (ahead == 0)) | (left == kept))
        p.always(f"{name}_repeats_nothing", ~leaves | (count != 0))
        p.always(f"{name}_overflows_never", ~enters | (count + enters - leaves <= capacity))
        p.always(f"{name}_count", count <= capacity)
        p.always(f"{name}_ahead", ~following | (chosen & (ahead < count)))
        p.reach(f"{name}_fills_and_delivers", following & leaves & (ahead == 0) & (count == capacity))


def _store(p: Properties, name: str, queue: fifo.SyncFIFOBuffered, inside: Inside, board: Scoreboard) -> None:
    """State where in a queue's memory the items of a scoreboard are."""
    depth = queue.depth - 1
    level, produce, consume = (inside[f"queue.{each}"] for each in ("inner_level", "produce", "consume"))
    behind = consume + level
    at = Signal(range(3 * depth), name=f"{name}_at")
    p.m.d.comb += at.eq(consume + board.ahead - queue.r_rdy)
    row = inside.row("queue.storage", Mux(at < depth, at, at - depth))
    followed = board.following
    p.always(f"{name}_pointers", (consume < depth) & (produce == Mux(behind < depth, behind, behind - depth)))
    p.always(f"{name}_levels", (level <= depth) & (level + queue.r_rdy == board.count))
    p.always(f"{name}_stored", ~followed | (queue.r_rdy & (board.ahead == 0)) | (row == board.kept))
    p.always(f"{name}_offered", ~(followed & queue.r_rdy & (board.ahead == 0)) | (queue.r_data == board.kept))


def buffer_order() -> Properties:
    """Return the properties of `Buffer`."""
    p = Properties()
    block = buffer.Buffer(2)
    inside = p.block(block)
    assume_rules(p, block.i)
    board = Scoreboard(
        p,
        "buffer",
        enters=block.i.valid & block.i.ready,
        item=block.i.p,
        leaves=block.o.valid & block.o.ready,
        left=block.o.p,
        capacity=2,
    )
    spared = inside["spared"]
    place = Mux(board.ahead == 0, block.o.p, inside["spare"])
    p.always("buffer_loses_nothing", board.count == block.o.valid + spared)
    p.always("buffer_offers_what_it_has", (board.count == 0) | block.o.valid)
    p.always("buffer_holds_the_item", ~board.following | (place == board.kept))
    return p


class _Queue(wiring.Component):
    """The library's queue as a block."""

    def __init__(self, depth: int) -> None:
        self.queue = fifo.SyncFIFOBuffered(width=1, depth=depth)
        super().__init__({"i": In(stream.Signature(1)), "o": Out(stream.Signature(1))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.queue = queue = self.queue
        buffer.connect_queue(m, self.i, queue, self.o)
        return m


def queue_order(depth: int) -> Callable[[], Properties]:
    """Return what makes the properties of a queue between blocks, with a number of places.

    No queue looks at what it holds, so items of one bit stand for all.
    """

    def build() -> Properties:
        p = Properties()
        block = _Queue(depth)
        inside = p.block(block)
        assert_rules(p, block.o, "o")
        board = Scoreboard(
            p,
            "queue",
            enters=block.i.valid & block.i.ready,
            item=block.i.p,
            leaves=block.o.valid & block.o.ready,
            left=block.o.p,
            capacity=depth,
        )
        _store(p, "queue", block.queue, inside, board)
        # What is inside is offered a cycle later at the latest.
        waiting = p.past((board.count != 0) & ~(block.o.valid & block.o.ready))
        p.always("queue_offers_what_it_has", ~waiting | block.o.valid)
        return p

    return build


def _knows_its_level(p: Properties, name: str, inside: Inside, queue: str) -> None:
    """State that a queue's level is possible, and that it holds back no more than what was written to it last."""
    level = inside[f"{queue}.inner_level"]
    p.always(f"{name}_level_is_possible", level < inside[queue].depth)
    p.always(f"{name}_offers_soon", inside[queue].r_rdy | (level <= 1))


def fetch_credits(configuration: Configuration) -> Properties:
    """Return the properties of the queues in `Fetch`: credits keep them from being written to without room."""
    p = Properties()
    block = fetch.Fetch(configuration)
    inside = p.block(block, given=hold(p, block, ["layer"]))
    addresses, known, words, credits = (inside[name] for name in ("addresses", "known", "queue", "credits"))
    arrives, asking, arrived = inside["valid"], inside["asking"], inside["arrived"]
    kept, dropped = inside["kept"], inside["dropped"]
    # A word comes for each request, behind it.
    asked = Signal(range(configuration.prefetch + 1))
    p.m.d.sync += asked.eq(asked + (block.request.valid & block.request.ready) - block.word_valid)
    p.assume(~block.word_valid | (asked != 0))
    for name in ("addresses", "known", "queue"):
        p.always(f"{name}_finds_room", ~inside[name].w_en | inside[name].w_rdy)
        _knows_its_level(p, name, inside, name)
    p.always("credits_are_places", credits + known.level + words.level + kept + dropped == configuration.prefetch)
    p.always("what_is_known_waits_for_its_word", known.level == asking + addresses.level + asked + arrives)
    p.always("room_is_a_credit", ~inside["room"] | (credits != 0))
    p.always("words_are_known", ~arrives | known.r_rdy)
    # Every word that is fetched becomes an entry, the second one of a pair for both, or gives its credit back.
    ends = arrived.end if configuration.pairs else 1
    p.always("words_are_kept_or_dropped", p.past(arrives) == (words.w_en ^ dropped))
    p.always("last_words_are_kept", ~p.past(arrives & ends & arrived.last) | words.w_en)
    counts = p.past(ends & inside["word"].any() & ~arrived.blank)
    p.always("words_with_counts_are_kept", ~(dropped & counts))
    return p


def fire_words(configuration: Configuration) -> Properties:
    """Return the properties of the queue in `Fire`: no word is written to it without room."""
    p = Properties()
    block = fire.Fire(configuration)
    inside = p.block(block, given=hold(p, block, ["fire", "counts"]))
    queue, writing = inside["queue"], inside["writing"]
    p.always("words_find_room", ~writing | queue.w_rdy)
    p.always("moves_only_with_room", queue.level + writing + inside["move"] <= queue.depth)
    _knows_its_level(p, "queue", inside, "queue")
    return p
