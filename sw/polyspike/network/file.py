"""Network files: safetensors with a JSON header. Self-describing, versioned, digest-checked, no pickle.

Weights that are all within -7..7 are stored two a byte; any others are a byte each. `write_tensors` and `read_tensors`
are the container that program files use too.
"""

import dataclasses
import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from polyspike.spec import FileFormatError
from polyspike.spec.lfsr import Lfsr

from .graph import CountRange, Input, Layer, MaxPool, Network, Neuron, Node, Synapse
from .verify import verify

KIND = "polyspike network"
VERSION = 2

Arrays = dict[str, NDArray[Any]]

#: Largest magnitude of weights that take 4 bits each.
_LARGEST_PACKED = 7


def content_digest(header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return the SHA-256 over a header and its arrays."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name}:{array.dtype.str}:{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def write_tensors(path: Path | str, kind: str, version: int, header: Mapping[str, Any], arrays: Arrays) -> None:
    """Write a header and arrays to one safetensors file."""
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    metadata = {
        "kind": kind,
        "version": str(version),
        "header": json.dumps(header, sort_keys=True),
        "digest": content_digest(header, arrays),
    }
    data = to_bytes(arrays, metadata=metadata)
    # The library writes metadata in an order that changes from run to run; the same content must give the same bytes.
    size = int.from_bytes(data[:8], "little")
    text = json.dumps(json.loads(data[8 : 8 + size]), sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    Path(path).write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])


def read_tensors(path: Path | str, kind: str, version: int) -> tuple[dict[str, Any], Arrays]:
    """Read what `write_tensors` wrote.

    Raises
    ------
    FileFormatError
        The file is missing, truncated, altered, of another kind or version.
    """
    path = Path(path)
    if not path.is_file():
        raise FileFormatError(f"{path}: no such file")
    try:
        with safe_open(str(path), framework="numpy") as file:
            metadata = file.metadata() or {}
            # Before the tensors: those of another kind of file may have types that numpy does not know.
            _check_kind(path, metadata, kind, version)
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError, ValueError, struct.error) as error:
        raise FileFormatError(f"{path}: not a readable safetensors file, or truncated ({error})") from None
    try:
        header = json.loads(metadata["header"])
    except (KeyError, ValueError):
        raise FileFormatError(f"{path}: the header is missing or is not JSON") from None
    if metadata.get("digest") != content_digest(header, arrays):
        raise FileFormatError(f"{path}: the content does not match its digest; the file was altered or damaged")
    return header, arrays


def _check_kind(path: Path, metadata: Mapping[str, str], kind: str, version: int) -> None:
    if metadata.get("kind") != kind:
        raise FileFormatError(f"{path}: holds {metadata.get('kind', 'plain tensors')!r}, but a {kind!r} file is needed")
    if metadata.get("version") != str(version):
        raise FileFormatError(
            f"{path}: format version {metadata.get('version')}, but this release reads version {version}"
        )


def kind(path: Path | str) -> str:
    """Return what a file says it holds, e.g. "polyspike network". Reads the header only; raises FileFormatError."""
    try:
        with safe_open(str(path), framework="numpy") as file:
            return str((file.metadata() or {}).get("kind", "plain tensors"))
    except FileNotFoundError:
        raise FileFormatError(f"{path}: no such file") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise FileFormatError(f"{path}: not a readable safetensors file, or truncated ({error})") from None


def to_header(network: Network) -> tuple[dict[str, Any], Arrays]:
    """Return a network as a JSON-able header and named arrays."""
    arrays: Arrays = {}
    nodes: list[dict[str, Any]] = []
    for node in network:
        entry: dict[str, Any] = {"name": node.name, "shape": list(node.shape)}
        if isinstance(node, Input):
            entry |= {
                "kind": "input",
                "counts": _counts(node.counts),
                "scale": node.scale,
                "mean": list(node.mean),
                "std": list(node.std),
                "image": list(node.image),
                "bins": node.bins,
            }
        elif isinstance(node, MaxPool):
            entry |= {
                "kind": "maxpool",
                "source": node.source,
                "window": list(node.window),
                "stride": list(node.stride),
                "padding": list(node.padding),
            }
        else:
            arrays[f"{node.name}/bias"] = node.bias
            arrays[f"{node.name}/scale"] = node.scale
            entry |= {"kind": "layer", "synapses": [], "neuron": None}
            for index, synapse in enumerate(node.synapses):
                described = {
                    "source": synapse.source,
                    "window": list(synapse.window),
                    "stride": list(synapse.stride),
                    "padding": list(synapse.padding),
                    "groups": synapse.groups,
                    "shift": synapse.shift,
                }
                arrays[f"{node.name}/weight{index}"] = synapse.weight
                if weight_bits(synapse.weight) == 4:
                    arrays[f"{node.name}/weight{index}"] = pack_weights(synapse.weight)
                    described["packed"] = list(synapse.weight.shape)
                entry["synapses"].append(described)
            if node.neuron is not None:
                arrays[f"{node.name}/theta"] = node.neuron.theta
                arrays[f"{node.name}/v0"] = node.neuron.v0
                if node.neuron.theta_neg is not None:
                    arrays[f"{node.name}/theta_neg"] = node.neuron.theta_neg
                entry["neuron"] = {"counts": _counts(node.neuron.counts), "rectified": node.neuron.rectified}
                if node.neuron.lfsr is not None:
                    entry["neuron"]["lfsr"] = dataclasses.asdict(node.neuron.lfsr)
        nodes.append(entry)
    header = {
        "name": network.name,
        "timesteps": network.timesteps,
        "classes": list(network.classes),
        "nodes": nodes,
    }
    return header, arrays


def from_header(header: Mapping[str, Any], arrays: Arrays) -> Network:
    """Build and verify a network from `to_header`'s result."""
    try:
        nodes = tuple(_node(entry, arrays) for entry in header["nodes"])
        network = Network(header["name"], header["timesteps"], nodes, tuple(header["classes"]))
    except (KeyError, TypeError, ValueError) as error:
        raise FileFormatError(f"the network description is incomplete: {error!r}") from None
    return verify(network)


def save(network: Network, path: Path | str) -> None:
    """Write a network to `path` (customarily `.psnn`)."""
    write_tensors(path, KIND, VERSION, *to_header(verify(network)))


def load(path: Path | str) -> Network:
    """Read a network. Raises FileFormatError or NetworkError when the file is not sound."""
    header, arrays = read_tensors(path, KIND, VERSION)
    try:
        return from_header(header, arrays)
    except FileFormatError as error:
        raise FileFormatError(f"{path}: {error}") from None


def weight_bits(weight: NDArray[np.int8]) -> int:
    """Return how many bits each of these weights takes in a file, 4 or 8."""
    return 4 if int(np.abs(weight.astype(np.int16)).max(initial=0)) <= _LARGEST_PACKED else 8


def pack_weights(weight: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Return weights from -7 to 7, of any shape, two a byte: the first in the low half, in two's complement."""
    nibbles = np.zeros((weight.size + 1) // 2 * 2, np.uint8)
    nibbles[: weight.size] = weight.ravel().view(np.uint8) & 15
    packed: NDArray[np.uint8] = (nibbles[0::2] | (nibbles[1::2] << 4)).astype(np.uint8)
    return packed


def unpack_weights(packed: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.int8]:
    """Return int8 weights of a shape from what `pack_weights` made. Raises ValueError when they are not that."""
    size = int(np.prod(shape))
    if packed.dtype != np.uint8 or packed.shape != ((size + 1) // 2,):
        raise ValueError(f"{packed.dtype} {packed.shape} do not hold weights of shape {shape}, two a byte")
    nibbles = np.stack([packed & 15, packed >> 4], 1).ravel()[:size]
    return ((nibbles ^ 8).astype(np.int8) - 8).astype(np.int8).reshape(shape)


def _weight(array: NDArray[Any], entry: Mapping[str, Any]) -> NDArray[np.int8]:
    return unpack_weights(array, tuple(map(int, entry["packed"]))) if "packed" in entry else array


def _counts(counts: CountRange) -> list[int]:
    return [counts.n_neg, counts.n_pos, counts.bits]


def _lfsr(entry: Mapping[str, Any] | None) -> Lfsr | None:
    return None if entry is None else Lfsr(int(entry["taps"]), int(entry["seed"]))


def _pair(values: list[int]) -> tuple[int, int]:
    first, second = values
    return int(first), int(second)


def _triple(values: list[int]) -> tuple[int, int, int]:
    first, second, third = values
    return int(first), int(second), int(third)


def _node(entry: Mapping[str, Any], arrays: Arrays) -> Node:
    name, shape = entry["name"], _triple(entry["shape"])
    if entry["kind"] == "input":
        return Input(
            name,
            shape,
            CountRange(*entry["counts"]),
            float(entry["scale"]),
            tuple(entry["mean"]),
            tuple(entry["std"]),
            _triple(entry["image"]),
            None if entry["bins"] is None else int(entry["bins"]),
        )
    if entry["kind"] == "maxpool":
        return MaxPool(
            name,
            shape,
            entry["source"],
            _pair(entry["window"]),
            _pair(entry["stride"]),
            _pair(entry["padding"]),
        )
    if entry["kind"] != "layer":
        raise ValueError(f"unknown kind of node {entry['kind']!r}")
    synapses = tuple(
        Synapse(
            each["source"],
            _weight(arrays[f"{name}/weight{index}"], each),
            _pair(each["window"]),
            _pair(each["stride"]),
            _pair(each["padding"]),
            each["groups"],
            each["shift"],
        )
        for index, each in enumerate(entry["synapses"])
    )
    neuron = None
    if entry["neuron"] is not None:
        neuron = Neuron(
            CountRange(*entry["neuron"]["counts"]),
            arrays[f"{name}/theta"],
            arrays[f"{name}/v0"],
            entry["neuron"]["rectified"],
            arrays.get(f"{name}/theta_neg"),
            _lfsr(entry["neuron"].get("lfsr")),
        )
    return Layer(name, shape, synapses, arrays[f"{name}/bias"], neuron, arrays[f"{name}/scale"])
