"""Maps that are alive together never share words of the spike memory."""

import dataclasses
import itertools

import numpy as np
import pytest

from compiler.shadow import ClashError, check_memory
from compiler.test_compile import SHRUNKEN
from polyspike.compiler import compile
from polyspike.compiler.memory import Buffer, allocate
from polyspike.cosim.random_networks import random_network
from polyspike.spec import LARGE, SMALL, TINY
from polyspike.spec.instructions import OUTPUT, make


@pytest.mark.parametrize("configuration", [TINY, SMALL, LARGE, *SHRUNKEN], ids=lambda c: c.name)
def test_programs_read_what_they_should(configuration):
    for seed in range(200, 212):
        check_memory(compile(random_network(seed), configuration))


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
