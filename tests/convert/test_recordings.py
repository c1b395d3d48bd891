"""Reading recordings that independent writers made, and refusing damaged ones."""

import numpy as np
import pytest

from convert import recordings as writers
from polyspike.convert.recordings import read_events
from polyspike.spec import InputError


def recording(number=400, width=300, height=200, seed=0):
    """Random events in order of time, some of them neighbours in a row at one time."""
    random = np.random.default_rng(seed)
    t, events = 5_000, []
    while len(events) < number:
        t += int(random.choice([0, 1, 40, 3_000, 100_000]))
        x, y, on = int(random.integers(width)), int(random.integers(height)), int(random.integers(2))
        for step in range(int(random.choice([1, 1, 2, 5, 20]))):
            if x + step < width and random.random() < 0.8:
                events.append((t, x + step, y, on))
    return events


EVENTS = recording()
SMALL = recording(width=120, height=120)

FILES = {
    "dat": ("a.dat", writers.dat(EVENTS), EVENTS, (480, 640)),
    "dat without a size": ("a.dat", writers.dat(EVENTS, "% Version 2\n"), EVENTS, None),
    "EVT 2.0": ("a.raw", writers.evt2(EVENTS), EVENTS, (720, 1280)),
    "EVT 3.0": ("a.raw", writers.evt3(EVENTS), EVENTS, (720, 1280)),
    "EVT 3.0 by its format": ("a.raw", writers.evt3(EVENTS, "% format EVT3\n% end\n"), EVENTS, None),
    "AEDAT 3.1": ("a.aedat", writers.aedat31([SMALL[:100], [], SMALL[100:]]), SMALL, (128, 128)),
    "AEDAT 3.1 of another sensor": ("a.aedat", writers.aedat31([SMALL], "Other"), SMALL, None),
    "AEDAT 4": ("a.aedat4", writers.aedat4([EVENTS[:7], EVENTS[7:]]), EVENTS, (260, 346)),
}


def write(folder, name, data):
    path = folder / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("kind", FILES)
def test_every_event_is_read(kind, tmp_path):
    name, data, events, size = FILES[kind]
    read = read_events(write(tmp_path, name, data))
    assert read.size == size
    assert [tuple(map(int, event)) for event in read.events] == events


def test_nmnist(tmp_path):
    events = [(t // 10, x, y, on) for t, x, y, on in SMALL if t < 1 << 26]
    read = read_events(write(tmp_path, "00001.bin", writers.nmnist(events)))
    assert read.size is None
    assert [tuple(map(int, event)) for event in read.events] == events


def test_times_that_begin_anew(tmp_path):
    """EVT 3.0 has 24 bits of time, N-MNIST's sensor 13, and says so with row 240; AEDAT 3.1 counts its overflows."""
    events = [((1 << 24) - 5, 1, 2, 1), ((1 << 24) + 7, 3, 4, 0), (5 << 22, 3, 3, 1), (7 << 22, 3, 3, 1)]
    events += [((2 << 24) + 1, 5, 6, 1)]
    read = read_events(write(tmp_path, "a.raw", writers.evt3(events)))
    assert read.events["t"].tolist() == [t for t, *_ in events]
    data = writers.nmnist([(8_000, 1, 2, 1), (0, 0, 240, 0), (10, 3, 4, 0)])
    assert read_events(write(tmp_path, "a.bin", data)).events["t"].tolist() == [8_000, 8_202]
    data = writers.aedat31([[(9, 1, 2, 1)]], overflow=2)
    assert read_events(write(tmp_path, "a.aedat", data)).events["t"].tolist() == [(2 << 31) + 9]


def test_what_has_no_time_yet_is_left_out(tmp_path):
    """A recording may be cut so that its first words lack what they refer to."""
    for version in ("evt2", "evt3"):
        whole = getattr(writers, version)(EVENTS)
        body = whole.index(b"% end\n") + 6
        cut = whole[:body] + whole[body + 8 :]
        read = read_events(write(tmp_path, "a.raw", cut))
        assert 0 < len(read) < len(EVENTS)
        found = [tuple(map(int, event)) for event in read.events]
        assert found == EVENTS[-len(found) :]


@pytest.mark.parametrize("kind", FILES)
def test_truncated_files_are_refused(kind, tmp_path):
    name, data, *_ = FILES[kind]
    with pytest.raises(InputError, match=r"truncated|not a readable AEDAT 4"):
        read_events(write(tmp_path, name, data[:-3]))
    with pytest.raises(InputError, match=name):
        read_events(write(tmp_path, name, data[:5]))


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.txt", b"t x y p\n", r"not a format that recordings are read from, which are \.aedat4"),
        ("a.aedat", b"#!AER-DAT2.0\r\n", "is AEDAT 2.0; AEDAT 3.1 and 4 are read"),
        ("a.aedat", b"#!AER-DAT3.1\r\n#Format: RAW\r\n", "has no end"),
        ("a.aedat", writers.aedat31([SMALL])[:-50], "truncated inside"),
        ("a.raw", b"% evt 2.1\n% end\n", "is encoded as EVT 2.1; EVT 2.0 and 3.0 are read"),
        ("a.raw", b"% Date 2020\n% end\n", "its header does not say what"),
        ("a.raw", b"\0" * 64, "has no header"),
        ("a.dat", writers.dat(EVENTS, "% Version 1\n"), "is version 1 of DAT; version 2 is read"),
        ("a.dat", b"% Version 2\n\x0e\x08" + bytes(8), r"does not hold events of a camera's pixels \(type 0e08\)"),
        ("a.bin", bytes(12), "the last one has 2"),
        ("a.aedat4", b"#!AER-DAT4.0\r\n" + bytes(200), "not a readable AEDAT 4 file"),
    ],
)
def test_other_files_are_refused(name, data, message, tmp_path):
    with pytest.raises(InputError, match=message):
        read_events(write(tmp_path, name, data))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_events(tmp_path / "none.raw")
