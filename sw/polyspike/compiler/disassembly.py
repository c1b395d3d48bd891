"""Programs for readers: everything a device is told, as text."""

from collections import Counter
from collections.abc import Iterator

from polyspike.spec.instructions import encode

from .program import Box, Program, Run, Segment, Upload


def listing(program: Program) -> str:
    """Return the program as text: segments, writes, host steps, and each instruction with its index and word."""
    return "\n".join(_lines(program))


def _lines(program: Program) -> Iterator[str]:
    network, configuration = program.network, program.configuration
    count = len(program.segments)
    yield f"program {network.name!r} for configuration {configuration.name!r} ({configuration.digest})"
    yield f"timesteps {network.timesteps}, {count} segment{'s' * (count > 1)}, " + (
        "resident" if program.resident else "streamed"
    )
    for name, shape in program.maps.items():
        yield f"host map {name}: {' x '.join(map(str, shape))} words"
    if program.packing is not None:
        each = program.packing
        yield (
            f"each pixel of {network.input.name} holds a window row of {each.layer}: "
            f"{each.kernel_w} pixels, stride {each.stride_x}, padding {each.pad_x}"
        )
    for index, segment in enumerate(program.segments):
        yield ""
        yield f"segment {index}"
        yield from _segment(segment)


def _segment(segment: Segment) -> Iterator[str]:
    writes: Counter[str] = Counter()
    words: Counter[str] = Counter()
    for write in segment.writes:
        writes[write.space.name] += 1
        words[write.space.name] += len(write.words)
    for name in writes:
        yield f"  write {name}: {words[name]} words in {writes[name]} write{'s' * (writes[name] > 1)}"
    for step in segment.steps:
        if isinstance(step, Run):
            for block in step.blocks:
                left = "partial results" if block.output is None else _box(block.output)
                last = block.first + block.count - 1
                yield f"  run {block.layer}: instructions {block.first} to {last}, leaves {left}"
        else:
            yield f"  {'upload' if isinstance(step, Upload) else 'download'} {_box(step.box)}"
    names = {block.first: block.layer for step in segment.steps if isinstance(step, Run) for block in step.blocks}
    for index, instruction in enumerate(segment.instructions):
        if index in names:
            yield f"  {names[index]}:"
        yield f"    {index:4} {encode(instruction):#018x} {instruction}"


def _box(box: Box) -> str:
    axes = ", ".join(f"{start}:{stop}" for start, stop in (box.time, box.rows, box.pixels, box.words))
    return f"{box.map}[{axes}] at {box.address}"
