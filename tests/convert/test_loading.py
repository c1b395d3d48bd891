"""Loading a network from a Python file and a safetensors state dict."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from polyspike.convert import load_model
from polyspike.spec import ConversionError, FileFormatError

SOURCE = """
import torch.nn as nn
from helper import WIDTH

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(1, WIDTH, 3), nn.BatchNorm2d(WIDTH), nn.ReLU())

def build():
    return Net()

model = Net()
number = 5
"""


@pytest.fixture
def source(tmp_path):
    (tmp_path / "helper.py").write_text("WIDTH = 3\n")
    path = tmp_path / "net.py"
    path.write_text(SOURCE)
    return path


def reference():
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU()).eval()


@pytest.mark.parametrize("attribute", ["model", "build", "Net"])
def test_module_function_and_class(source, tmp_path, attribute):
    wanted = reference()
    tensors = wanted.state_dict()
    del tensors["1.num_batches_tracked"]
    save_file(tensors, tmp_path / "net.safetensors")
    model = load_model(source, tmp_path / "net.safetensors", attribute)
    assert not model.training
    x = torch.rand(2, 1, 5, 5)
    assert torch.equal(model(x), wanted(x))


def test_state_that_does_not_belong(source, tmp_path):
    path = tmp_path / "net.safetensors"
    tensors = reference().state_dict()
    save_file({name: value for name, value in tensors.items() if name != "0.bias"}, path)
    with pytest.raises(FileFormatError, match=r"does not belong to Net: it lacks '0\.bias'"):
        load_model(source, path)
    save_file({**tensors, "extra.weight": torch.zeros(2)}, path)
    with pytest.raises(FileFormatError, match=r"has 'extra\.weight', which the network does not have"):
        load_model(source, path)
    save_file({**tensors, "0.bias": torch.zeros(4)}, path)
    with pytest.raises(FileFormatError, match=r"'0\.bias' has shape \[4\], but Net needs \[3\]"):
        load_model(source, path)
    path.write_bytes(b"not safetensors at all")
    with pytest.raises(FileFormatError, match="not a readable safetensors file"):
        load_model(source, path)
    with pytest.raises(FileFormatError, match="no such file"):
        load_model(source, tmp_path / "other.safetensors")


def test_source_that_builds_nothing(source, tmp_path):
    with pytest.raises(ConversionError, match=r"defines no 'network'; it defines 'Net', 'build', 'model'"):
        load_model(source, attribute="network")
    with pytest.raises(ConversionError, match="'number' is a int"):
        load_model(source, attribute="number")
    broken = tmp_path / "broken.py"
    broken.write_text("import nothing_of_that_name\n")
    with pytest.raises(ConversionError, match=r"broken.py: ModuleNotFoundError while building"):
        load_model(broken)
    with pytest.raises(FileFormatError, match="no such file"):
        load_model(tmp_path / "missing.py")
