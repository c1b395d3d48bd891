"""The networks of the papers: their shapes, that they convert, train and resume, and what refuses them."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from convert.zoo import halves
from polyspike.cli.main import main
from polyspike.convert import trace
from polyspike.convert.datasets import Dataset
from polyspike.convert.float_training import load_trained, normalized, save_trained, schedule_of, train_network
from polyspike.convert.models import NETWORKS, VGG16, LeNetS, ResNet18, build
from polyspike.convert.training import Schedule
from polyspike.spec import ConversionError, FileFormatError, InputError

SHAPES = ((1, 28, 28), (3, 32, 32))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_traces(name, shape):
    torch.manual_seed(0)
    model = build(name, shape).eval()
    x = torch.rand(2, *shape)
    network = trace(model, shape)
    with torch.no_grad():
        got = network.run(x.reshape(2, *network.input.shape)).flatten(1)
        assert torch.allclose(got, model(x), atol=1e-4)


# Convolutions and linear layers, by the papers' tables: MLPerf Tiny's ResNet-8 has 77,360 weights in its convolutions
# and linear layer; LeNet-S and VGG-16 are sums of products one can do by hand.
@pytest.mark.parametrize(
    ("name", "shape", "weights"),
    [
        ("resnet8", (3, 32, 32), 77_360),
        ("lenet-s", (1, 28, 28), 9 * 32 + 9 * 32 * 32 + 1568 * 256 + 256 * 10),
        ("resnet20", (3, 32, 32), 268_336),
        ("vgg16", (3, 32, 32), 14_710_464 + 5120),
        ("ds-cnn", (1, 28, 28), 40 * 64 + 4 * (9 * 64 + 64 * 64) + 640),
    ],
)
def test_sizes_are_those_of_the_papers(name, shape, weights):
    parameters = build(name, shape).named_parameters()
    assert sum(value.numel() for _, value in parameters if value.ndim > 1) == weights


def test_widths_and_pooling_are_choices():
    assert VGG16(width=0.25, pool="max")[0].out_channels == 16
    assert ResNet18(width=0.5).linear.in_features == 256
    with pytest.raises(ConversionError, match="pooling is 'median'; there are average, max"):
        LeNetS(pool="median")


def test_what_cannot_be_built_says_why():
    with pytest.raises(ConversionError, match="no network 'alexnet'; there are demo, mlp"):
        build("alexnet", (1, 28, 28))
    with pytest.raises(ConversionError, match=r"resnet8 does not take images of shape \(28, 28, 1, 1\)"):
        build("resnet8", (28, 28, 1, 1))
    with pytest.raises(ConversionError, match=r"vgg16 does not take images of shape \(1, 0, 8\)"):
        build("vgg16", (1, 0, 8))


def data(number=256):
    return Dataset(*halves(number), ("left", "right"), "halves")


def test_training_resumes_and_its_checkpoint_loads(tmp_path):
    schedule = Schedule(epochs=2, rate=0.05, batch=32, flip=False, bfloat16=False)
    whole = train_network("mlp", data(), data(64), schedule, progress=False)
    assert whole.manifest["accuracy"] > 0.9 and whole.manifest["dataset"] == "halves"
    half = Schedule(**{**whole.manifest["schedule"], "epochs": 1})
    assert train_network("mlp", data(), data(64), half, progress=False).manifest["schedule"]["epochs"] == 1
    # Stopped after the first epoch, the state is there to go on from.
    for _ in range(2):
        resumed = train_network("mlp", data(), data(64), schedule, work=tmp_path, progress=False)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    path = save_trained(whole, tmp_path, "mlp-halves")
    loaded = load_trained(path)
    x = normalized(data(64).images, loaded.mean, loaded.std)
    with torch.no_grad():
        assert torch.equal(loaded.model(x), whole.model(x))


def test_bad_checkpoints(tmp_path):
    schedule = Schedule(epochs=1, rate=0.05, batch=32, bfloat16=False)
    trained = train_network("mlp", data(64), data(64), schedule, progress=False)
    path = save_trained(trained, tmp_path, "mlp-halves")
    manifest = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**manifest, "network": "lenet-s"}))
    with pytest.raises(FileFormatError, match="does not belong to LeNetS"):
        load_trained(path)
    path.with_suffix(".json").write_text("{}")
    with pytest.raises(FileFormatError, match=r"mlp-halves.json: not the manifest of a trained network"):
        load_trained(path)
    path.with_suffix(".json").unlink()
    with pytest.raises(FileFormatError, match=r"mlp-halves.json: no such file"):
        load_trained(path)
    with pytest.raises(FileFormatError, match="does not belong to LeNetS"):
        train_network("lenet-s", data(64), data(64), schedule, start=path, progress=False)


def test_distillation_follows_the_teacher_whatever_its_normalization(tmp_path):
    schedule = Schedule(epochs=2, rate=0.05, batch=32, flip=False, bfloat16=False)
    trained = train_network("mlp", data(), data(64), schedule, mean=(0.5,), std=(0.25,), progress=False)
    teacher = save_trained(trained, tmp_path, "teacher")
    # Where the labels say nothing, only the teacher can tell the two classes apart.
    guesses = dataclasses.replace(data(), labels=np.random.default_rng(1).integers(0, 2, len(data())))
    schedule = dataclasses.replace(schedule, temperature=4.0)
    alone = train_network("mlp", guesses, data(64), schedule, progress=False)
    taught = train_network("mlp", guesses, data(64), schedule, teacher=teacher, progress=False)
    assert taught.manifest["accuracy"] > 0.9 > alone.manifest["accuracy"]
    assert taught.manifest["teacher"] == "teacher.safetensors" and alone.manifest["teacher"] is None
    other = dataclasses.replace(data(), classes=("left", "right", "neither"))
    with pytest.raises(
        ConversionError, match=r"takes images \[1, 8, 8\] of left, right; halves has .* of left, right, neither"
    ):
        train_network("mlp", other, data(64), schedule, teacher=teacher, progress=False)
    with pytest.raises(InputError, match="temperature of a training schedule must be positive, not 0"):
        Schedule(epochs=1, rate=0.1, temperature=0)


def test_only_a_state_of_the_same_recipe_is_gone_on_with(tmp_path):
    schedule = Schedule(epochs=1, rate=0.05, batch=32, flip=False, bfloat16=False)
    for each in (schedule, schedule, dataclasses.replace(schedule, temperature=2.0)):
        train_network("mlp", data(64), data(64), each, work=tmp_path, progress=False)
    train_network("mlp", data(64), data(64), schedule, mean=(0.5,), work=tmp_path, progress=False)
    assert len(list(tmp_path.iterdir())) == 3


def test_schedules_suit_the_data():
    assert schedule_of("resnet8", data(), None).epochs == 60
    assert schedule_of("vgg16", data(), 3).epochs == 3 and schedule_of("vgg16", data()).shift == 0


def test_command(tmp_path, capsys):
    assert main(["train", "--list"]) == 0
    listing = capsys.readouterr().out
    assert "lenet-s       LeNet-S" in listing and "data sets: fashion-mnist, cifar10" in listing
    assert main(["train", "--network", "mlp"]) == 1
    assert "--network and --dataset are needed" in capsys.readouterr().err
    assert main(["train", "--network", "mlp", "--dataset", "cifar10", "--data", str(tmp_path)]) == 1
    assert "holds no CIFAR-10 train images" in capsys.readouterr().err


def test_the_command_trains(tmp_path, capsys):
    pytest.importorskip("tqdm")
    from polyspike.convert.datasets import FASHION_MNIST_FOLDER

    if not FASHION_MNIST_FOLDER.is_dir():
        pytest.skip("Debian's package dataset-fashion-mnist is not installed")
    arguments = ["train", "--network", "mlp", "--dataset", "fashion-mnist", "--images", "2000", "--epochs", "2"]
    assert main([*arguments, "--output", str(tmp_path)]) == 0
    assert "of 10000 test images of Fashion-MNIST" in capsys.readouterr().out
    assert load_trained(tmp_path / "mlp-fashion-mnist.safetensors").manifest["accuracy"] > 0.6
