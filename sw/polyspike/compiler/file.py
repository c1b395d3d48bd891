"""Program files (`.pspk`): the container of network files, holding network, configuration and every word."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from polyspike.network.file import Arrays, from_header, read_tensors, to_header, write_tensors
from polyspike.spec import Configuration, ConfigurationError, FileFormatError
from polyspike.spec.instructions import decode
from polyspike.spec.memory import Space

from .packing import InputPacking
from .program import Block, Box, Download, LayerReport, Program, Run, Segment, Step, Upload, Write

KIND = "polyspike program"
VERSION = 4

_NETWORK = "network/"


def save_program(program: Program, path: Path | str) -> None:
    """Write a program to `path` (customarily `.pspk`)."""
    network, network_arrays = to_header(program.network)
    arrays: Arrays = {_NETWORK + name: array for name, array in network_arrays.items()}
    segments = []
    for index, segment in enumerate(program.segments):
        arrays[f"segment{index}"] = np.concatenate([write.words for write in segment.writes])
        segments.append(
            {
                "writes": [[int(w.space), w.mask, w.address, len(w.words)] for w in segment.writes],
                "steps": [_step_to_json(step) for step in segment.steps],
            }
        )
    header = {
        "configuration": program.configuration.to_dict(),
        "digest": program.configuration.digest,
        "network": network,
        "segments": segments,
        "maps": [[name, *shape] for name, shape in program.maps.items()],
        "report": [dataclasses.asdict(each) for each in program.report],
        "packing": None if program.packing is None else dataclasses.asdict(program.packing),
        "input_blocks": program.input_blocks,
    }
    write_tensors(path, KIND, VERSION, header, arrays)


def load_program(path: Path | str) -> Program:
    """Read a program.

    Raises
    ------
    FileFormatError
        The file is missing, truncated, altered, of another kind or version, or made for another architecture version.
    NetworkError
        The network inside breaks a rule.
    """
    header, arrays = read_tensors(path, KIND, VERSION)
    try:
        configuration = Configuration.from_dict(header["configuration"])
        if configuration.digest != header["digest"]:
            raise FileFormatError(
                f"{path}: was compiled for another architecture version (digest {header['digest']}, "
                f"this release has {configuration.digest}); compile the network again"
            )
        own = {name.removeprefix(_NETWORK): a for name, a in arrays.items() if name.startswith(_NETWORK)}
        return Program(
            configuration,
            from_header(header["network"], own),
            tuple(_segment(each, arrays[f"segment{index}"]) for index, each in enumerate(header["segments"])),
            {name: (time, rows, pixels, words) for name, time, rows, pixels, words in header["maps"]},
            tuple(LayerReport(**each) for each in header["report"]),
            None if header["packing"] is None else InputPacking(**header["packing"]),
            header["input_blocks"],
        )
    except (KeyError, TypeError, ValueError, ConfigurationError) as error:
        raise FileFormatError(f"{path}: the program description is incomplete: {error!r}") from None


def _segment(entry: Mapping[str, Any], words: np.ndarray[Any, np.dtype[np.uint64]]) -> Segment:
    writes, at = [], 0
    for space, mask, address, count in entry["writes"]:
        writes.append(Write(Space(space), mask, address, words[at : at + count]))
        at += count
    program = next(write for write in writes if write.space is Space.PROGRAM)
    instructions = tuple(decode(int(word)) for word in program.words)
    return Segment(tuple(writes), tuple(_step_from_json(step) for step in entry["steps"]), instructions)


def _box_to_json(box: Box | None) -> list[Any] | None:
    return None if box is None else [box.map, *box.time, *box.rows, *box.pixels, *box.words, box.address]


def _box_from_json(fields: list[Any]) -> Box:
    name, t0, t1, y0, y1, x0, x1, w0, w1, address = fields
    return Box(name, (t0, t1), (y0, y1), (x0, x1), (w0, w1), address)


def _step_to_json(step: Step) -> list[Any]:
    if isinstance(step, Run):
        return ["run", [[b.layer, b.first, b.count, _box_to_json(b.output)] for b in step.blocks]]
    return ["upload" if isinstance(step, Upload) else "download", _box_to_json(step.box)]


def _step_from_json(entry: list[Any]) -> Step:
    kind, content = entry
    if kind == "run":
        return Run(
            tuple(
                Block(layer, first, count, None if box is None else _box_from_json(box))
                for layer, first, count, box in content
            )
        )
    if kind == "upload":
        return Upload(_box_from_json(content))
    if kind == "download":
        return Download(_box_from_json(content))
    raise ValueError(f"unknown kind of step {kind!r}")
