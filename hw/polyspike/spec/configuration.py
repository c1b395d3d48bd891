"""Hardware configurations: plain frozen values, with named instances and a digest.

A configuration says how much hardware there is, never what it computes: one bitstream serves every network
that the compiler can lower to its configuration.
"""

import dataclasses
import hashlib
import json
from typing import Any

from .errors import ConfigurationError

#: Changes whenever instruction set, memory map, register map or frame format change. Part of every digest.
ARCHITECTURE_VERSION = 2

#: Bits of a spike memory word, of a program word, and of everything the host moves.
WORD_BITS = 64

#: Bits of a weight. Weights are symmetric, so -128 is never used.
WEIGHT_BITS = 8

#: Bits of every address field; addresses wrap at this width before they are cut to a memory's own depth.
ADDRESS_BITS = 16


#: What only some conversion methods need of the fire units. Where it is not there it costs nothing.
FEATURES = ("negative_threshold", "probabilistic")

#: Which of them the neurons of each conversion method need.
NEURON_FEATURES: dict[str, tuple[str, ...]] = {
    "pmsm": (),
    "sfn": (),
    "sfn-dual": (),
    "ecl": ("negative_threshold",),
    "qcfs": (),
    "if": (),
    "tpp": ("probabilistic",),
}

#: Fields that are mentioned neither in files nor in the digest where they are 0, because then they cost nothing.
_OPTIONAL = ("pairs", *FEATURES)


def _is_power_of_two(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


@dataclasses.dataclass(frozen=True)
class Configuration:
    """One shape of the accelerator. Invariants are checked at construction.

    Raises
    ------
    ConfigurationError
        A value breaks an invariant; the message names the field and what would be right.
    """

    name: str
    #: Columns: each has its own weight bank, gather, lanes and fire unit.
    columns: int
    #: Lanes a column: output channels that one event is added to at once.
    lanes: int
    #: Rows of a column's weight bank; a row is one int8 weight a lane.
    weight_depth: int
    #: Words of the spike memory, 64 bits each.
    spike_depth: int
    #: Output channels whose threshold, bias and initial potential a column holds.
    param_depth: int
    #: Instructions that fit, 64 bits each.
    program_depth: int
    #: Read ports of the spike memory; the columns are divided between them.
    read_ports: int = 1
    #: Lanes a column fires each cycle.
    fire_width: int = 1
    #: Widest spike count the fire units can emit, in bits.
    count_bits: int = 8
    #: 1: what lanes do each for themselves - counts of elementwise words, maxima, raw sums, firing - is done one lane
    #: after the other, with a fraction of the logic; 0: at once. Then `prefetch` is not used.
    compact: int = 0
    #: Lanes a column whose multiplier is made of look-up tables, where a device has too few multipliers.
    fabric_lanes: int = 0
    #: Width of a membrane potential, in bits.
    membrane_bits: int = 24
    #: Words each column fetches ahead.
    prefetch: int = 8
    #: Largest payload of a link frame, in words.
    frame_words: int = 128
    #: Bytes of requests that the device takes before it has answered them; see `link`.
    rx_bytes: int = 4096
    #: Whether the device unpacks dense inputs (space INPUT), 1 or 0.
    unpacker: int = 1
    #: Whether a multiplier can work on two positions at a time, 1 or 0.
    pairs: int = 0
    #: Whether a neuron's negative threshold may be another one than 0, 1 or 0.
    negative_threshold: int = 0
    #: Whether there are probabilistic neurons, 1 or 0.
    probabilistic: int = 0

    def __post_init__(self) -> None:
        def need(condition: bool, field: str, right: str) -> None:
            if not condition:
                value = getattr(self, field)
                raise ConfigurationError(f"configuration {self.name!r}: {field} = {value!r}, but it must be {right}")

        for field in dataclasses.fields(self):
            if field.name == "name":
                need(isinstance(self.name, str) and self.name != "", "name", "a non-empty string")
            else:
                value = getattr(self, field.name)
                need(isinstance(value, int) and not isinstance(value, bool), field.name, "an integer")
        need(self.columns in (1, 2, 4, 8, 16), "columns", "1, 2, 4, 8 or 16")
        need(self.lanes in (8, 16), "lanes", "8 or 16")
        for depth in ("weight_depth", "spike_depth", "param_depth", "program_depth"):
            value = getattr(self, depth)
            need(
                _is_power_of_two(value) and 64 <= value <= 1 << ADDRESS_BITS,
                depth,
                f"a power of two from 64 to {1 << ADDRESS_BITS}",
            )
        need(
            _is_power_of_two(self.read_ports) and self.read_ports <= min(self.columns, 4),
            "read_ports",
            "1, 2 or 4 and no more than there are columns",
        )
        need(self.fire_width in (1, 2), "fire_width", "1 or 2")
        need(
            self.compact == 0 or (self.compact == 1 and self.columns == 1 and self.lanes == 8 and self.fire_width == 1),
            "compact",
            "0, or 1 with one column of 8 lanes and fire_width 1",
        )
        need(self.count_bits in (4, 8), "count_bits", "4 or 8")
        need(0 <= self.fabric_lanes <= self.lanes, "fabric_lanes", f"from 0 to {self.lanes}, the lanes of a column")
        # Raw sums pass the multipliers of lanes with pairs in two parts.
        most = 25 if self.pairs else 32
        need(16 <= self.membrane_bits <= most, "membrane_bits", f"from 16 to {most}{' with pairs' * self.pairs}")
        need(_is_power_of_two(self.prefetch) and 4 <= self.prefetch <= 64, "prefetch", "4, 8, 16, 32 or 64")
        need(
            _is_power_of_two(self.frame_words) and 8 <= self.frame_words <= 1024,
            "frame_words",
            "a power of two from 8 to 1024",
        )
        need(
            _is_power_of_two(self.rx_bytes) and 16 * self.frame_words <= self.rx_bytes <= 1 << 16,
            "rx_bytes",
            f"a power of two from {16 * self.frame_words} (two largest payloads) to {1 << 16}",
        )
        for flag in ("unpacker", *_OPTIONAL):
            need(getattr(self, flag) in (0, 1), flag, "0 or 1")
        need(
            not self.pairs or not (self.compact or self.fabric_lanes),
            "pairs",
            "0 where columns are compact or have lanes of look-up tables",
        )

    def replace(self, **changes: Any) -> "Configuration":
        """Return a copy with some fields changed. Unknown fields are refused by name."""
        known = {field.name for field in dataclasses.fields(self)}
        unknown = sorted(set(changes) - known)
        if unknown:
            raise ConfigurationError(
                f"unknown configuration field {unknown[0]!r}; known are {', '.join(sorted(known))}"
            )
        return dataclasses.replace(self, **changes)

    @property
    def weight_row_words(self) -> int:
        """64-bit words that make one weight row."""
        return self.lanes * WEIGHT_BITS // WORD_BITS

    @property
    def threshold_bits(self) -> int:
        """Width of a threshold: wide enough for its largest legal value at 4-bit counts."""
        return self.membrane_bits - 5

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, as they stand in files; pairs and features only where they are there."""
        return {key: value for key, value in dataclasses.asdict(self).items() if value or key not in _OPTIONAL}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Configuration":
        """Build a configuration from `to_dict`'s result. Missing and unknown fields are refused by name."""
        names = [field.name for field in dataclasses.fields(cls)]
        for key in fields:
            if key not in names:
                raise ConfigurationError(f"unknown configuration field {key!r}; known are {', '.join(names)}")
        for key in names:
            if key not in fields and key not in _OPTIONAL:
                raise ConfigurationError(f"configuration field {key!r} is missing")
        return cls(**fields)

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that name this hardware: its fields (not its name) and the architecture version."""
        fields = {key: value for key, value in self.to_dict().items() if key != "name"}
        text = json.dumps({"architecture": ARCHITECTURE_VERSION, **fields}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


TINY = Configuration(
    name="tiny",
    columns=1,
    lanes=8,
    weight_depth=2048,
    spike_depth=1024,
    param_depth=256,
    program_depth=256,
    compact=1,
    frame_words=16,
    rx_bytes=512,
    unpacker=0,
)
SMALL = Configuration(
    name="small",
    columns=2,
    lanes=16,
    weight_depth=1024,
    spike_depth=2048,
    param_depth=512,
    program_depth=512,
    fire_width=2,
    fabric_lanes=2,
)
LARGE = Configuration(
    name="large",
    columns=8,
    lanes=16,
    weight_depth=2048,
    spike_depth=4096,
    param_depth=1024,
    program_depth=512,
    read_ports=2,
    fire_width=2,
)
LARGE_PAIRS = LARGE.replace(name="large-pairs", fire_width=1, pairs=1)

#: The configurations with a name, by name.
NAMED = {configuration.name: configuration for configuration in (TINY, SMALL, LARGE, LARGE_PAIRS)}


def for_neuron(configuration: Configuration, neuron: str) -> Configuration:
    """Return a configuration with the features that a conversion method's neurons need; itself if it has them.

    Raises
    ------
    ConfigurationError
        There is no such method.
    """
    if neuron not in NEURON_FEATURES:
        raise ConfigurationError(f"there is no neuron {neuron!r}; there are {', '.join(NEURON_FEATURES)}")
    missing = {feature: 1 for feature in NEURON_FEATURES[neuron] if not getattr(configuration, feature)}
    return configuration.replace(name=f"{configuration.name}-{neuron}", **missing) if missing else configuration


def named(name: str) -> Configuration:
    """Return the configuration called `name`.

    Raises
    ------
    ConfigurationError
        There is no such configuration; the message lists those there are.
    """
    if name not in NAMED:
        raise ConfigurationError(f"unknown configuration {name!r}; there are {', '.join(NAMED)}")
    return NAMED[name]
