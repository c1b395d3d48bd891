"""Layers of 4 and 8 bits in one network, weights and counts, on the simulated gateware."""

import pytest

from convert.test_conversion import images_for
from convert.zoo import build
from polyspike.compiler import compile
from polyspike.convert import LayerOptions, Options, convert
from polyspike.driver import compare, open_device
from polyspike.spec import TINY


@pytest.mark.parametrize("timesteps", [1, 2])
def test_no_integer_differs(timesteps: int) -> None:
    images = images_for("residual +")
    # Each layer reads one width and emits another.
    layers = {"conv0": LayerOptions(weight_bits=4, bits=8), "conv1": LayerOptions(bits=4), "conv2": LayerOptions(4, 8)}
    options = Options(timesteps=timesteps, layers=layers)
    program = compile(convert(build("residual +"), images, options, name="mixed"), TINY)
    results = []
    for device in ("sim", "golden"):
        with open_device(device, TINY) as opened:
            opened.load(program)
            results.append(opened.infer(images[:3], trace=True))
    assert compare(*results).differing == 0
    assert results[0].counts["conv0"].max() > 15 >= results[0].counts["conv1"].max()
