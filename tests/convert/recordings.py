"""Writers of event cameras' file formats, one event at a time as the formats' descriptions say; independent of readers.

An event is (t, x, y, on), t in microseconds.
"""

import struct


def dat(events, header="% Data file containing CD events\n% Version 2\n% Width 640\n% Height 480\n"):
    data = header.encode() + b"\x0c\x08"
    for t, x, y, on in events:
        data += struct.pack("<II", t, x | y << 14 | on << 28)
    return data


def nmnist(events):
    data = b""
    for t, x, y, on in events:
        data += bytes([x, y]) + (on << 23 | t).to_bytes(3, "big")
    return data


def aedat31(packets, source="DVS128", overflow=0):
    """`packets` are lists of events; between them stands a packet of special events."""
    data = (
        f"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: {source}\r\n#Start-Time: 2020-01-01\r\n#!END-HEADER\r\n".encode()
    )
    for events in packets:
        # An event that is marked as invalid, and is none.
        words = [(0 << 17 | 0 << 2 | 1 << 1 | 0, 0)]
        words += [(x << 17 | y << 2 | on << 1 | 1, t) for t, x, y, on in events]
        data += struct.pack("<hhiiiiii", 1, 1, 8, 4, overflow, len(words), len(words), len(words) - 1)
        data += b"".join(struct.pack("<II", *pair) for pair in words)
        data += struct.pack("<hhiiiiii", 0, 1, 8, 4, 0, 1, 1, 1) + bytes(8)
    return data


def evt2(events, header="% evt 2.0\n% format EVT2;height=720;width=1280\n% end\n"):
    data = header.encode()
    high = None
    for t, x, y, on in events:
        if t >> 6 != high:
            high = t >> 6
            data += struct.pack("<I", 8 << 28 | high)
        data += struct.pack("<I", on << 28 | (t & 0x3F) << 22 | x << 11 | y)
        data += struct.pack("<I", 0xA << 28)  # an external trigger
    return data


def evt3(events, header="% evt 3.0\n% geometry 1280x720\n% end\n"):
    """Neighbours in a row that fire together become vectors, all others single events."""
    words = []
    high = low = row = None
    at = 0
    while at < len(events):
        t, x, y, on = events[at]
        if (t >> 12) & 0xFFF != high:
            high = (t >> 12) & 0xFFF
            words.append(0x8 << 12 | high)
        if t & 0xFFF != low:
            low = t & 0xFFF
            words.append(0x6 << 12 | low)
        if y != row:
            row = y
            words.append(y)
        together = [x]
        while at + len(together) < len(events):
            other = events[at + len(together)]
            if (other[0], other[2], other[3]) != (t, y, on) or not together[-1] < other[1] < x + 32:
                break
            together.append(other[1])
        at += len(together)
        if len(together) == 1:
            words.append(0x2 << 12 | on << 11 | x)
            continue
        words.append(0x3 << 12 | on << 11 | x)
        for start, length, kind in ((0, 12, 0x4), (12, 12, 0x4), (24, 8, 0x5)):
            mask = sum(1 << (each - x - start) for each in together if start <= each - x < start + length)
            words.append(kind << 12 | mask)
            words.append(0xE << 12)  # of no meaning here
    return header.encode() + struct.pack(f"<{len(words)}H", *words)


# AEDAT 4: flatbuffers, made by hand. Offsets to tables and strings point forwards, those to vtables backwards.


def _buffer(identifier, body, table):
    """A flatbuffer with its size before it; `table` is where in `body` the root table begins."""
    start = 8
    inner = struct.pack("<I", start + table) + identifier + body
    return struct.pack("<I", len(inner)) + inner


def _header_buffer(xml, data_table):
    # vtable: its size, the table's size, places of compression, dataTablePosition and infoNode in the table
    vtable = struct.pack("<5HH", 10, 24, 4, 8, 16, 0)
    text = xml.encode() + b"\0"
    table = struct.pack("<iiqII", len(vtable), 0, data_table, 8, 0)
    return _buffer(b"IOHE", vtable + table + struct.pack("<I", len(xml)) + text, len(vtable))


def _events_buffer(events):
    vtable = struct.pack("<3HH", 6, 8, 4, 0)
    # The vector's length stands so that its structs lie at multiples of 8.
    table = struct.pack("<iI", len(vtable), 8) + bytes(4)
    structs = b"".join(struct.pack("<qhhb3x", t, x, y, on) for t, x, y, on in events)
    return _buffer(b"EVTS", vtable + table + struct.pack("<I", len(events)) + structs, len(vtable))


_XML = """<dv version="2.0"><node name="outInfo" path="/mainloop/Recorder/outInfo/">
<node name="0" path="/mainloop/Recorder/outInfo/0/">
<attr key="compression" type="string">NONE</attr>
<attr key="originalModuleName" type="string">capture</attr>
<attr key="originalOutputName" type="string">events</attr>
<attr key="typeDescription" type="string">Array of events (polarity ON/OFF).</attr>
<attr key="typeIdentifier" type="string">EVTS</attr>
<node name="info" path="/mainloop/Recorder/outInfo/0/info/">
<attr key="sizeX" type="int">346</attr><attr key="sizeY" type="int">260</attr>
<attr key="source" type="string">DVXplorer</attr></node></node></node></dv>
"""


def aedat4(packets):
    data = b"#!AER-DAT4.0\r\n" + _header_buffer(_XML, -1)
    for events in packets:
        payload = _events_buffer(events)
        data += struct.pack("<ii", 0, len(payload)) + payload
    return data
