"""What is known of a board's bitstream: a JSON file, checked on reading."""

import dataclasses
import json
import re
from typing import Any, Self, get_origin

from polyspike.spec import Configuration, ConfigurationError, FileFormatError

#: The format's version.
VERSION = 1


@dataclasses.dataclass(frozen=True)
class Utilization:
    """What of the part is used: look-up tables (iCE40: logic cells), flip-flops, multipliers, block RAMs."""

    lut: int
    ff: int
    dsp: int
    bram: int


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a bitstream is of, how it was made, and what it reached."""

    board: str
    #: The FPGA's part number.
    device: str
    #: The hardware configuration, whole; in the file its name stands beside it.
    configuration: Configuration
    #: The clock that the board's PLL makes, in Hz.
    clock_hz: int
    #: What place and route was asked for, in MHz.
    target_mhz: float
    #: The fastest clock that the routed design takes, in MHz.
    fmax_mhz: float
    seed: int
    utilization: Utilization
    #: The bitstream's file name, its hash and CRC-32 (hexadecimal).
    bitstream: str
    sha256: str
    crc32: str
    #: SHA-256 over everything that the tools read.
    source: str
    build_seconds: float
    #: Versions of the tools by name.
    tools: dict[str, str]
    #: The version of polyspike.
    polyspike: str

    @property
    def digest(self) -> str:
        """The configuration's digest, which the device tells, too."""
        return self.configuration.digest

    def to_json(self) -> str:
        """Return the file's text, always the same for the same values."""
        fields = dataclasses.asdict(self)
        hardware = fields.pop("configuration")
        ordered = {
            "version": VERSION,
            "board": fields.pop("board"),
            "device": fields.pop("device"),
            "configuration": hardware.pop("name"),
            "digest": self.digest,
            "hardware": hardware,
            **fields,
        }
        return json.dumps(ordered, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str) -> Self:
        """Read a manifest. `where` names it in errors.

        Raises
        ------
        FileFormatError
            It is not JSON, of another version, has unknown or missing fields, or its digest is not its hardware's.
        """
        try:
            fields = json.loads(text)
        except json.JSONDecodeError as error:
            raise FileFormatError(f"{where}: not JSON: {error}") from None
        if not isinstance(fields, dict) or fields.pop("version", None) != VERSION:
            raise FileFormatError(f"{where}: not a manifest of version {VERSION}")
        hardware = {"name": _take(fields, "configuration", str, where), **_take(fields, "hardware", dict, where)}
        digest, used = _take(fields, "digest", str, where), _take(fields, "utilization", dict, where)
        counts = {each.name: _take(used, each.name, int, where) for each in dataclasses.fields(Utilization)}
        try:
            configuration = Configuration.from_dict(hardware)
        except ConfigurationError as error:
            raise FileFormatError(f"{where}: {error}") from None
        values: dict[str, Any] = {"configuration": configuration, "utilization": Utilization(**counts)}
        for field in dataclasses.fields(cls):
            if field.name not in values:
                values[field.name] = _take(fields, field.name, get_origin(field.type) or field.type, where)
        if not re.fullmatch(r"[\w.-]+", values["bitstream"]):
            raise FileFormatError(f"{where}: {values['bitstream']!r} is not a plain file name")
        for key in (*fields, *used):
            raise FileFormatError(f"{where}: unknown field {key!r}")
        if digest != configuration.digest:
            raise FileFormatError(f"{where}: digest {digest}, but that of its hardware is {configuration.digest}")
        return cls(**values)


def _take(fields: dict[str, Any], key: str, kind: Any, where: str) -> Any:
    """Take a field of one kind out of what was read."""
    if key not in fields:
        raise FileFormatError(f"{where}: field {key!r} is missing")
    value = fields.pop(key)
    if kind is float and isinstance(value, int):
        value = float(value)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise FileFormatError(f"{where}: field {key!r} is {value!r}, but it must be of type {kind.__name__}")
    return value
