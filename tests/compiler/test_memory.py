"""Maps that are alive together never share words of the spike memory."""

import dataclasses
import itertools

import numpy as np
import pytest

from compiler.shadow import ClashError, check_memory
from compiler.test_compile import SHRUNKEN
from golden.networks import a_layer, an_input
from polyspike.compiler import Download, Run, Upload, compile
from polyspike.compiler.memory import Buffer, allocate
from polyspike.cosim.random_networks import random_network
from polyspike.machine import Machine
from polyspike.network import CountRange, Network, Synapse
from polyspike.spec import LARGE, SMALL, TINY
from polyspike.spec.instructions import OUTPUT, make


@pytest.mark.parametrize("configuration", [TINY, SMALL, LARGE, *SHRUNKEN], ids=lambda c: c.name)
def test_programs_read_what_they_should(configuration):
    for seed in range(200, 212):
        check_memory(compile(random_network(seed), configuration))


@pytest.mark.parametrize("configuration", [TINY, SMALL, LARGE], ids=lambda c: c.name)
def test_blocks_after_the_input_neither_read_nor_write_its_words(configuration):
    """What a program says of its input, against what its blocks do in the instruction-set simulator."""
    said = 0
    for seed in range(200, 220):
        program = compile(random_network(seed), configuration)
        if not program.input_blocks:
            continue
        said += 1
        (segment,) = program.segments
        upload, run, _ = segment.steps
        words = slice(upload.box.address, upload.box.address + upload.box.size)
        machine = Machine(configuration)
        for write in segment.writes:
            machine.write(write.space, write.mask, write.address, write.words)
        last = 0
        for index, block in enumerate(run.blocks):
            machine.run(block.first, block.count)
            if machine._read_from[words].any():
                last = index + 1
            assert index < program.input_blocks or not machine._written[words].any()
        assert last == program.input_blocks < len(run.blocks)
    assert said >= 10


def test_the_input_makes_room_where_there_is_none():
    """Maps of 56 words each: two of them fit 128 words, three do not."""
    nodes = [an_input((1, 7, 8))]
    for name in ("first", "second"):
        weight = np.ones((4, nodes[-1].shape[0], 3, 3), np.int8)
        synapse = Synapse(nodes[-1].name, weight, (3, 3), padding=(1, 1))
        nodes.append(a_layer(name, (4, 7, 8), (synapse,), CountRange(8, 7, 4), theta=1000))
    weight = np.ones((2, 4, 7, 8), np.int8)
    nodes.append(a_layer("output", (2, 1, 1), (Synapse("second", weight, (7, 8)),)))
    network = Network("maps", 1, tuple(nodes))
    roomy, cramped = (compile(network, LARGE.replace(spike_depth=depth)) for depth in (256, 128))
    assert (roomy.input_blocks, cramped.input_blocks) == (1, 0)
    for program in (roomy, cramped):
        assert [type(step) for step in program.segments[0].steps] == [Upload, Run, Download]
        check_memory(program)


def test_the_check_finds_a_map_that_is_overwritten():
    found = 0
    for seed in range(200, 212):
        program = compile(random_network(seed), SMALL)
        (segment,) = program.segments
        instructions = tuple(
            make(OUTPUT, **{**each.values, "base": 0}) if each.format is OUTPUT else each
            for each in segment.instructions
        )
        broken = dataclasses.replace(segment, instructions=instructions)
        try:
            check_memory(dataclasses.replace(program, segments=(broken,)))
        except ClashError:
            found += 1
    assert found >= 10


def test_allocation_reuses_words_and_never_overlaps():
    rng = np.random.default_rng(0)
    for _ in range(50):
        first = rng.integers(0, 20, 12)
        buffers = [
            Buffer(str(i), int(rng.integers(1, 50)), int(at), int(at + rng.integers(0, 4)))
            for i, at in enumerate(first)
        ]
        addresses, used = allocate(buffers)
        for a, b in itertools.combinations(buffers, 2):
            together = set(range(a.first, a.last + 1)) & set(range(b.first, b.last + 1))
            words_a = set(range(addresses[a.name], addresses[a.name] + a.size))
            words_b = set(range(addresses[b.name], addresses[b.name] + b.size))
            assert not together or not words_a & words_b
        assert used == max(addresses[b.name] + b.size for b in buffers)
    chain = [Buffer(str(i), 10, i, i + 1) for i in range(8)]
    assert allocate(chain)[1] == 20
