"""Arguments that name a float network and images to calibrate it with, of the commands that take both."""

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from polyspike.spec import InputError

from .arguments import add_normalization, positive

if TYPE_CHECKING:
    from torch import nn

    from .images import Images


@dataclasses.dataclass(frozen=True, eq=False)
class Given:
    """What the arguments name. `name` is the network's."""

    name: str
    module: "nn.Module"
    images: "Images"


def add_arguments(parser: argparse.ArgumentParser, *, required: bool, limit: int) -> None:
    """Declare the arguments. Not `required`, the demo network and Fashion-MNIST stand in for what is left out."""
    parser.add_argument(
        "model",
        metavar="MODEL.py[:NAME]",
        nargs=None if required else "?",
        help="Python file that builds the network (default: model)",
    )
    parser.add_argument("--weights", type=Path, metavar="FILE", help="state dict, safetensors")
    parser.add_argument(
        "--images",
        type=Path,
        required=required,
        metavar="IMAGES",
        help="calibration images: .npz, .npy, PNG folder, IDX",
    )
    parser.add_argument(
        "--limit", type=positive, default=limit, metavar="N", help=f"use the first N (default: {limit})"
    )
    add_normalization(parser)


def load(options: argparse.Namespace) -> Given:
    """Load the network and the images.

    Raises
    ------
    InputError
        A network is named, but no images; or the other way round; or images cannot be read.
    FileFormatError, ConversionError
        The network cannot be loaded.
    """
    from polyspike.convert import load_model

    from .images import Images, load_images

    if options.model is None:
        if options.weights is not None or options.images is not None:
            raise InputError("--weights and --images are for a network of your own: name MODEL.py, too")
        from polyspike.convert import demo
        from polyspike.convert.datasets import fashion_mnist

        data = fashion_mnist("train").first(options.limit)
        return Given("demo", demo.load_float(), Images(data.images, data.labels))
    if options.images is None:
        raise InputError("a network of your own needs --images, some hundred of those it was trained on")
    source, _, attribute = options.model.partition(":")
    images = load_images(options.images).first(options.limit)
    module = load_model(source, options.weights, attribute or "model")
    return Given(type(module).__name__, module, images)
