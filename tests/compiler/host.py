"""The least that a host does with a program: walk its segments against the instruction-set simulator."""

import numpy as np

from polyspike.compiler import Download, Run, Upload, pack_input
from polyspike.compiler.words import unpack_counts, unpack_membranes
from polyspike.machine import Machine
from polyspike.spec.memory import Space


def execute(program, inputs, machine=None):
    """Run a batch of input counts [N, C, H, W].

    Returns (membranes [N, C, H, W], [{layer: counts [T, C, H, W]} for every image]). Every layer's counts are read
    right after the block that completes them, as a tracing driver does.
    """
    network = program.network
    machine = machine or Machine(program.configuration)
    maps = [{name: np.zeros(shape, np.uint64) for name, shape in program.maps.items()} for _ in inputs]
    seen = [{} for _ in inputs]
    for image, counts in zip(maps, inputs, strict=True):
        image[network.input.name][0] = pack_input(counts, network.input.counts.bits, program.packing)
    for segment in program.segments:
        for write in segment.writes:
            machine.write(write.space, write.mask, write.address, write.words)
        for image, found in zip(maps, seen, strict=True):
            for step in segment.steps:
                if isinstance(step, Upload):
                    words = image[step.box.map][step.box.slices]
                    machine.write(Space.SPIKES, 0, step.box.address, words.reshape(-1))
                elif isinstance(step, Download):
                    words = machine.read(Space.SPIKES, step.box.address, step.box.size)
                    image[step.box.map][step.box.slices] = words.reshape(step.box.shape)
                else:
                    assert isinstance(step, Run)
                    for block in step.blocks:
                        machine.run(block.first, block.count)
                        if block.output is not None:
                            observe(network, machine, block.output, found)
    counts = []
    for found in seen:
        decoded = {}
        for node in network.nodes[1:-1]:
            kind = network.counts(node.name)
            decoded[node.name] = unpack_counts(found[node.name], node.shape[0], kind.bits, kind.n_pos)
        counts.append(decoded)
    output = network.output
    membranes = np.stack([unpack_membranes(image[output.name][0], output.shape[0]) for image in maps])
    return membranes, counts


def observe(network, machine, box, found):
    node = network[box.map]
    if node is network.output:
        return
    if box.map not in found:
        # Two words a tile of 16 channels, 8 bits each, and a tile more.
        found[box.map] = np.zeros((network.timesteps, *node.shape[1:], node.shape[0] // 8 + 2), np.uint64)
    words = machine.read(Space.SPIKES, box.address, box.size).reshape(box.shape)
    found[box.map][box.slices] = words
