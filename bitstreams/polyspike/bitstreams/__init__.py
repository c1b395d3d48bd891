"""The released bitstreams and what is known of them: a folder a board, with a manifest and most with an archive."""

from pathlib import Path

from polyspike.spec import FileFormatError

from .archive import SUFFIX, Bitstream, crc32, pack, read, sha256, unpack
from .manifest import Manifest, Utilization

__all__ = [
    "FOLDER",
    "RELEASED",
    "SUFFIX",
    "Bitstream",
    "Manifest",
    "Utilization",
    "crc32",
    "load",
    "manifests",
    "pack",
    "read",
    "release",
    "save",
    "sha256",
    "unpack",
]

#: Where they are.
FOLDER = Path(__file__).parent

#: The boards whose bitstream itself is released; of the others the manifest is.
RELEASED = ("ulx3s-85f", "ulx3s-25f", "orangecrab-25f", "icebreaker", "tangnano9k")


def manifests(folder: Path = FOLDER) -> dict[str, Manifest]:
    """Return every manifest by the name of its board.

    Raises
    ------
    FileFormatError
        One cannot be read, or is not of the board whose folder it is in.
    """
    found = {}
    for path in sorted(folder.glob("*/manifest.json")):
        manifest = Manifest.from_json(path.read_text(), str(path))
        if manifest.board != path.parent.name:
            raise FileFormatError(f"{path}: of board {manifest.board!r}, but in the folder of {path.parent.name!r}")
        found[manifest.board] = manifest
    return found


def load(board: str, folder: Path = FOLDER) -> Bitstream:
    """Return a board's released bitstream.

    Raises
    ------
    FileFormatError
        There is none, it was damaged, or it is not of this board or not the one of the manifest beside it.
    """
    path = folder / board / f"{board}{SUFFIX}"
    if not path.is_file():
        there = sorted(each.stem for each in folder.glob(f"*/*{SUFFIX}"))
        raise FileFormatError(f"no released bitstream for {board!r}; there are {', '.join(there) or 'none'}")
    bitstream = read(path)
    if bitstream.manifest.board != board:
        raise FileFormatError(f"{path}: of board {bitstream.manifest.board!r}, not {board!r}")
    if bitstream.manifest != manifests(folder).get(board):
        raise FileFormatError(f"{path}: its manifest is not the one beside it, {path.with_name('manifest.json')}")
    return bitstream


def save(bitstream: Bitstream, folder: Path, archive: bool = True) -> None:
    """Write a board's manifest to a folder, and the archive as well if it is wanted."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(bitstream.manifest.to_json())
    if archive:
        (folder / f"{bitstream.manifest.board}{SUFFIX}").write_bytes(pack(bitstream))


def release(bitstream: Bitstream, folder: Path = FOLDER) -> Path:
    """Put a bitstream among the released ones and return its folder."""
    board = bitstream.manifest.board
    save(bitstream, folder / board, archive=board in RELEASED)
    return folder / board
