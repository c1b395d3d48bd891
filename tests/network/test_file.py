"""Network files: what comes back is what went in, and anything else is refused."""

import json
import random
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from network.networks import changed, full_network
from polyspike.cosim.random_networks import random_network, with_events
from polyspike.network import CountRange, Input, Layer, MaxPool, Network, load, save
from polyspike.network.file import KIND, VERSION, content_digest, kind, read_tensors, to_header, write_tensors
from polyspike.spec import FileFormatError, NetworkError, PolyspikeError
from polyspike.spec.lfsr import TAPS, Lfsr


def same_array(first: np.ndarray, second: np.ndarray) -> None:
    assert first.dtype == second.dtype
    assert first.shape == second.shape
    assert first.tobytes() == second.tobytes()


def same_network(first: Network, second: Network) -> None:
    assert (first.name, first.timesteps, first.classes) == (second.name, second.timesteps, second.classes)
    for a, b in zip(first, second, strict=True):
        assert type(a) is type(b)
        assert (a.name, a.shape) == (b.name, b.shape)
        if isinstance(a, Input):
            assert (a.counts, a.scale, a.mean, a.std, a.image) == (b.counts, b.scale, b.mean, b.std, b.image)
            assert a.bins == b.bins
        elif isinstance(a, MaxPool):
            assert (a.source, a.window, a.stride, a.padding) == (b.source, b.window, b.stride, b.padding)
        else:
            same_array(a.bias, b.bias)
            same_array(a.scale, b.scale)
            for x, y in zip(a.synapses, b.synapses, strict=True):
                assert (x.source, x.window, x.stride, x.padding) == (y.source, y.window, y.stride, y.padding)
                assert (x.groups, x.shift) == (y.groups, y.shift)
                same_array(x.weight, y.weight)
            assert (a.neuron is None) == (b.neuron is None)
            if a.neuron is not None:
                assert (a.neuron.counts, a.neuron.rectified) == (b.neuron.counts, b.neuron.rectified)
                same_array(a.neuron.theta, b.neuron.theta)
                assert (a.neuron.theta_neg is None) == (b.neuron.theta_neg is None)
                if a.neuron.theta_neg is not None:
                    same_array(a.neuron.theta_neg, b.neuron.theta_neg)
                same_array(a.neuron.v0, b.neuron.v0)
                assert a.neuron.lfsr == b.neuron.lfsr


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save(full_network(), tmp_path / "full.psnn")
    return tmp_path / "full.psnn"


@pytest.mark.parametrize("timesteps", [1, 3])
def test_nothing_is_lost(timesteps: int, tmp_path: Path) -> None:
    network = full_network(timesteps)
    save(network, tmp_path / "a.psnn")
    loaded = load(str(tmp_path / "a.psnn"))
    same_network(network, loaded)
    save(loaded, tmp_path / "b.psnn")
    assert (tmp_path / "a.psnn").read_bytes() == (tmp_path / "b.psnn").read_bytes()
    assert kind(tmp_path / "a.psnn") == "polyspike network"


def test_events_keep_their_bins(tmp_path: Path) -> None:
    network = with_events(random_network(4))
    save(network, tmp_path / "a.psnn")
    assert load(tmp_path / "a.psnn").input.bins == network.timesteps == 3
    same_network(load(tmp_path / "a.psnn"), network)


def test_random_firing_is_kept(tmp_path: Path) -> None:
    network = changed(full_network(), "conv", neuron={"counts": CountRange(0, 1, 4), "lfsr": Lfsr(TAPS, 0xFFFFFFFF)})
    save(network, tmp_path / "random.psnn")
    same_network(network, load(tmp_path / "random.psnn"))
    # Networks without it look in their files as they did before there was any.
    assert "lfsr" not in json.dumps(to_header(full_network())[0])


def test_views_of_larger_arrays_are_kept(tmp_path: Path) -> None:
    network = full_network()
    weight = network["conv"].synapses[0].weight
    spread = np.zeros((6, 4, 3, 6), np.int8)
    spread[:, ::2, :, ::2] = weight
    viewed = changed(network, "conv", synapse={"weight": spread[:, ::2, :, ::2]}, bias=network["conv"].bias[::-1])
    save(viewed, tmp_path / "a.psnn")
    same_network(load(tmp_path / "a.psnn"), viewed)


def test_users_read_the_true_integers(path: Path) -> None:
    """Weights, thresholds, biases and scales are plain arrays, and the file opens with safetensors alone."""
    network = load(path)
    conv = network["conv"]
    assert isinstance(conv, Layer)
    assert conv.neuron is not None
    assert (conv.neuron.counts.n_neg, conv.neuron.counts.n_pos, conv.neuron.counts.bits) == (0, 15, 4)
    assert network.input.counts.largest == 128
    assert network.output.name == "output"
    with safe_open(str(path), framework="numpy") as file:
        assert file.metadata()["kind"] == "polyspike network"
        names = set(file.keys())
        same_array(file.get_tensor("conv/weight0"), conv.synapses[0].weight)
        same_array(file.get_tensor("conv/theta"), conv.neuron.theta)
        same_array(file.get_tensor("conv/scale"), conv.scale)
    assert names == {
        *(f"conv/{part}" for part in ("weight0", "bias", "scale", "theta", "v0")),
        *(f"join/{part}" for part in ("weight0", "weight1", "bias", "scale", "theta", "v0", "theta_neg")),
        *(f"output/{part}" for part in ("weight0", "bias", "scale")),
    }


def test_only_sound_networks_are_written(tmp_path: Path) -> None:
    with pytest.raises(NetworkError, match="timesteps"):
        save(full_network().replace(timesteps=0), tmp_path / "a.psnn")
    assert not (tmp_path / "a.psnn").exists()


def test_truncated_files_are_refused(path: Path) -> None:
    data = path.read_bytes()
    header = 8 + int.from_bytes(data[:8], "little")
    for size in (0, 4, 8, 9, header - 1, header, header + 1, len(data) - 1):
        path.write_bytes(data[:size])
        for read in (load, kind):
            with pytest.raises(FileFormatError, match=r"full\.psnn: not a readable safetensors file, or truncated"):
                read(path)
    path.write_bytes(data + b"\0")
    with pytest.raises(FileFormatError, match="not a readable safetensors file"):
        load(path)


def test_altered_values_are_refused(path: Path) -> None:
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    for at in random.Random(0).sample(range(start, len(data)), 50):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :])
        with pytest.raises(FileFormatError, match=r"full\.psnn: the content does not match its digest"):
            load(path)


def test_altered_descriptions_are_refused(path: Path) -> None:
    """Wherever a byte of the header changes, the file is refused, or it still holds the same network."""
    network = full_network()
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    accepted = 0
    for at in random.Random(1).sample(range(start), 400):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :])
        try:
            loaded = load(path)
        except FileFormatError:
            continue
        # A space that became another kind of white space, or a letter of JSON's escapes.
        same_network(loaded, network)
        accepted += 1
    assert accepted < 10


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'\\"timesteps\\": 1', b'\\"timesteps\\": 2'),
        (b'\\"shift\\": 7', b'\\"shift\\": 6'),
        (b'\\"rectified\\": true', b'\\"rectified\\":false'),
        (b'\\"three\\"', b'\\"thref\\"'),
    ],
)
def test_an_edited_header_is_refused(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert data.count(old) >= 1
    assert len(old) == len(new)
    path.write_bytes(data.replace(old, new))
    with pytest.raises(FileFormatError, match="the file was altered or damaged"):
        load(path)


def test_missing_files_are_named(tmp_path: Path) -> None:
    for read in (load, kind):
        with pytest.raises(FileFormatError, match=r"nothing\.psnn: no such file"):
            read(tmp_path / "nothing.psnn")
        with pytest.raises(FileFormatError, match=str(tmp_path)):
            read(tmp_path)


def test_other_kinds_of_files_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "other"
    header, arrays = to_header(full_network())
    write_tensors(path, "polyspike program", VERSION, header, arrays)
    with pytest.raises(FileFormatError, match="holds 'polyspike program', but a 'polyspike network' file is needed"):
        load(path)
    path.write_bytes(b"PK\x03\x04 this is a zip file, as torch writes them")
    with pytest.raises(FileFormatError, match="not a readable safetensors file"):
        load(path)


@pytest.mark.parametrize(("dtype", "size"), [("F32", 4), ("BF16", 2), ("F8_E4M3", 1)])
def test_a_checkpoint_in_place_of_a_network_is_told_apart(tmp_path: Path, dtype: str, size: int) -> None:
    """Whatever the types of its tensors, some of which numpy does not have."""
    path = tmp_path / "checkpoint.safetensors"
    text = json.dumps({"weight": {"dtype": dtype, "shape": [3], "data_offsets": [0, 3 * size]}}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(3 * size))
    with pytest.raises(FileFormatError, match="holds 'plain tensors', but a 'polyspike network' file is needed"):
        load(path)
    assert kind(path) == "plain tensors"


@pytest.mark.parametrize("version", [VERSION - 1, VERSION + 1])
def test_other_versions_are_refused(tmp_path: Path, version: int) -> None:
    write_tensors(tmp_path / "a", KIND, version, *to_header(full_network()))
    with pytest.raises(FileFormatError, match=f"a: format version {version}, but this release reads version {VERSION}"):
        load(tmp_path / "a")


def description_without(key: str):
    header, arrays = to_header(full_network())
    where = header
    *parents, last = key.split("/")
    for parent in parents:
        where = where[int(parent) if parent.isdigit() else parent]
    del where[last]
    return header, arrays


@pytest.mark.parametrize(
    "key",
    [
        "name",
        "timesteps",
        "classes",
        "nodes",
        "nodes/0/kind",
        "nodes/0/counts",
        "nodes/0/image",
        "nodes/0/bins",
        "nodes/1/synapses",
        "nodes/1/synapses/0/source",
        "nodes/1/synapses/0/shift",
        "nodes/1/neuron",
        "nodes/1/neuron/rectified",
        "nodes/2/window",
        "nodes/4/shape",
    ],
)
def test_incomplete_descriptions_name_what_is_missing(tmp_path: Path, key: str) -> None:
    write_tensors(tmp_path / "a.psnn", KIND, VERSION, *description_without(key))
    missing = key.rpartition("/")[2]
    with pytest.raises(
        FileFormatError, match=rf"a\.psnn: the network description is incomplete: KeyError\('{missing}'\)"
    ):
        load(tmp_path / "a.psnn")


def test_a_missing_array_is_named(tmp_path: Path) -> None:
    header, arrays = to_header(full_network())
    del arrays["join/weight1"]
    write_tensors(tmp_path / "a.psnn", KIND, VERSION, header, arrays)
    with pytest.raises(FileFormatError, match=r"a\.psnn: .*incomplete: KeyError\('join/weight1'\)"):
        load(tmp_path / "a.psnn")


def test_unknown_nodes_are_refused(tmp_path: Path) -> None:
    header, arrays = to_header(full_network())
    header["nodes"][2]["kind"] = "dropout"
    write_tensors(tmp_path / "a.psnn", KIND, VERSION, header, arrays)
    with pytest.raises(FileFormatError, match="unknown kind of node 'dropout'"):
        load(tmp_path / "a.psnn")


def test_a_file_is_verified_when_it_is_read(tmp_path: Path) -> None:
    header, arrays = to_header(full_network())
    write_tensors(tmp_path / "a.psnn", KIND, VERSION, {**header, "timesteps": 2}, arrays)
    with pytest.raises(NetworkError, match="max pooling of spike counts is exact at T = 1 only"):
        load(tmp_path / "a.psnn")


def test_a_header_that_is_no_json_is_refused(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"header":"{', b'"header":"['))
    with pytest.raises(FileFormatError, match="the header is missing or is not JSON"):
        load(path)
    path.write_bytes(data.replace(b'"header":', b'"hEader":'))
    with pytest.raises(FileFormatError, match="the header is missing or is not JSON"):
        load(path)


def test_the_container_keeps_any_array(tmp_path: Path) -> None:
    arrays = {
        "words": np.array([0, 1 << 63, (1 << 64) - 1], np.uint64),
        "empty": np.zeros((3, 0), np.int16),
        "column": np.arange(12, dtype=np.int32).reshape(3, 4)[:, 1],
    }
    write_tensors(tmp_path / "a", "anything", 5, {"z": [1, None, "é"], "a": 0.1}, arrays)
    header, loaded = read_tensors(tmp_path / "a", "anything", 5)
    assert header == {"z": [1, None, "é"], "a": 0.1}
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        same_array(loaded[name], array)


def test_the_digest_covers_names_types_shapes_and_values() -> None:
    array = np.arange(6, dtype=np.int32)
    digests = [
        content_digest({}, {"a": array}),
        content_digest({"x": 1}, {"a": array}),
        content_digest({}, {"b": array}),
        content_digest({}, {"a": array.view(np.uint32)}),
        content_digest({}, {"a": array.reshape(2, 3)}),
        content_digest({}, {"a": array[::-1]}),
        content_digest({}, {"a": array, "b": array}),
    ]
    assert len(set(digests)) == len(digests)
    assert content_digest({}, {"a": array.reshape(2, 3).T}) == content_digest({}, {"a": array.reshape(2, 3).T.copy()})
    assert issubclass(FileFormatError, PolyspikeError)
