"""The committed checkpoints reach what they promise; the command that makes them runs."""

import json

import numpy as np
import pytest
import torch

from polyspike.convert import Options, calibrate, demo, to_network, train_demo
from polyspike.convert.datasets import FASHION_MNIST_FOLDER, fashion_mnist
from polyspike.convert.training import predict
from polyspike.network import membrane_ranges

pytestmark = pytest.mark.skipif(
    not FASHION_MNIST_FOLDER.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed"
)

NUMBER = 1000


@pytest.fixture(scope="module")
def test_set():
    return fashion_mnist("test").first(NUMBER)


@pytest.fixture(scope="module")
def float_classes(test_set):
    return predict(demo.load_float(), train_demo.pixels(test_set.images))


def test_manifest_keeps_the_promises():
    accuracy = demo.manifest()["accuracy"]
    assert demo.manifest()["test_images"] == 10_000
    assert accuracy["float"] >= 0.92
    assert accuracy["calibrated_t1"] >= accuracy["float"] - 0.02
    assert accuracy["finetuned_t1"] >= accuracy["float"] - 0.005
    assert accuracy["finetuned_t2"] >= accuracy["finetuned_t1"]


def test_float_checkpoint(test_set, float_classes):
    assert (float_classes == test_set.labels).mean() == pytest.approx(demo.manifest()["accuracy"]["float"], abs=0.02)


def test_calibrated(test_set, float_classes):
    model = calibrate(demo.load_float(), fashion_mnist("train").first(512).images)
    assert (predict(model, model.prepare(test_set.images)) == float_classes).mean() > 0.98


@pytest.mark.parametrize("timesteps", [1, 2])
def test_finetuned(test_set, timesteps):
    model = demo.load_finetuned(Options(timesteps=timesteps))
    right = (predict(model, model.prepare(test_set.images[:500])) == test_set.labels[:500]).mean()
    assert right == pytest.approx(demo.manifest()["accuracy"][f"finetuned_t{timesteps}"], abs=0.025)
    network = to_network(model, "demo", test_set.classes)
    assert [node.name for node in network] == [
        *("input", "conv1", "conv2", "pool1", "conv3", "conv4", "pool2", "conv5", "classifier")
    ]
    assert max(int(ranges.bits().max()) for ranges in membrane_ranges(network).values()) <= 24


def test_weights_are_resident_in_the_large_configuration():
    network = to_network(demo.load_finetuned(), "demo")
    weights = sum(int(np.prod(s.weight.shape)) for node in network.nodes[1:] for s in node.synapses)
    assert weights <= 2048 * 16 * 8


def test_training_command(tmp_path, capsys, monkeypatch):
    small = fashion_mnist("test").first(300)
    monkeypatch.setattr(train_demo, "fashion_mnist", lambda split: small)
    arguments = ["--epochs", "1", "--finetune-epochs", "1", "--images", "256"]
    train_demo.main([*arguments, "--output", str(tmp_path / "out"), "--work", str(tmp_path / "work")])
    assert "fine-tuned, T = 2:" in capsys.readouterr().out
    written = json.loads((tmp_path / "out" / demo.MANIFEST).read_text())
    assert written["training_images"] == 256 and 0 <= written["accuracy"]["finetuned_t1"] <= 1
    assert isinstance(demo.load_finetuned(folder=tmp_path / "out"), torch.nn.Module)
