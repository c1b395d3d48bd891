"""The trained networks that benchmarks measure: checkpoints of `polyspike train`, and their data sets."""

import dataclasses
import functools
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from polyspike.convert import QuantizedModel, demo, finetune, load_state
from polyspike.convert.datasets import Dataset, cifar10_jpeg, fashion_mnist, load
from polyspike.convert.finetuning import DEFAULT_SCHEDULE
from polyspike.convert.float_training import Trained, load_trained, normalized
from polyspike.convert.methods import ConversionMethod
from polyspike.convert.models import ResNet20, build
from polyspike.convert.training import Schedule, accuracy
from polyspike.golden import run
from polyspike.network import Network, quantize
from polyspike.spec import PolyspikeError

ROOT = Path(__file__).resolve().parents[1]
#: The CIFAR-10 files.
SHARED = Path(os.environ.get("POLYSPIKE_SHARED_DATA", ROOT.parent / "shared" / "data"))
#: Where checkpoints are looked for, the committed ones first.
FOLDERS = [ROOT / "benchmarks" / "checkpoints", ROOT / "build" / "networks"]

#: The networks whose papers use grey images.
GREY = ("demo", "mlp", "lenet-s", "ds-cnn")

#: Images of `untrained` that conversions are calibrated with.
UNTRAINED_CALIBRATION = 48

#: Counts that tell many levels from few, see `tuning`.
MANY_LEVELS = 15

#: Training images that conversions are calibrated with.
CALIBRATION_IMAGES = 512


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """A trained network, and the images it is measured with."""

    name: str
    trained: Trained
    training: Dataset
    test: Dataset


@functools.cache
def float_accuracy(subject: Subject, images: int) -> float:
    """Return the float network's accuracy on the first test images."""
    trained, test = subject.trained, subject.test.first(images)
    inputs = normalized(test.images, trained.mean, trained.std)
    return round(accuracy(trained.model, inputs, test.labels), 4)


def subjects(chosen: Sequence[str] | None = None, folders: Sequence[Path] = FOLDERS) -> Iterator[Subject]:
    """Yield the trained networks there are checkpoints and data for; `NAME-sparse` were trained for few spikes."""
    found: dict[str, Trained] = {"demo": Trained(demo.load_float(), _manifest("Fashion-MNIST", (0.0,), (1.0,)))}
    for folder in folders:
        for path in sorted(folder.glob("*.safetensors")):
            trained = load_trained(path)
            sparse = trained.manifest["schedule"].get("sparsity", 0) > 0
            found.setdefault(trained.manifest["network"] + "-sparse" * sparse, trained)
    for name, trained in found.items():
        if chosen and name not in chosen:
            continue
        try:
            training, test = (_data(trained.manifest["dataset"], split) for split in ("train", "test"))
        except PolyspikeError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
            continue
        yield Subject(name, trained, training, test)


def published_resnet20(folder: Path, training: int | None = None, test: int | None = None) -> Subject:
    """Return the published ResNet-20, resnet20_cifar10.safetensors in a folder, with the CIFAR-10 (JPEG) beside it.

    `training` and `test` limit the numbers of images.
    """
    model = ResNet20()
    load_state(model, folder / "resnet20_cifar10.safetensors")
    images = (cifar10_jpeg(split, folder, limit) for split, limit in (("train", training), ("test", test)))
    return Subject(
        "resnet20", Trained(model.eval(), _manifest("CIFAR-10 (JPEG)", ResNet20.MEAN, ResNet20.STD)), *images
    )


def untrained(name: str) -> tuple[nn.Module, NDArray[np.uint8]]:
    """Return a network with random weights and real images for it, uint8 [64, channels, height, width].

    The first `UNTRAINED_CALIBRATION` are for calibration.

    Its batch norms have the statistics of the images: Fashion-MNIST's, for colour networks as three equal channels in
    32 x 32.
    """
    images = untrained_images()
    if name not in GREY:
        images = np.pad(images, ((0, 0), (0, 0), (2, 2), (2, 2))).repeat(3, axis=1)
    torch.manual_seed(0)
    return with_statistics(build(name, images.shape[1:]), images), images


def untrained_images() -> NDArray[np.uint8]:
    """Return the images of `untrained`, uint8 [64, 1, 28, 28]."""
    return fashion_mnist("test").images[:64]


def with_statistics(model: nn.Module, images: NDArray[np.uint8]) -> nn.Module:
    """Give a network's batch norms the statistics of images, and return it."""
    model.train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.from_numpy(images).float() / 255)
    return model.eval()


def tuning(epochs: int, seed: int, *, levels: int = 0, shift: int = 0) -> Schedule:
    """Return the short fine-tuning that methods are compared after.

    With `MANY_LEVELS` counts or more a network is converted nearly without loss, and a third of the rate keeps it
    there; with fewer, the usual rate gives more. `shift` moves images by up to so many pixels.
    """
    rate = DEFAULT_SCHEDULE.rate / 3 if levels >= MANY_LEVELS else DEFAULT_SCHEDULE.rate
    return dataclasses.replace(DEFAULT_SCHEDULE, epochs=epochs, seed=seed, rate=rate, shift=shift)


def finetuned(
    method: ConversionMethod,
    calibrated: QuantizedModel,
    data: Dataset,
    schedule: Schedule,
    *,
    resume: Path | None = None,
) -> QuantizedModel:
    """Fine-tune with the quantizer that the method's timesteps amount to, at one timestep."""
    options = calibrated.options
    trained_as = calibrated.with_options(method.training_options(options))
    return finetune(trained_as, data.images, data.labels, schedule, resume=resume).with_options(options)


def logits(network: Network, images: NDArray[np.uint8], *, progress: bool = False) -> NDArray[np.float64]:
    """Return an integer network's logits [number, classes] on the golden model."""
    membranes = run(network, quantize(network.input, images), progress=progress).membranes
    result: NDArray[np.float64] = membranes.reshape(len(membranes), -1) * network.output.scale / network.timesteps
    return result


def share_right(logits: NDArray[np.floating[Any]], labels: NDArray[np.int64]) -> float:
    """Return the share of images whose largest logit [number, classes] is that of their label."""
    return round(float((logits.argmax(1) == labels).mean()), 4)


def _manifest(dataset: str, mean: Sequence[float], std: Sequence[float]) -> dict[str, Any]:
    return {"dataset": dataset, "mean": list(mean), "std": list(std)}


@functools.cache
def _data(name: str, split: str) -> Dataset:
    """Return a data set by the name that figures are labelled with."""
    return load("fashion-mnist", split) if name == "Fashion-MNIST" else load("cifar10", split, SHARED)
