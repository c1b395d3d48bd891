"""Configurations: what is refused and how, digests, names, and the sizes that follow from them."""

import dataclasses
import json
import re

import pytest

from polyspike.spec import (
    LARGE,
    LARGE_PAIRS,
    NAMED,
    SMALL,
    TINY,
    Configuration,
    ConfigurationError,
    for_neuron,
    memory,
    named,
)
from polyspike.spec.configuration import FEATURES
from polyspike.spec.memory import Space

#: Fields that are not mentioned where they are 0.
OPTIONAL = ("pairs", *FEATURES)

POWER = "a power of two from 64 to 65536"
INTEGER = "an integer"


@pytest.mark.parametrize(
    ("field", "value", "right"),
    [
        ("name", "", "a non-empty string"),
        ("name", 5, "a non-empty string"),
        ("columns", 3, "1, 2, 4, 8 or 16"),
        ("columns", 0, "1, 2, 4, 8 or 16"),
        ("columns", 32, "1, 2, 4, 8 or 16"),
        ("lanes", 4, "8 or 16"),
        ("lanes", 32, "8 or 16"),
        ("weight_depth", 1000, POWER),
        ("weight_depth", 32, POWER),
        ("spike_depth", 131072, POWER),
        ("param_depth", 0, POWER),
        ("program_depth", -64, POWER),
        ("read_ports", 0, "1, 2 or 4 and no more than there are columns"),
        ("read_ports", 3, "1, 2 or 4 and no more than there are columns"),
        ("read_ports", 8, "1, 2 or 4 and no more than there are columns"),
        ("fire_width", 3, "1 or 2"),
        ("compact", 1, "0, or 1 with one column of 8 lanes and fire_width 1"),
        ("compact", 2, "0, or 1 with one column of 8 lanes and fire_width 1"),
        ("count_bits", 6, "4 or 8"),
        ("membrane_bits", 15, "from 16 to 32"),
        ("membrane_bits", 33, "from 16 to 32"),
        ("prefetch", 2, "4, 8, 16, 32 or 64"),
        ("prefetch", 12, "4, 8, 16, 32 or 64"),
        ("prefetch", 128, "4, 8, 16, 32 or 64"),
        ("frame_words", 4, "a power of two from 8 to 1024"),
        ("frame_words", 2048, "a power of two from 8 to 1024"),
        ("rx_bytes", 1024, "a power of two from 2048 (two largest payloads) to 65536"),
        ("rx_bytes", 5000, "a power of two from 2048 (two largest payloads) to 65536"),
        ("rx_bytes", 131072, "a power of two from 2048 (two largest payloads) to 65536"),
        ("fabric_lanes", -1, "from 0 to 16, the lanes of a column"),
        ("fabric_lanes", 17, "from 0 to 16, the lanes of a column"),
        ("unpacker", 2, "0 or 1"),
        ("pairs", 2, "0 or 1"),
        ("columns", 8.0, INTEGER),
        ("lanes", "16", INTEGER),
        ("fire_width", True, INTEGER),
        ("membrane_bits", None, INTEGER),
    ],
)
def test_a_broken_invariant_names_field_value_and_range(field: str, value: object, right: str) -> None:
    name = value if field == "name" else "large"
    message = f"configuration {name!r}: {field} = {value!r}, but it must be {right}"
    with pytest.raises(ConfigurationError, match=f"^{re.escape(message)}$"):
        LARGE.replace(**{field: value})
    with pytest.raises(ConfigurationError, match=f"^{re.escape(message)}$"):
        Configuration.from_dict({**LARGE.to_dict(), field: value})


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("columns", (2, 4, 8, 16)),
        ("lanes", (8, 16)),
        ("weight_depth", (64, 65536)),
        ("read_ports", (1, 2, 4)),
        ("fire_width", (1, 2)),
        ("count_bits", (4, 8)),
        ("membrane_bits", (16, 24, 32)),
        ("prefetch", (4, 64)),
        ("frame_words", (8, 256)),
        ("rx_bytes", (2048, 65536)),
        ("fabric_lanes", (0, 16)),
        ("unpacker", (0, 1)),
        ("pairs", (0, 1)),
        ("negative_threshold", (0, 1)),
        ("probabilistic", (0, 1)),
    ],
)
def test_the_ends_of_every_range_are_legal(field: str, values: tuple[int, ...]) -> None:
    for value in values:
        assert getattr(LARGE.replace(**{field: value}), field) == value


def test_the_largest_frames_need_room_to_arrive() -> None:
    assert LARGE.replace(frame_words=1024, rx_bytes=16384).frame_words == 1024
    with pytest.raises(ConfigurationError, match=r"rx_bytes = 4096, but it must be a power of two from 16384"):
        LARGE.replace(frame_words=1024)


def test_no_more_read_ports_than_columns() -> None:
    assert TINY.replace(columns=2, compact=0, read_ports=2).read_ports == 2
    with pytest.raises(ConfigurationError, match=r"read_ports = 2, but it must be .*no more than there are columns"):
        TINY.replace(read_ports=2)
    with pytest.raises(ConfigurationError, match="read_ports = 2"):
        LARGE.replace(columns=1)


def test_pairs_need_columns_whose_lanes_all_have_multipliers() -> None:
    for without in (TINY, SMALL):
        with pytest.raises(ConfigurationError, match="pairs = 1, but it must be 0 where columns are compact or have"):
            without.replace(pairs=1)
    assert TINY.replace(compact=0, pairs=1).pairs == SMALL.replace(fabric_lanes=0, pairs=1).pairs == 1


def test_membranes_are_narrower_with_pairs() -> None:
    assert LARGE_PAIRS.replace(membrane_bits=25).membrane_bits == 25
    with pytest.raises(ConfigurationError, match="membrane_bits = 26, but it must be from 16 to 25 with pairs"):
        LARGE_PAIRS.replace(membrane_bits=26)


def test_replace_changes_a_copy() -> None:
    changed = TINY.replace(name="other", weight_depth=64)
    assert (changed.name, changed.weight_depth, changed.spike_depth) == ("other", 64, TINY.spike_depth)
    assert TINY.weight_depth == 2048
    with pytest.raises(dataclasses.FrozenInstanceError):
        TINY.columns = 2  # type: ignore[misc]


def test_unknown_and_missing_fields_are_named() -> None:
    with pytest.raises(ConfigurationError, match=r"unknown configuration field 'cores'; known are .*columns.*lanes"):
        TINY.replace(cores=4)
    with pytest.raises(ConfigurationError, match=r"unknown configuration field 'cores'; known are name, columns"):
        Configuration.from_dict({**TINY.to_dict(), "cores": 4})
    for field in dataclasses.fields(Configuration):
        if field.name in OPTIONAL:
            continue
        fields = TINY.to_dict()
        del fields[field.name]
        with pytest.raises(ConfigurationError, match=f"configuration field '{field.name}' is missing"):
            Configuration.from_dict(fields)


@pytest.mark.parametrize("configuration", NAMED.values(), ids=lambda c: c.name)
def test_plain_values_survive_json(configuration: Configuration) -> None:
    assert Configuration.from_dict(json.loads(json.dumps(configuration.to_dict()))) == configuration


#: Another legal value for every field of LARGE.
OTHER = {
    "columns": 4,
    "lanes": 8,
    "weight_depth": 64,
    "spike_depth": 64,
    "param_depth": 64,
    "program_depth": 64,
    "read_ports": 1,
    "fire_width": 1,
    "count_bits": 4,
    "membrane_bits": 25,
    "prefetch": 16,
    "frame_words": 8,
    "rx_bytes": 8192,
    "fabric_lanes": 3,
    "unpacker": 0,
    "pairs": 1,
    "negative_threshold": 1,
    "probabilistic": 1,
}


def test_the_digest_names_the_hardware_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    assert re.fullmatch("[0-9a-f]{16}", LARGE.digest)
    assert LARGE.replace(name="another").digest == LARGE.digest
    assert Configuration.from_dict(dict(reversed(LARGE.to_dict().items()))).digest == LARGE.digest
    # `compact` goes with a single column of 8 lanes: it is compared below.
    assert {"name", "compact", *OTHER} == {field.name for field in dataclasses.fields(Configuration)}
    digests = [LARGE.replace(**{field: value}).digest for field, value in OTHER.items()]
    assert len({LARGE.digest, *digests}) == 1 + len(OTHER)
    assert TINY.replace(compact=0).digest != TINY.digest
    before = LARGE.digest
    monkeypatch.setattr("polyspike.spec.configuration.ARCHITECTURE_VERSION", 999)
    assert LARGE.digest != before


def test_configurations_are_found_by_name() -> None:
    assert {"tiny": TINY, "small": SMALL, "large": LARGE, "large-pairs": LARGE_PAIRS} == NAMED
    assert [named(name) for name in NAMED] == [TINY, SMALL, LARGE, LARGE_PAIRS]
    assert len({configuration.digest for configuration in NAMED.values()}) == 4
    message = "unknown configuration 'huge'; there are tiny, small, large, large-pairs"
    with pytest.raises(ConfigurationError, match=message):
        named("huge")


def test_sizes_follow_from_the_fields() -> None:
    assert (TINY.weight_row_words, LARGE.weight_row_words) == (1, 2)
    # theta * 2^4 has to fit beside the sign and a bit of headroom: at most 2^(A-2) / 2^4.
    assert TINY.threshold_bits == 19
    assert (1 << 18).bit_length() == TINY.threshold_bits
    assert {space: memory.depth(LARGE, space) for space in Space} == {
        Space.SPIKES: 4096,
        Space.WEIGHTS: 2048 * 2,
        Space.PARAMS: 1024 * 2,
        Space.PROGRAM: 512,
        Space.REGISTERS: 14,
        Space.INPUT: 4096,
    }


def test_what_is_not_there_is_not_mentioned() -> None:
    """So that hardware without it stays what it was, with its digest, when features are added."""
    for field in OPTIONAL:
        assert field not in LARGE.to_dict()
        there = LARGE.replace(**{field: 1})
        assert there.to_dict() == {**LARGE.to_dict(), field: 1}
        assert Configuration.from_dict(there.to_dict()) == there
        assert Configuration.from_dict({**LARGE.to_dict(), field: 0}).digest == LARGE.digest != there.digest


def test_features_that_neurons_need() -> None:
    ternary = for_neuron(SMALL, "ecl")
    assert ternary.negative_threshold == 1 and ternary.probabilistic == 0 and ternary.name == "small-ecl"
    assert for_neuron(ternary, "ecl") is ternary and for_neuron(SMALL, "pmsm") is SMALL
    assert for_neuron(SMALL, "tpp").probabilistic == 1
    with pytest.raises(ConfigurationError, match="no neuron 'lif'; there are pmsm, sfn"):
        for_neuron(SMALL, "lif")
