"""Accuracy of the conversion methods without fine-tuning: the demo network on Fashion-MNIST, on the golden model.

    python benchmarks/methods.py [--images 1000] [--timesteps 1 2 4 8] [--methods pmsm ecl ...]
                                 [--negative-threshold 0 0.25 0.5]

With `--negative-threshold` only ECL, with these values.
"""

import argparse
from typing import Any

import torch
from subjects import logits, share_right

from polyspike.convert import convert, demo
from polyspike.convert.datasets import fashion_mnist
from polyspike.convert.methods import METHODS

#: Training images that ranges are chosen by.
CALIBRATION_IMAGES = 256


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description="Accuracy of the conversion methods without fine-tuning.")
    parser.add_argument("--images", type=int, default=1000, help="test images (default: 1000)")
    parser.add_argument("--timesteps", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--negative-threshold", type=float, nargs="+", help="of ECL, in thresholds")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = demo.load_float()
    training = fashion_mnist("train").first(CALIBRATION_IMAGES).images
    test = fashion_mnist("test").first(options.images)
    columns: list[tuple[str, dict[str, Any]]] = [(name, {}) for name in options.methods]
    if options.negative_threshold:
        columns = [("ecl", {"negative_threshold": value}) for value in options.negative_threshold]
    for name, changes in columns:
        for timesteps in options.timesteps:
            network = convert(model, training, METHODS[name].options(timesteps=timesteps, **changes))
            accuracy = share_right(logits(network, test.images), test.labels)
            print(f"{name}{changes or ''}, T = {timesteps}: {accuracy:.1%} of {len(test.labels)} images", flush=True)


if __name__ == "__main__":
    main()
