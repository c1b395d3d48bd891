"""Every proof there is."""

import dataclasses
import functools
import json
from collections.abc import Iterable, Iterator

from . import arbitration, firing, framing, queues
from .blocks import stream_proofs
from .configurations import COMPACT, PAIRS, REDUCED
from .prove import Proof, Result


def proofs() -> Iterator[Proof]:
    """Yield all proofs, block by block."""
    fires = "count is clip(floor(v / theta)), membrane is v - theta * count"
    yield Proof("Threshold, 6, 3 and 3 bits", fires, firing.threshold(6, 3, 3, divide=True), reach=8, quick=True)
    yield Proof("Threshold, 8, 4 and 4 bits", fires, firing.threshold(8, 4, 4, divide=True), reach=9)
    bitwise = f"{fires}, bit by bit"
    for step in range(8 + 2):
        name = f"Threshold, 24, 19 and 8 bits, step {step}"
        yield Proof(name, bitwise, firing.threshold(24, 19, 8, divide=False, step=step), reach=0)
    yield Proof("CompactFire, 10, 5 and 4 bits", fires, firing.compact(COMPACT, divide=True), reach=18)
    full = dataclasses.replace(COMPACT, membrane_bits=24, count_bits=8)
    yield Proof("CompactFire, 24, 19 and 8 bits", bitwise, firing.compact(full, divide=False), reach=0)
    fires_dual = f"{fires}; none while -theta_neg <= v < 0"
    yield Proof("Threshold, 6, 3 and 3 bits, dual", fires_dual, firing.threshold(6, 3, 3, divide=True, dual=1), reach=8)
    for step in (0, 8 + 1):
        name = f"Threshold, 24, 19 and 8 bits, dual, step {step}"
        yield Proof(name, bitwise, firing.threshold(24, 19, 8, divide=False, step=step, dual=1), reach=0)
    dual = dataclasses.replace(COMPACT, negative_threshold=1)
    yield Proof("CompactFire, 10, 5 and 4 bits, dual", fires_dual, firing.compact(dual, divide=True), reach=19)
    yield Proof("Fire", "no word is written without room", lambda: queues.fire_words(REDUCED), reach=0)
    yield Proof("Fetch", "no step or word is without room", lambda: queues.fetch_credits(REDUCED), reach=0, quick=True)
    yield Proof("Fetch, pairs", "no step or word is without room", lambda: queues.fetch_credits(PAIRS), reach=0)
    ring = dataclasses.replace(REDUCED, rx_bytes=32)
    for claim, delivers in (
        ("accepts a frame exactly when its CRC is right, always finds the next one", False),
        ("delivers what it accepts, once and in order", True),
    ):
        yield Proof("FrameDecoder", claim, functools.partial(framing.decoder, ring, delivers=delivers), reach=0)
    yield Proof("Buffer", "loses and repeats nothing, keeps order", queues.buffer_order, quick=True)
    for depth in queues.DEPTHS:
        yield Proof(
            f"queue of {depth}",
            "loses and repeats nothing, keeps order",
            queues.queue_order(depth),
            quick=depth == min(queues.DEPTHS),
        )
    for inputs in (2, 3, 5):
        yield Proof(
            f"RoundRobin, {inputs} inputs",
            "grants one at a time, each within a round",
            arbitration.round_robin(inputs),
            quick=inputs == 3,
        )
    yield from stream_proofs()


def table(results: Iterable[Result]) -> str:
    """Return results as a Markdown table."""
    lines = ["| block | claim | method | properties | seconds |", "| --- | --- | --- | ---: | ---: |"]
    lines += [
        f"| {each.block} | {each.claim} | {each.method} | {each.properties} | {each.seconds} |" for each in results
    ]
    return "\n".join(lines) + "\n"


def document(results: Iterable[Result]) -> tuple[str, str]:
    """Return docs/verification/proofs.md and docs/verification/proofs.json."""
    listed = list(results)
    properties, seconds = sum(each.properties for each in listed), sum(each.seconds for each in listed)
    text = f"""\
# Proofs

Written by `make formal` (`python -m polyspike.formal`); what each claim says exactly is in `sim/polyspike/formal`.
Yosys makes an SMT model of a block and its properties, and Z3 decides. Each holds for all time, whatever the inputs do
within the block's contract: by *induction*, it holds in the first cycles, and any k cycles in which it does are
followed by another one. Properties count assertions, those about a block's inside included, which an induction needs.
Widths and depths are those of `configurations.py` where none are given. Seconds are the processor's, on one core.

{table(listed)}
{len(listed)} proofs of {properties} properties, in {seconds:.0f} seconds of one core.
"""
    records = [dataclasses.asdict(each) for each in listed]
    return text, json.dumps(records, indent=1) + "\n"
