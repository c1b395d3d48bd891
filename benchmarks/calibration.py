"""What each part of calibration is worth: accuracy without fine-tuning, on the golden model.

    python benchmarks/calibration.py [--images 10000] [--timesteps 1] [--cases rounding bias ...]
    python benchmarks/calibration.py --network resnet20 --data FOLDER

The demo network on Fashion-MNIST; or ResNet-20 on CIFAR-10 (JPEG), where FOLDER holds its checkpoint
`resnet20_cifar10.safetensors` and the archives of `cifar10_jpeg`. Beside the accuracy: the share of images that are
classified as by the float network, and the mean squared error of the logits, relative to the variance of the float
network's; these tell good calibrations apart where accuracies no longer do. And the cycles an image that the compiler
predicts for `large`, from the counts of some test images that are not zero.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from subjects import logits, published_resnet20, subjects

from polyspike.compiler import compile
from polyspike.convert import Method, Options, convert
from polyspike.convert.float_training import Trained, normalized
from polyspike.golden import densities, run
from polyspike.network import quantize
from polyspike.spec import LARGE

#: Test images that tell the compiler how many counts are not zero.
DENSITY_IMAGES = 100

#: Ranges by the least squared error, one a layer; weights rounded to the nearest. The other cases add to it.
ROUNDING: dict[str, Any] = {"per_channel": False, "reconstruct": False, "correct_bias": False}
CASES: dict[str, dict[str, Any]] = {
    "rounding": ROUNDING,
    "bias": {**ROUNDING, "correct_bias": True},
    "per-channel": {**ROUNDING, "per_channel": True},
    "reconstruct": {**ROUNDING, "reconstruct": True},
    "without-reconstruct": {"reconstruct": False},
    "entropy": {"method": Method.ENTROPY},
    "all": {},
    "rounding-w4": {**ROUNDING, "weight_bits": 4},
    "without-reconstruct-w4": {"reconstruct": False, "weight_bits": 4},
    "all-w4": {"weight_bits": 4},
}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description="What each part of calibration is worth, without fine-tuning.")
    parser.add_argument("--network", choices=("demo", "resnet20"), default="demo")
    parser.add_argument("--data", type=Path, help="folder of ResNet-20's checkpoint and data")
    parser.add_argument("--images", type=int, default=10_000, help="test images (default: all)")
    parser.add_argument("--calibration-images", type=int, default=512, help="training images (default: 512)")
    parser.add_argument("--timesteps", type=int, nargs="+", default=[1])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    chosen = parser.parse_args()
    if chosen.network == "resnet20" and chosen.data is None:
        parser.error("resnet20 needs --data")
    torch.set_num_threads(1)
    if chosen.network == "demo":
        (subject,) = subjects(["demo"])
    else:
        subject = published_resnet20(chosen.data, chosen.calibration_images, chosen.images)
    own = {"mean": subject.trained.mean, "std": subject.trained.std}
    training = subject.training.first(chosen.calibration_images)
    test = subject.test.first(chosen.images)
    wanted = float_logits(subject.trained, test.images)
    print(f"float network: {(wanted.argmax(1) == test.labels).mean():.2%} of {len(test)} images", flush=True)
    for name in chosen.cases:
        for timesteps in chosen.timesteps:
            start = time.process_time()
            network = convert(
                subject.trained.model, training.images, Options(timesteps=timesteps, **own, **CASES[name])
            )
            seconds = time.process_time() - start
            some = quantize(network.input, test.images[:DENSITY_IMAGES])
            density = densities(run(network, some, observe=True).counts)
            cycles = compile(network, LARGE, density=density).cycles
            found = logits(network, test.images)
            classes = found.argmax(1)
            print(
                f"{name}, T = {timesteps}: {(classes == test.labels).mean():.2%}, "
                f"{(classes == wanted.argmax(1)).mean():.2%} as the float network, "
                f"error {((found - wanted) ** 2).mean() / wanted.var():.2%}, {seconds:.0f} s to convert, "
                f"{cycles:,} cycles predicted for {LARGE.name!r}",
                flush=True,
            )


@torch.no_grad()
def float_logits(trained: Trained, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the float network's logits [number, classes]."""
    batches = np.array_split(images, 50)
    outputs = [trained.model(normalized(batch, trained.mean, trained.std)) for batch in batches]
    return torch.cat(outputs).double().numpy()


if __name__ == "__main__":
    main()
