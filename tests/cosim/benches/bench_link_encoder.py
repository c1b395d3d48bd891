"""The frame encoder under the stall matrix, against the frames that the host's functions make."""

from typing import Any

import cocotb

from cosim.blocks import LINK
from polyspike.cosim.cocotb_bench import Bench, seeds, stall_runs
from polyspike.gateware.link import FrameEncoder
from polyspike.spec import link
from polyspike.spec.link import Status

ALL_ONES = (1 << 64) - 1


@cocotb.test()
@cocotb.parametrize(seed=seeds(), stalls=stall_runs("answer", "words", "tx"))
async def answers(dut: Any, seed: int, stalls: dict[str, str]) -> None:
    bench = Bench(dut, FrameEncoder(LINK), stalls, seed)
    await bench.start()
    generator = bench.random
    counts = [0, 1, LINK.frame_words, 0, generator.randint(0, LINK.frame_words), LINK.frame_words, 0, 1]
    answers, words, expected = [], [], b""
    for index, count in enumerate(counts):
        sequence, status = generator.choice((0, 255, generator.getrandbits(8))), generator.choice(list(Status))
        session = generator.choice((1, 0xFFFF, generator.getrandbits(16)))
        opens = index in (0, 6)
        payload = [generator.choice((0, ALL_ONES, generator.getrandbits(64))) for _ in range(count)]
        content = [session] if opens else payload
        # Of an answer that opens, the count is the session's one word.
        header = {"sequence": sequence, "status": status, "count": len(content)}
        answers.append({"header": header, "session": session, "opens": int(opens)})
        words += payload
        expected += link.response(sequence, status, b"".join(word.to_bytes(8, "little") for word in content))
    cocotb.start_soon(bench.driver("answer").send(answers))
    cocotb.start_soon(bench.driver("words").send(words))
    await bench.compare("tx", list(expected))
