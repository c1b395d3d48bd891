"""The blocks as emitted Verilog, each in a cocotb bench under the stall matrix."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cosim import blocks
from gateware import compacting, gathering
from polyspike.cosim.bench import run_bench
from polyspike.gateware.arbiter import RoundRobin
from polyspike.gateware.compact_fire import CompactFire
from polyspike.gateware.compact_gather import CompactGather
from polyspike.gateware.compact_lanes import CompactLanes
from polyspike.gateware.compact_memory import CompactMemory
from polyspike.gateware.dealer import Dealer
from polyspike.gateware.fire import Fire
from polyspike.gateware.gather import Gather
from polyspike.gateware.lanes import Lanes
from polyspike.gateware.link import FrameDecoder, FrameEncoder
from polyspike.gateware.sequencer import Sequencer
from polyspike.gateware.spike_memory import SpikeMemory

pytestmark = pytest.mark.skipif(shutil.which("iverilog") is None, reason="Icarus Verilog (iverilog) is not installed")

#: What is simulated in each bench: cosim.benches.bench_<name> has 16 runs for each seed.
BLOCKS: dict[str, Callable[[], Any]] = {
    "gather": lambda: Gather(gathering.CONFIGURATION),
    "lanes": lambda: Lanes(blocks.LANES),
    "paired_gather": lambda: Gather(gathering.PAIRS),
    "paired_lanes": lambda: Lanes(blocks.PAIRS),
    "pooling": lambda: blocks.Pooling(blocks.POOLING),
    "fire": lambda: Fire(blocks.FIRE),
    "paired_fire": lambda: Fire(blocks.PAIRS),
    "spike_writer": lambda: blocks.SpikeWriter(blocks.SPIKE_WRITER),
    "arbiter": lambda: RoundRobin(16, 3),
    "memory": lambda: SpikeMemory(blocks.MEMORY),
    "sequencer": lambda: Sequencer(blocks.SEQUENCER),
    "dealer": lambda: Dealer(blocks.SEQUENCER),
    "link_decoder": lambda: FrameDecoder(blocks.LINK),
    "link_encoder": lambda: FrameEncoder(blocks.LINK),
    "compact_gather": lambda: CompactGather(compacting.CONFIGURATION),
    "compact_lanes": lambda: CompactLanes(compacting.CONFIGURATION),
    "compact_fire": lambda: CompactFire(blocks.COMPACT_FIRE),
    "compact_memory": lambda: CompactMemory(blocks.COMPACT_MEMORY),
}


def run(name: str, folder: Path, seeds: int) -> int:
    environment = {"POLYSPIKE_SEEDS": str(seeds)}
    return run_bench(BLOCKS[name](), f"cosim.benches.bench_{name}", directory=folder, environment=environment)


@pytest.mark.parametrize("name", BLOCKS)
def test_block(name: str, tmp_path: Path) -> None:
    assert run(name, tmp_path, seeds=1) == 16


@pytest.mark.long
@pytest.mark.parametrize("name", BLOCKS)
def test_block_with_many_seeds(name: str, tmp_path: Path) -> None:
    """So many that each run of the stall matrix has had every layer that a bench takes in turn."""
    assert run(name, tmp_path, seeds=24) == 24 * 16
