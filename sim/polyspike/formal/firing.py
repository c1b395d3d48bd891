"""Firing: the spike count is clip(floor(v / theta)), and the membrane is v - theta * count afterwards.

The claim is stated in two ways. At reduced widths with division and multiplication as they stand in the definition. At
full width, where a solver cannot divide, by what makes a count the right one: it is within its limits, v = theta *
count + rest, and the rest is less than theta unless no more may be emitted, and not negative unless no fewer may.
"""

from collections.abc import Callable
from typing import Any

from amaranth.hdl import Cat, Const, Mux, Signal, Value, signed
from amaranth.lib import data

from polyspike.gateware import compact_fire, fire
from polyspike.spec import Configuration
from polyspike.spec.instructions import FireKind

from .properties import Properties
from .streams import assume_rules, hold


def _is_fired(v: Any, theta: Any, lo: Any, n_pos: Any, count: Any, rest: Any) -> Value:
    """Return whether a count and the membrane that is left are what the definition says, word for word."""
    quotient = v // theta
    clipped = Mux(quotient < -lo, -lo, Mux(quotient > n_pos, n_pos, quotient))
    return (count == clipped) & (rest == v - theta * clipped)


def _is_right(v: Any, theta: Any, lo: Any, n_pos: Any, count: Any, rest: Any, taken: Any) -> Value:
    """Return whether a count and the membrane that is left are the right ones.

    `taken` is v - theta * count, or, where the count is negative, v + theta * (-1 - count).
    """
    return (
        (count >= -lo)
        & (count <= n_pos)
        & (rest == Mux(count < 0, taken + theta, taken))
        & ((rest < theta) | (count == n_pos))
        & ((rest >= 0) | (count == -lo))
    )


def threshold(
    membrane_bits: int, threshold_bits: int, count_bits: int, *, divide: bool, step: int | None = None, dual: int = 0
) -> Callable[[], Properties]:
    """Return what makes the properties of `Threshold` with some widths, for every input and any use of `enable`.

    `dual` says whether there are negative thresholds. With `step`, only the properties of one step of the pipeline,
    from 0 to `count_bits` + 1, whose output is the count. It takes for granted what is stated of the step before, which
    has a proof of its own: at full width all at once are too much.
    """

    def build() -> Properties:
        p = Properties()
        m = p.m
        block = fire.Threshold(membrane_bits, threshold_bits, count_bits, dual)
        inside = p.block(block)
        # What came in, as it moves along with the pipeline.
        shape = block.i.shape()
        history = [Signal(shape, name=f"input{stage}") for stage in range(block.latency)]
        there = Signal(block.latency)
        with m.If(block.enable):
            m.d.sync += there.eq(Cat(1, there))
            for before, after in zip([block.i, *history], history, strict=False):
                m.d.sync += after.eq(before)
        # The membrane without theta for each bit of the quotient, bit by bit as they are decided: what a stage's input
        # was reduced (or, where negative, raised) by, but for the last bit.
        wide = signed(max(membrane_bits, threshold_bits + count_bits) + 2)
        taken = [Signal(wide, name=f"taken{stage}") for stage in range(count_bits + 2)]
        limits = (1 << count_bits) - 1

        def keeps_contract(given: Any) -> Value:
            return ~given.fires | ((given.theta != 0) & (given.lo + given.n_pos <= limits))

        def fewest(given: Any) -> Value:
            return Mux(given.v >= -given.theta_neg, 0, given.lo) if dual else given.lo

        p.assume(keeps_contract(block.i))
        for number, given in enumerate(history):
            p.always("history_keeps_the_contract", ~there[number] | keeps_contract(given))

        def state(number: int, name: str, condition: Any) -> None:
            if step is None or step == number:
                p.always(name, condition)
            elif number == step - 1:
                p.assume(condition)

        for number, (stage, given) in enumerate(zip(inside["stages"], history, strict=False)):
            left = count_bits - number  # bits that are not decided yet
            v, theta, lo = given.v, given.theta, fewest(given)
            negative = given.fires & (v < 0)
            limit = Mux(negative, Mux(lo == 0, 0, lo - 1), given.n_pos)
            worth = Mux(stage.quotient[left], theta << left, 0) if number else 0
            now = Signal(wide, name=f"taken{number}_now")
            m.d.comb += now.eq(Mux(negative, taken[number] + worth, taken[number] - worth) if number else v)
            with m.If(block.enable):
                m.d.sync += taken[number + 1].eq(now)
            state(
                number,
                "search_knows_its_input",
                ~there[number]
                | (
                    (stage.theta == theta)
                    & (stage.limit == Mux(given.fires, limit, 0))
                    & (stage.negative == negative)
                    & (stage.silent == (negative & (lo == 0)))
                ),
            )
            state(
                number,
                "search_takes_bits_from_the_top",
                ~there[number] | ((stage.quotient[:left] == 0) & (stage.quotient <= stage.limit)),
            )
            # Between the stages nothing gets lost, and what is left is less than a next bit's worth.
            whole = (now == Mux(negative, ~stage.rest.as_signed(), stage.rest)) & ~stage.rest[-1]
            most = (stage.rest < (theta << left)) | (stage.quotient + (1 << left) > stage.limit)
            state(number, "search_loses_nothing", ~(there[number] & given.fires) | whole)
            state(number, "search_takes_what_it_can", ~(there[number] & given.fires) | most)
            if divide:
                product = theta * stage.quotient
                state(number, "taken_is_a_product", ~there[number] | (now == Mux(negative, v + product, v - product)))
            state(
                number,
                "search_lets_pass",
                ~there[number] | given.fires | ((stage.rest == v[:]) & (stage.quotient == 0)),
            )

        given, done = history[-1], there[-1]
        quotient = Signal(count_bits)
        with m.If(block.enable):
            m.d.sync += quotient.eq(inside["found"].quotient)
        result = given.v, given.theta, fewest(given), given.n_pos, block.o.count, block.o.rest
        right = _is_right(*result, taken[-1])
        counts = quotient == Mux(block.o.count < 0, ~block.o.count, block.o.count)
        p.always("history_is_filled_from_the_start", (there & (there + 1)) == 0)
        state(count_bits + 1, "fires_what_was_found", ~(done & given.fires) | (right & counts))
        if divide:
            state(count_bits + 1, "fires_as_defined", ~(done & given.fires) | _is_fired(*result))
        state(count_bits + 1, "lets_pass", ~done | given.fires | ((block.o.count == 0) & (block.o.rest == given.v)))
        fired = done & given.fires
        p.reach(
            "fires_most_at_theta_1", fired & (given.theta == 1) & (given.n_pos == limits) & (block.o.count == limits)
        )
        p.reach("fires_negative", fired & (block.o.count < -1) & (block.o.rest > 0))
        p.reach("stays_silent", fired & (given.lo == 0) & (given.v < 0))
        if dual:
            p.reach("stays_silent_above_its_threshold", fired & (given.lo > 0) & (given.v < 0) & (block.o.count == 0))
        return p

    return build


def compact(configuration: Configuration, *, divide: bool) -> Callable[[], Properties]:
    """Return what makes the properties of `CompactFire`'s search, lane after lane, for every membrane and parameter."""

    def build() -> Properties:
        p = Properties()
        m = p.m
        block = compact_fire.CompactFire(configuration)
        inside = p.block(block, given=hold(p, block, ["fire"]))
        for port in (block.sums, block.tag):
            assume_rules(p, port)
        layer, count_bits = block.fire, configuration.count_bits
        v, negative, quotient, bit, count = (inside[name] for name in ("v", "negative", "quotient", "bit", "count"))
        lo, emitted, total, scaled, choice = (inside[name] for name in ("lo", "emitted", "total", "scaled", "choice"))
        dual = configuration.negative_threshold
        spikes = layer.kind == FireKind.SPIKE
        carry, searching, reset = (inside.state(name) for name in ("CARRY", "SEARCH", "RESET"))
        # What the search starts from is there while a negative threshold is looked at.
        compare = inside.state("COMPARE") if dual else Const(0)
        search = searching | compare
        pack = inside.state("PACK") & spikes
        limits = Mux(layer.wide, (1 << count_bits) - 1, 15)
        p.assume((layer.n_neg + layer.n_pos <= limits) & (layer.n_neg <= (limits >> 1) + 1))
        p.assume(~carry | (inside["params"].theta != 0))
        if count_bits == 4:
            p.assume(~layer.wide)

        # The membrane and threshold at hand, from the search on.
        bits = configuration.threshold_bits
        given = Signal(
            data.StructLayout({"v": signed(configuration.membrane_bits), "theta": bits, "theta_neg": dual * bits})
        )
        theta = given.theta
        # The membrane without theta for each bit of the quotient, bit by bit as they are decided.
        taken = Signal(signed(max(configuration.membrane_bits, len(scaled)) + 2))
        with m.If(carry):
            m.d.sync += [given.v.eq(total), given.theta.eq(inside["params"].theta), taken.eq(total)]
        if dual:
            with m.If(compare):
                m.d.sync += given.theta_neg.eq(inside["read_start"].data.theta_neg)
        with m.If(searching & inside["hit"]):
            for k in range(count_bits):
                with m.If(bit[k]):
                    m.d.sync += taken.eq(Mux(negative, taken + (theta << k), taken - (theta << k)))
        fewest = Mux(layer.rectified & (emitted < layer.n_neg), emitted, layer.n_neg)
        silenced = (given.v < 0) & (given.v >= -given.theta_neg) if dual else Const(0)
        above = inside["above"] if dual else Const(0)
        lowest = Mux(above, 0, lo)
        p.always("works_for_a_tag", inside.state("WAIT") | block.tag.valid)
        p.always("knows_its_theta", ~(search | reset | pack) | (theta != 0))
        p.always("knows_its_limit", ~(carry | search | reset | pack) | (lo == fewest))
        p.always("carries_only_what_was_read", ~inside.state("BIAS") | ~inside["reading"])
        p.always("searches_for_spikes", ~(search | reset) | spikes)
        p.always("adds_what_is_scaled", ~(search | reset) | (Value.cast(choice) == 3))
        p.always("knows_its_sign", ~(search | reset | pack) | (negative == (given.v < 0)))
        p.always("knows_its_negative_threshold", ~(searching | reset | pack) | (above == silenced))
        p.always("rises_only_where_it_may", ~reset | (negative & (lowest != 0)))
        for k in range(count_bits):
            here = search & bit[k]
            extended = Value.cast(theta << k) ^ (~negative).replicate(len(scaled))
            p.always("search_takes_bits_from_the_top", ~here | (quotient[: k + 1] == 0))
            p.always("search_scales_theta", ~here | (scaled == extended[: len(scaled)]))
            p.always(
                "search_takes_what_it_can",
                ~here | negative | (v < (theta << (k + 1))) | (quotient + (2 << k) > layer.n_pos),
            )
            p.always(
                "search_rises_as_it_can",
                ~here | ~negative | (v + (theta << (k + 1)) >= 0) | (quotient + (2 << k) >= lowest),
            )
        p.always("search_is_at_one_bit", ~search | ((bit != 0) & ((bit & (bit - 1)) == 0)))
        p.always("search_is_narrow", ~search | layer.wide | (bit <= 8))
        p.always("search_loses_nothing", ~(search | reset) | ((v == taken) & ((v < 0) == negative)))
        if divide:
            product = theta * quotient
            whole = taken == Mux(negative, given.v + product, given.v - product)
            p.always("taken_is_a_product", ~(search | reset | pack) | whole)
        p.always(
            "search_stays_within_limits",
            ~(search | reset) | Mux(negative, (quotient == 0) | (quotient < lowest), quotient <= layer.n_pos),
        )
        p.always("reset_needs_theta", ~reset | ((scaled == theta) & ((v + theta >= 0) | (quotient + 1 >= lowest))))
        result = given.v, theta, Mux(silenced, 0, fewest), layer.n_pos, count, v
        p.always("counts_what_was_found", ~pack | (quotient == Mux(count < 0, ~count, count)))
        p.always("fires_what_was_found", ~pack | _is_right(*result, taken))
        if divide:
            p.always("fires_as_defined", ~pack | _is_fired(*result))
            p.reach("fires_negative", pack & (count < -1))
            p.reach("fires_most_at_theta_1", pack & (theta == 1) & (count == 15))
        return p

    return build
