"""Train the demo network: `python -m polyspike.convert.train_demo` (`make train-demo`).

Trains `DemoVGG` on Fashion-MNIST, calibrates it, fine-tunes it with the quantizer in the loop and writes the
checkpoints with a manifest. One thread; about a quarter of an hour. Interrupted, it continues after the last finished
epoch.
"""

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .calibration import calibrate
from .datasets import Dataset, fashion_mnist
from .demo import CALIBRATION, CHECKPOINTS, FLOAT_CHECKPOINT, MANIFEST, PMSM_CHECKPOINT
from .finetuning import DEFAULT_SCHEDULE, finetune
from .loading import save_state
from .models import DemoVGG
from .quantized import QuantizedModel
from .training import Schedule, accuracy, train

CALIBRATION_IMAGES = 1024


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m polyspike.convert.train_demo", description=__doc__)
    parser.add_argument("--epochs", type=int, default=6, help="epochs in floating point (default %(default)s)")
    parser.add_argument("--finetune-epochs", type=int, default=2, help="epochs of fine-tuning (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, order and augmentation")
    parser.add_argument("--images", type=int, help="use the first so many training images only")
    parser.add_argument("--output", type=Path, default=CHECKPOINTS, help="folder of the checkpoints")
    parser.add_argument(
        "--work", type=Path, default=Path("build/train-demo"), help="folder of the state to resume from"
    )
    chosen = parser.parse_args(arguments)
    run(chosen.epochs, chosen.finetune_epochs, chosen.seed, chosen.images, chosen.output, chosen.work)


def run(epochs: int, finetune_epochs: int, seed: int, limit: int | None, output: Path, work: Path) -> None:
    """Train, calibrate, fine-tune, and write the checkpoints to `output`."""
    torch.set_num_threads(1)
    training, test = fashion_mnist("train"), fashion_mnist("test")
    if limit is not None:
        training = training.first(limit)
    schedule = Schedule(epochs=epochs, rate=0.1, seed=seed)
    tuning = dataclasses.replace(DEFAULT_SCHEDULE, epochs=finetune_epochs, seed=seed + 1)

    torch.manual_seed(seed)
    model = DemoVGG()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch lacks the type of this form
    name = f"{epochs}-{seed}-{len(training)}"
    train(
        model,
        training.images,
        training.labels,
        pixels,
        schedule,
        resume=work / f"float-{name}.safetensors",
        label="float",
    )
    results = {"float": accuracy(model, pixels(test.images), test.labels)}
    print(f"float network: {results['float']:.2%} of {len(test)} test images")

    calibrated = calibrate(model, training.first(CALIBRATION_IMAGES).images, CALIBRATION)
    results["calibrated_t1"] = _quantized_accuracy(calibrated, test)
    print(f"calibrated, T = 1: {results['calibrated_t1']:.2%}")
    tuned = finetune(
        calibrated,
        training.images,
        training.labels,
        tuning,
        resume=work / f"pmsm-{name}-{finetune_epochs}.safetensors",
    )
    for timesteps in (1, 2):
        key = f"finetuned_t{timesteps}"
        results[key] = _quantized_accuracy(tuned.with_options(CALIBRATION.replace(timesteps=timesteps)), test)
        print(f"fine-tuned, T = {timesteps}: {results[key]:.2%}")

    output.mkdir(parents=True, exist_ok=True)
    save_state(model, output / FLOAT_CHECKPOINT)
    save_state(tuned, output / PMSM_CHECKPOINT)
    manifest = {
        "model": "DemoVGG",
        "data": "Fashion-MNIST",
        "seed": seed,
        "training_images": len(training),
        "calibration_images": CALIBRATION_IMAGES,
        "epochs": epochs,
        "finetune_epochs": finetune_epochs,
        "test_images": len(test),
        # The integer network's own accuracies are what the demo prints.
        "accuracy_of": "the quantized network in floating point",
        "accuracy": {name: round(value, 4) for name, value in results.items()},
    }
    (output / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")


def pixels(images: NDArray[np.uint8]) -> Tensor:
    """Turn images into the float network's input: pixels in 0..1."""
    return torch.from_numpy(images).float() / 255


def _quantized_accuracy(model: QuantizedModel, data: Dataset) -> float:
    return accuracy(model, model.prepare(data.images), data.labels)


if __name__ == "__main__":
    main()
