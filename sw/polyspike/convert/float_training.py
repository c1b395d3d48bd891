"""Training the networks of `models.py` in floating point, and their checkpoints: weights and how they were made."""

import dataclasses
import hashlib
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from polyspike.spec import ConversionError, FileFormatError

from .datasets import Dataset
from .loading import load_state, save_state
from .models import build
from .training import Schedule, accuracy, train

#: Epochs by the name of a network, where the usual number is not enough or more than needed.
EPOCHS = {"mlp": 12, "lenet-s": 10, "demo": 10, "resnet8": 60, "resnet20": 60}
_EPOCHS = 20


def schedule_of(network: str, data: Dataset, epochs: int | None = None, seed: int = 0) -> Schedule:
    """Return how a network is trained on a data set: colour images are mirrored and moved, grey ones mirrored only."""
    colour = data.shape[0] == 3
    return Schedule(
        epochs=epochs or EPOCHS.get(network, _EPOCHS),
        rate=0.1,
        decay=3e-4,
        warmup=0.1,
        shift=3 if colour else 0,
        seed=seed,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """A trained network: the module in evaluation mode, and the manifest that says how it came about."""

    model: nn.Module
    manifest: dict[str, Any]

    @property
    def mean(self) -> tuple[float, ...]:
        """What is taken from a pixel in 0..1, an entry a channel or one for all."""
        return tuple(self.manifest["mean"])

    @property
    def std(self) -> tuple[float, ...]:
        """What it is divided by then."""
        return tuple(self.manifest["std"])


def train_network(
    network: str,
    training: Dataset,
    test: Dataset,
    schedule: Schedule,
    *,
    start: Path | None = None,
    mean: tuple[float, ...] = (0.0,),
    std: tuple[float, ...] = (1.0,),
    teacher: Path | None = None,
    work: Path | None = None,
    progress: bool = True,
) -> Trained:
    """Train the network of that name.

    Parameters
    ----------
    network
        A name of `models.NETWORKS`.
    training, test
        Images to train on, and those its accuracy is measured with.
    schedule
        How to train; its seed is also that of the first weights.
    start
        A state dict to start from instead of random weights.
    mean, std
        The network sees (pixel / 255 - mean) / std.
    teacher
        A checkpoint whose network's classes are followed as much as the labels are (distillation).
    work
        Folder of the state that an interrupted training continues from.
    progress
        Show a progress bar.

    Raises
    ------
    ConversionError
        There is no such network, or it or the teacher does not take these images.
    FileFormatError
        `start` is missing or of another network, or `teacher` is not a checkpoint of `save_trained`.
    """
    torch.manual_seed(schedule.seed)
    model = build(network, training.shape, len(training.classes))
    if start is not None:
        load_state(model, start)
    followed = None if teacher is None else _teacher(load_trained(teacher), training, mean, std)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch lacks the type of this form
    resume = None
    if work is not None:
        # A state of any other recipe is not gone on with.
        recipe = repr((schedule, len(training), start, teacher, mean, std))
        resume = work / f"{stem(network, training)}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}.safetensors"
    begin = time.monotonic()

    def prepare(images: NDArray[np.uint8]) -> Tensor:
        return normalized(images, mean, std)

    train(
        model,
        training.images,
        training.labels,
        prepare,
        schedule,
        teacher=followed,
        resume=resume,
        progress=progress,
        label=network,
    )
    model.eval()
    manifest = {
        "network": network,
        "dataset": training.name,
        "shape": list(training.shape),
        "classes": list(training.classes),
        "mean": list(mean),
        "std": list(std),
        "training_images": len(training),
        "test_images": len(test),
        "accuracy": round(accuracy(model, prepare(test.images), test.labels), 4),
        "schedule": dataclasses.asdict(schedule),
        "start": None if start is None else start.name,
        "teacher": None if teacher is None else teacher.name,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "seconds": round(time.monotonic() - begin),
    }
    return Trained(model, manifest)


def normalized(images: NDArray[np.uint8], mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Turn images into a network's input: (pixel / 255 - mean) / std, float [number, channels, height, width]."""
    x = torch.from_numpy(images).float() / 255
    return (x - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)


def _teacher(
    trained: Trained, data: Dataset, mean: tuple[float, ...], std: tuple[float, ...]
) -> Callable[[Tensor], Tensor]:
    """Return the teacher's logits as a function of the input of a network with other `mean` and `std`."""
    own, wanted = ((trained.manifest["shape"], trained.manifest["classes"]), (list(data.shape), list(data.classes)))
    if own != wanted:
        raise ConversionError(
            f"the teacher takes images {own[0]} of {', '.join(own[1])}; {data.name} has {wanted[0]} of "
            f"{', '.join(wanted[1])}"
        )
    shift, scale, own_shift, own_scale = (
        torch.tensor(values).view(-1, 1, 1) for values in (mean, std, trained.mean, trained.std)
    )

    def logits(x: Tensor) -> Tensor:
        result: Tensor = trained.model((x * scale + shift - own_shift) / own_scale)
        return result

    return logits


def stem(network: str, data: Dataset) -> str:
    """Return the name of a checkpoint's files, without suffix: "resnet8-cifar-10-jpeg"."""
    words = "".join(letter if letter.isalnum() else " " for letter in data.name.lower()).split()
    return "-".join([network, *words])


def save_trained(trained: Trained, folder: Path, name: str) -> Path:
    """Write `name`.safetensors and its manifest `name`.json into `folder`, and return the former's path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.safetensors"
    save_state(trained.model, path)
    path.with_suffix(".json").write_text(json.dumps(trained.manifest, indent=2) + "\n")
    return path


def load_trained(path: Path) -> Trained:
    """Load a checkpoint that `save_trained` wrote; `path` is that of its safetensors file.

    Raises
    ------
    FileFormatError
        It or its manifest is missing or damaged, or the weights are those of another network.
    """
    manifest_path = path.with_suffix(".json")
    try:
        manifest = json.loads(manifest_path.read_text())
        network, shape, classes = manifest["network"], tuple(manifest["shape"]), len(manifest["classes"])
    except FileNotFoundError:
        raise FileFormatError(f"{manifest_path}: no such file; it says what network {path.name} is of") from None
    except (ValueError, KeyError, TypeError) as error:
        raise FileFormatError(f"{manifest_path}: not the manifest of a trained network ({error!r})") from None
    model = build(network, shape, classes)
    load_state(model, path)
    return Trained(model.eval(), manifest)
