"""A bitstream and its manifest in one file, the same bytes for the same contents.

The file is a ZIP archive with the manifest as `manifest.json`, the bitstream under the name that the manifest gives,
and nothing else; ZIP adds a CRC-32 to each, and the manifest has the bitstream's CRC-32 and SHA-256 once more.
"""

import dataclasses
import hashlib
import io
import zipfile
import zlib
from pathlib import Path

from polyspike.spec import FileFormatError

from .manifest import Manifest

#: How such files are called.
SUFFIX = ".psbit"

_MANIFEST = "manifest.json"
#: The earliest time that ZIP knows: archives do not depend on when they were made.
_TIME = (1980, 1, 1, 0, 0, 0)


@dataclasses.dataclass(frozen=True)
class Bitstream:
    """A bitstream with its manifest. Made by `make` or read by `read`, so that they belong together."""

    manifest: Manifest
    data: bytes


def sha256(data: bytes) -> str:
    """Return a bitstream's hash as manifests have it."""
    return hashlib.sha256(data).hexdigest()


def crc32(data: bytes) -> str:
    """Return a bitstream's CRC-32 as manifests have it."""
    return f"{zlib.crc32(data):08x}"


def pack(bitstream: Bitstream) -> bytes:
    """Return the archive's bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        manifest = bitstream.manifest
        for name, data in ((_MANIFEST, manifest.to_json().encode()), (manifest.bitstream, bitstream.data)):
            archive.writestr(zipfile.ZipInfo(name, _TIME), data, zipfile.ZIP_DEFLATED)
    return file.getvalue()


def read(path: Path) -> Bitstream:
    """Read an archive and check it.

    Raises
    ------
    FileFormatError
        It is not an archive of this kind, or was damaged.
    """
    return unpack(path.read_bytes(), str(path))


def unpack(data: bytes, where: str) -> Bitstream:
    """Take an archive's bytes apart and check them. `where` names the file in errors."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            contents = {name: archive.read(name) for name in archive.namelist()}
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise FileFormatError(f"{where}: not a bitstream archive, or a damaged one: {error}") from None
    if _MANIFEST not in contents:
        raise FileFormatError(f"{where}: no {_MANIFEST} inside, so not a bitstream archive")
    try:
        text = contents.pop(_MANIFEST).decode()
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{where}: {_MANIFEST}: {error}") from None
    manifest = Manifest.from_json(text, f"{where}: {_MANIFEST}")
    if list(contents) != [manifest.bitstream]:
        raise FileFormatError(
            f"{where}: holds {', '.join(contents) or 'nothing'}, but should hold {manifest.bitstream}"
        )
    return Bitstream(manifest, _checked(contents[manifest.bitstream], manifest, where))


def _checked(data: bytes, manifest: Manifest, where: str) -> bytes:
    """Return a bitstream that is the one its manifest means."""
    for name, found, right in (
        ("CRC-32", crc32(data), manifest.crc32),
        ("SHA-256", sha256(data), manifest.sha256),
    ):
        if found != right:
            raise FileFormatError(f"{where}: the bitstream has {name} {found}, but its manifest says {right}")
    return data
