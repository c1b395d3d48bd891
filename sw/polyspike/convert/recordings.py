"""Readers of event cameras' recordings, by what a file begins with or is called.

| file | of | format |
| --- | --- | --- |
| `.aedat4` | iniVation's DV | AEDAT 4, by the library `aedat` |
| `.aedat` | cAER, DVS128 Gesture | AEDAT 3.1 |
| `.raw` | Prophesee | EVT 2.0, EVT 3.0 |
| `.dat` | Prophesee | DAT, version 2 |
| `.bin` | N-MNIST, N-Caltech101 | five bytes an event: x, y, polarity and 23 bits of time |

All but the first are plain arrays of words, and read by numpy alone. The manufacturers describe the formats in
<https://docs.inivation.com> ("AEDAT file formats") and <https://docs.prophesee.ai> ("data encoding formats", "DAT").
"""

import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polyspike.spec import InputError

from .events import EVENT, Events

Integers = NDArray[np.integer]
Size = tuple[int, int]

#: What an error lists when a file is none of them.
FORMATS = (
    ".aedat4 (AEDAT 4), .aedat (AEDAT 3.1), .raw (Prophesee EVT 2.0 and 3.0), .dat (Prophesee DAT 2), .bin (N-MNIST)"
)

#: (height, width) of sensors that AEDAT 3.1 files name.
_SENSORS = {"DVS128": (128, 128), "DAVIS240": (180, 240), "DAVIS346": (260, 346)}

#: Header of an AEDAT 3.1 packet: type, source, bytes an event, offset of its time, overflow of time, capacity, number
#: of events, number of those that are valid.
_PACKET = struct.Struct("<hhiiiiii")
_POLARITY = 1


def read_events(path: Path | str) -> Events:
    """Read a recording.

    Returns
    -------
    Its polarity events in the order of the file, and the sensor's size where the file tells it

    Raises
    ------
    InputError
        The file is missing, damaged, or of none of the formats; the message lists them.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file. Recordings are read from {FORMATS}")
    with path.open("rb") as file:
        start = file.read(12)
    if start.startswith(b"#!AER-DAT4"):
        return _aedat4(path)
    reader: Callable[[Path, bytes], Events]
    if start == b"#!AER-DAT3.1":
        reader = _aedat31
    elif start.startswith(b"#!AER-DAT"):
        version = start[9:].decode("ascii", "replace")
        raise InputError(f"{path}: is AEDAT {version}; AEDAT 3.1 and 4 are read")
    elif path.suffix in _BY_SUFFIX:
        reader = _BY_SUFFIX[path.suffix]
    else:
        raise InputError(f"{path}: not a format that recordings are read from, which are {FORMATS}")
    return reader(path, path.read_bytes())


def _made(t: Integers, x: Integers, y: Integers, on: NDArray[np.generic], size: Size | None) -> Events:
    events = np.zeros(len(t), EVENT)
    events["t"], events["x"], events["y"], events["on"] = t, x, y, on
    return Events(events, size)


def _words(path: Path, data: bytes, start: int, dtype: str) -> Integers:
    """Return a file's words from `start` on."""
    kind = np.dtype(dtype)
    if (len(data) - start) % kind.itemsize:
        raise InputError(f"{path}: truncated; the last event has not all of its {kind.itemsize} bytes")
    return np.frombuffer(data, kind, offset=start)


def _aedat4(path: Path) -> Events:
    # It is a library's file: flatbuffers in compressed packets.
    import aedat

    try:
        decoder = aedat.Decoder(path)
        streams = {number: stream for number, stream in decoder.id_to_stream().items() if stream["type"] == "events"}
        packets = [packet["events"] for packet in decoder if "events" in packet]
    except BaseException as error:
        # At some damage the library's Rust code panics, which is no Exception in Python.
        if isinstance(error, Exception) or type(error).__name__ == "PanicException":
            raise InputError(f"{path}: not a readable AEDAT 4 file ({error})") from None
        raise
    if not streams:
        raise InputError(f"{path}: has no stream of polarity events")
    if len(streams) > 1:
        raise InputError(f"{path}: has polarity events of {len(streams)} cameras; one is read")
    (stream,) = streams.values()
    events = np.concatenate([np.zeros(0, EVENT), *(packet.astype(EVENT) for packet in packets)])
    return Events(events, (stream["height"], stream["width"]))


def _aedat31(path: Path, data: bytes) -> Events:
    mark = b"#!END-HEADER\r\n"
    header, found, _ = data.partition(mark)
    if not found:
        raise InputError(f"{path}: the header of this AEDAT 3.1 file has no end")
    at = len(header) + len(mark)
    parts = [np.zeros(0, "<u8")]
    words = [np.zeros(0, "<u4")]
    while at < len(data):
        if len(data) - at < _PACKET.size:
            raise InputError(f"{path}: truncated inside the header of a packet")
        kind, _, size, _, overflow, _, number, _ = _PACKET.unpack_from(data, at)
        at += _PACKET.size
        if min(size, number, overflow) < 0 or len(data) - at < size * number:
            raise InputError(f"{path}: damaged, or truncated inside a packet of {number} events of {size} bytes")
        if kind == _POLARITY:
            if size != 8:
                raise InputError(f"{path}: has polarity events of {size} bytes; AEDAT 3.1 has 8")
            pairs = np.frombuffer(data, "<u4", 2 * number, at).reshape(-1, 2)
            words.append(pairs[:, 0])
            parts.append(pairs[:, 1].astype("<u8") + (overflow << 31))
        at += size * number
    address, t = np.concatenate(words), np.concatenate(parts)
    valid = address & 1 == 1
    address, t = address[valid], t[valid]
    source = re.search(rb"#Source \d+: (\w+)", header)
    name = source.group(1).decode() if source else ""
    size_ = next((size for sensor, size in _SENSORS.items() if name.startswith(sensor)), None)
    return _made(t, address >> 17, address >> 2 & 0x7FFF, address >> 1 & 1, size_)


def _prophesee_header(path: Path, data: bytes) -> tuple[str, int]:
    """Return the header's text, and where what follows it begins."""
    lines, at = [], 0
    while data[at : at + 1] == b"%":
        end = data.find(b"\n", at)
        if end < 0:
            raise InputError(f"{path}: truncated inside its header")
        lines.append(data[at + 1 : end].decode("ascii", "replace").strip())
        at = end + 1
        if lines[-1].lower() == "end":
            break
    if not lines:
        raise InputError(f"{path}: has no header, lines that begin with %, as Prophesee's files have")
    return "\n".join(lines), at


def _dimension(header: str, name: str) -> int | None:
    """Return what a Prophesee header says of `name`, "height" or "width"."""
    found = re.search(rf"\b{name}[ =](\d+)", header, re.IGNORECASE)
    if found is None:
        geometry = re.search(r"geometry[ :](\d+)x(\d+)", header, re.IGNORECASE)
        return int(geometry.group(1 if name == "width" else 2)) if geometry else None
    return int(found.group(1))


def _size(header: str) -> Size | None:
    height, width = _dimension(header, "height"), _dimension(header, "width")
    return None if height is None or width is None else (height, width)


def _dat(path: Path, data: bytes) -> Events:
    header, at = _prophesee_header(path, data)
    version = re.search(r"^version (\d+)", header, re.IGNORECASE | re.MULTILINE)
    if version is not None and version.group(1) != "2":
        raise InputError(f"{path}: is version {version.group(1)} of DAT; version 2 is read")
    if data[at : at + 2] not in (b"\x00\x08", b"\x0c\x08"):
        raise InputError(
            f"{path}: does not hold events of a camera's pixels (type {data[at : at + 2].hex() or 'none'})"
        )
    words = _words(path, data, at + 2, "<u8")
    t, address = words & 0xFFFFFFFF, words >> 32
    return _made(t, address & 0x3FFF, address >> 14 & 0x3FFF, address >> 28 & 1, _size(header))


def _raw(path: Path, data: bytes) -> Events:
    header, at = _prophesee_header(path, data)
    found = re.search(r"^(?:evt (\d\.\d)|format EVT(\d+))", header, re.MULTILINE | re.IGNORECASE)
    version = "" if found is None else found.group(1) or ".".join(found.group(2).ljust(2, "0"))
    if version == "2.0":
        return _evt2(_words(path, data, at, "<u4"), _size(header))
    if version == "3.0":
        return _evt3(_words(path, data, at, "<u2"), _size(header))
    raise InputError(
        f"{path}: is encoded as EVT {version or '(its header does not say what)'}; EVT 2.0 and 3.0 are read"
    )


def _latest(chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return, for each word, the index of the last chosen word up to it; -1 where there is none."""
    return np.maximum.accumulate(np.where(chosen, np.arange(len(chosen)), -1)) if len(chosen) else np.zeros(0, np.int64)


def _evt2(words: Integers, size: Size | None) -> Events:
    kind = words >> 28
    high = _latest(kind == 8)
    # What comes before the first upper part of the time has no time.
    events = np.flatnonzero((kind <= 1) & (high >= 0))
    word = words[events]
    t = (words[high[events]].astype("<u8") & 0x0FFFFFFF) << 6 | (word >> 22 & 0x3F)
    return _made(t, word >> 11 & 0x7FF, word & 0x7FF, kind[events] == 1, size)


def _evt3(words: Integers, size: Size | None) -> Events:
    kind, value = words >> 12, (words & 0xFFF).astype(np.int64)
    row, base, low, high = (_latest(kind == each) for each in (0x0, 0x3, 0x6, 0x8))
    # The upper part of the time has 12 bits. Where it falls back, it has begun anew.
    highs = value[kind == 0x8]
    value_of_high = np.zeros_like(value)
    value_of_high[kind == 0x8] = highs + (np.cumsum(np.diff(highs, prepend=0) < -(1 << 11)) << 12)
    # One pixel has its place in the word itself; of a vector, which continues where the one before it ended, each bit
    # is a pixel.
    pixel, length = kind == 0x2, np.select([kind == 0x4, kind == 0x5], [12, 8], 0)
    before = np.cumsum(length) - length
    known = (row >= 0) & (low >= 0) & (high >= 0)
    chosen = np.flatnonzero(known & (pixel | ((length > 0) & (base >= 0))))
    bits = np.where(pixel[chosen], 1, words[chosen] & (1 << length[chosen]) - 1).astype(np.uint16)
    index, offset = np.nonzero(bits[:, None] >> np.arange(12, dtype=np.uint16) & 1)
    word = chosen[index]
    source = np.where(pixel[word], word, base[word])
    x = (value[source] & 0x7FF) + np.where(pixel[word], 0, before[word] - before[source] + offset)
    t = value_of_high[high[word]] << 12 | value[low[word]]
    return _made(t, x, value[row[word]] & 0x7FF, value[source] >> 11, size)


def _nmnist(path: Path, data: bytes) -> Events:
    columns = _words(path, data, 0, "u1")
    if len(columns) % 5:
        raise InputError(f"{path}: truncated; N-MNIST's events have 5 bytes, and the last one has {len(columns) % 5}")
    x, y, first, second, third = columns.reshape(-1, 5).T.astype(np.int64)
    t = (first & 0x7F) << 16 | second << 8 | third
    # Row 240 is no row: time, of which 13 bits are the sensor's, has begun anew.
    anew = y == 240
    t = t + (np.cumsum(anew) << 13)
    return _made(t[~anew], x[~anew], y[~anew], first[~anew] >> 7, None)


_BY_SUFFIX: dict[str, Callable[[Path, bytes], Events]] = {".dat": _dat, ".raw": _raw, ".bin": _nmnist}
