"""Networks as other tools take them: a plain list of operations with folded weights, in an .npz file.

A description is a list of nodes, the input first and the output last. Each has a `name` and an `op`:

- `input`: `shape` (channels, height, width).
- `conv`: `source`, `stride`, `padding`, `relu`; the weights [out, in, kh, kw] are `<name>.weight`, the biases
  `<name>.bias`.
- `linear`: `source`, `relu`; the weights [out, channels, height, width] are for every pixel of the source's map.
- `average`: `source`, `window`, `stride`.
- `add`: two `sources`, `relu`.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyspike.convert.graph import FloatInput, FloatLayer, FloatMaxPool, FloatNetwork, Role, Term
from polyspike.spec import ConversionError

Nodes = list[dict[str, Any]]
Arrays = dict[str, NDArray[np.float32]]


def describe(network: FloatNetwork) -> tuple[Nodes, Arrays]:
    """Return the nodes of a float network, and their arrays by name.

    Tracing folds average pooling into a linear layer behind it; here it is taken out again, as nobody else would have
    so many weights.

    Raises
    ------
    ConversionError
        The network has an operation that is not in the list above.
    """
    nodes: Nodes = []
    arrays: Arrays = {}
    shapes = {node.name: node.shape for node in network}
    names = {node.name: f"n{index}" for index, node in enumerate(network)}
    for node in network:
        name = names[node.name]
        if isinstance(node, FloatInput):
            nodes.append({"name": name, "op": "input", "shape": list(node.shape)})
            continue
        if isinstance(node, FloatMaxPool) or node.limit is not None:
            raise ConversionError(f"{node.name}: neither max pooling nor ReLU6 can be described to a peer")
        relu = node.role is Role.RELU
        if node.role is Role.POOL:
            (term,) = node.terms
            nodes.append(_average(name, names[term.source], term.window[0], term.stride[0]))
        elif len(node.terms) == 1 and node.terms[0].window == shapes[node.terms[0].source][1:]:
            _linear(name, names[node.terms[0].source], node, relu, nodes, arrays)
        else:
            _sum(name, names, node, relu, nodes, arrays)
    return nodes, arrays


def _average(name: str, source: str, window: int, stride: int) -> dict[str, Any]:
    return {"name": name, "op": "average", "source": source, "window": window, "stride": stride}


def _linear(name: str, source: str, node: FloatLayer, relu: bool, nodes: Nodes, arrays: Arrays) -> None:
    """Append a linear layer, and before it the average pooling that is in its weights."""
    (term,) = node.terms
    weight = term.weight.detach().numpy()
    window = 1
    if term.shared:
        window = term.window[0]
        weight = weight * term.taps
    elif min(term.window) > 1 and (pooled := unpooled(weight)) is not None:
        window, weight = 2, pooled
    if window > 1:
        nodes.append(_average(f"{name}p", source, window, window))
        source = f"{name}p"
    nodes.append({"name": name, "op": "linear", "source": source, "relu": relu})
    arrays[f"{name}.weight"], arrays[f"{name}.bias"] = weight, node.bias.detach().numpy()


def unpooled(weight: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """Return the weights [out, channels, h / 2, w / 2] of the averages over 2 x 2 pixels, or None if it has others."""
    out, channels, height, width = weight.shape
    if height % 2 or width % 2:
        return None
    blocks = weight.reshape(out, channels, height // 2, 2, width // 2, 2)
    first = blocks[:, :, :, :1, :, :1]
    return None if (blocks != first).any() else 4 * first[:, :, :, 0, :, 0]


def _sum(name: str, names: dict[str, str], node: FloatLayer, relu: bool, nodes: Nodes, arrays: Arrays) -> None:
    """Append a convolution, or two sources and their sum."""
    summed = []
    for index, term in enumerate(node.terms):
        source = names[term.source]
        if _is_copy(term):
            summed.append(source)
            continue
        if term.groups != 1 or term.shared:
            raise ConversionError(f"{node.name}: grouped convolutions cannot be described to a peer")
        own = name if len(node.terms) == 1 else f"{name}t{index}"
        nodes.append(
            {
                "name": own,
                "op": "conv",
                "source": source,
                "stride": term.stride[0],
                "padding": term.padding[0],
                "relu": relu and len(node.terms) == 1,
            }
        )
        arrays[f"{own}.weight"] = term.weight.detach().numpy()
        bias = node.bias.detach().numpy()
        arrays[f"{own}.bias"] = bias if index == 0 else np.zeros_like(bias)
        summed.append(own)
    if len(summed) > 1:
        nodes.append({"name": name, "op": "add", "sources": summed, "relu": relu})


def _is_copy(term: Term) -> bool:
    return term.fixed and term.window == (1, 1) and term.stride == (1, 1) and bool((term.weight == 1).all())


def evaluate(nodes: Nodes, arrays: Arrays, images: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the logits [number, outputs] that a description has for images [number, channels, height, width]."""
    values: dict[str, NDArray[np.float64]] = {}
    for node in nodes:
        name = node["name"]
        if node["op"] == "input":
            result = images.astype(np.float64)
        elif node["op"] == "add":
            result = np.sum([values[source] for source in node["sources"]], axis=0)
        elif node["op"] == "average":
            windows = _windows(values[node["source"]], node["window"], node["window"], node["stride"])
            result = windows.mean((4, 5))
        else:
            weight, bias = arrays[f"{name}.weight"], arrays[f"{name}.bias"]
            source, stride, padding = values[node["source"]], node.get("stride", 1), node.get("padding", 0)
            source = np.pad(source, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
            windows = _windows(source, *weight.shape[2:], stride)
            result = np.einsum("ncyxhw,ochw->noyx", windows, weight, optimize=True) + bias.reshape(-1, 1, 1)
        values[name] = np.maximum(result, 0) if node.get("relu") else result
    return values[nodes[-1]["name"]].reshape(len(images), -1)


def _windows(x: NDArray[np.float64], height: int, width: int, stride: int) -> NDArray[np.float64]:
    """Return [number, channels, y, x, height, width]: the windows of maps [number, channels, height, width]."""
    return np.lib.stride_tricks.sliding_window_view(x, (height, width), (2, 3))[:, :, ::stride, ::stride]


def multiplications(nodes: Nodes, arrays: Arrays, shape: tuple[int, ...]) -> int:
    """Return the multiplications of convolutions and linear layers for an image."""
    total = 0
    sizes = {nodes[0]["name"]: shape[1]}
    for node in nodes[1:]:
        size = sizes[node["sources"][0] if node["op"] == "add" else node["source"]]
        if node["op"] == "average":
            size = (size - node["window"]) // node["stride"] + 1
        elif node["op"] != "add":
            weight = arrays[f"{node['name']}.weight"]
            size = (size + 2 * node.get("padding", 0) - weight.shape[2]) // node.get("stride", 1) + 1
            total += int(weight.size) * size * size
        sizes[node["name"]] = size
    return total


def write(path: Path, nodes: Nodes, arrays: Arrays, images: NDArray[np.float32]) -> None:
    """Write a description, and images for it, as an .npz file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    contents: dict[str, Any] = {"nodes": np.array(json.dumps(nodes)), "images": images, **arrays}
    np.savez(path, **contents)
