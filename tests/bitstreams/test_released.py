"""The manifests and bitstreams that come with polyspike."""

import importlib.metadata
from pathlib import Path

import pytest

from polyspike import bitstreams
from polyspike.gateware.boards import BOARDS, build
from polyspike.spec import NAMED

ROOT = Path(__file__).resolve().parents[2]
MANIFESTS = bitstreams.manifests()


def test_promised_bitstreams_are_there() -> None:
    assert set(bitstreams.RELEASED) <= set(MANIFESTS)
    for board in bitstreams.RELEASED:
        bitstreams.load(board)


def test_nothing_else_lies_about() -> None:
    """A folder a board, with a manifest and, where it is released, an archive."""
    for folder in (path for path in bitstreams.FOLDER.iterdir() if path.is_dir() and path.name != "__pycache__"):
        archive = {f"{folder.name}{bitstreams.SUFFIX}"} if folder.name in bitstreams.RELEASED else set()
        assert {path.name for path in folder.iterdir()} == {"manifest.json"} | archive


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifest_is_of_the_board_as_it_is(name: str) -> None:
    """Configuration, part and clock are those of the board's class, and the timing closes."""
    manifest, board = MANIFESTS[name], BOARDS[name]()
    assert manifest.configuration == NAMED[board.configuration_name]
    assert (manifest.device, manifest.clock_hz) == (board.device, board.clock_hz)
    assert manifest.fmax_mhz >= manifest.clock_hz / 1e6
    assert manifest.target_mhz == board.clock.target_hz / 1e6
    used = manifest.utilization
    assert min(used.lut, used.ff, used.bram) > 0 and used.dsp >= 0


@pytest.mark.parametrize("name", MANIFESTS)
def test_tools_are_the_pinned_ones(name: str) -> None:
    pinned = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")
    )
    for tool, version in MANIFESTS[name].tools.items():
        assert pinned[tool] == version, tool


def test_rebuild_gives_the_same_bytes(tmp_path: Path) -> None:
    """The iCEBreaker's, from the sources as they are, with the tools that are installed."""
    released = bitstreams.load("icebreaker")
    for tool, version in released.manifest.tools.items():
        assert importlib.metadata.version(tool) == version, f"{tool} differs, so the bytes may: install constraints.txt"
    result = build.build(BOARDS["icebreaker"](), tmp_path, seeds=(released.manifest.seed,))
    built = result.bitstream.manifest
    assert built.source == released.manifest.source, "sources changed: `make bitstream BOARD=icebreaker`"
    assert built.sha256 == released.manifest.sha256
    assert result.bitstream.data == released.data
