"""`polyspike convert`: from a trained PyTorch network to an integer network."""

import argparse
import sys
from pathlib import Path

from polyspike.spec import NAMED

from .arguments import fractions, layer_widths, positive

NAME = "convert"
SUMMARY = "turn a trained PyTorch network into an integer network (.psnn)"
DESCRIPTION = """\
Convert a trained network to an integer network of spiking neurons. The network is built by a Python file,
which is executed; its weights are a state dict in safetensors (no pickle is ever loaded). The calibration images are
some hundred images like those it was trained on; they choose each layer's range.
"""
EPILOG = """\
MODEL.py defines `model`: a torch.nn.Module, or a function or class that makes one when called without arguments.
Save a state dict with safetensors.torch.save_file(model.state_dict(), "net.safetensors").

examples:
  polyspike convert net.py --weights net.safetensors --images calibration.npz
  polyspike convert net.py --weights net.safetensors --images train/ --mean 0.5 --std 0.25 --timesteps 2
  polyspike convert nets.py:small --weights small.safetensors --images calibration.npy --method mse -o small.psnn
  polyspike convert net.py --weights net.safetensors --images calibration.npz --neuron ecl --timesteps 4
  polyspike convert net.py --weights net.safetensors --images calibration.npz --weight-bits 4 --layer conv1:weights=8
  polyspike convert net.py --weights net.safetensors --images calibration.npz --weight-bytes 100000
  polyspike convert net.py --weights net.safetensors --images calibration.npz --cycles 200000 --config small
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("model", metavar="MODEL.py[:NAME]", help="Python file that builds the network (default: model)")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="state dict, safetensors")
    parser.add_argument(
        "--images", type=Path, required=True, metavar="IMAGES", help="calibration images: .npz, .npy, PNG folder, IDX"
    )
    parser.add_argument("--limit", type=positive, default=512, metavar="N", help="use the first N (default: 512)")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.psnn", help="default: beside the Python file")
    parser.add_argument("--timesteps", type=positive, default=1, metavar="T", help="timesteps (default: 1)")
    parser.add_argument(
        "--bits", type=int, choices=(4, 8), default=4, help="bits of a count of pmsm neurons (default: 4)"
    )
    parser.add_argument("--weight-bits", type=int, choices=(4, 8), default=8, help="bits of a weight (default: 8)")
    parser.add_argument(
        "--layer",
        type=layer_widths,
        action="append",
        default=[],
        metavar="NAME:weights=BITS,counts=BITS",
        help="widths of one layer, either or both; can be repeated",
    )
    parser.add_argument(
        "--weight-bytes",
        type=positive,
        metavar="N",
        help="choose 4 or 8 bits for each layer's weights, by sensitivity, so that all take N bytes at most",
    )
    parser.add_argument(
        "--cycles",
        type=positive,
        metavar="N",
        help="choose 4 or 8 bits for each layer's counts, so that the compiler predicts N cycles an image at most",
    )
    parser.add_argument(
        "--config", choices=sorted(NAMED), default="large", help="hardware whose --cycles are meant (default: large)"
    )
    parser.add_argument(
        "--neuron",
        choices=("pmsm", "ecl", "qcfs", "if"),
        default="pmsm",
        help="conversion method: polarity multi-spike, dual-threshold, or integrate-and-fire neurons (default: pmsm)",
    )
    parser.add_argument(
        "--method",
        choices=("entropy", "mse", "percentile", "max"),
        help="how each layer's range is chosen (default: mse; percentile with if)",
    )
    parser.add_argument(
        "--per-channel",
        action=argparse.BooleanOptionalAction,
        help="one range for each channel, or for each layer (default: each channel with pmsm)",
    )
    parser.add_argument(
        "--reconstruct",
        action=argparse.BooleanOptionalAction,
        help="choose weights so that each layer's sums are the float network's (default: with pmsm)",
    )
    parser.add_argument(
        "--mean", type=fractions, default=(0.0,), metavar="M[,M...]", help="the network saw (pixel / 255 - mean) / std"
    )
    parser.add_argument("--std", type=fractions, default=(1.0,), metavar="S[,S...]", help="one, or one a channel")
    parser.add_argument("--classes", metavar="A,B,...", help="names of the outputs")


def execute(options: argparse.Namespace) -> int:
    """Run the command."""
    from polyspike.compiler import compile
    from polyspike.convert import LayerOptions, choose_widths, convert, load_model
    from polyspike.convert.methods import method_named
    from polyspike.network import Network, save
    from polyspike.spec import named

    from .describe import describe_network
    from .images import load_images

    progress = sys.stderr.isatty()
    source, _, attribute = options.model.partition(":")
    images = load_images(options.images).first(options.limit)
    model = load_model(source, options.weights, attribute or "model")
    given = {name: getattr(options, name) for name in ("method", "per_channel", "reconstruct")}
    chosen = method_named(options.neuron).options(
        timesteps=options.timesteps,
        bits=options.bits,
        weight_bits=options.weight_bits,
        layers={name: LayerOptions(widths.get("weights"), widths.get("counts")) for name, widths in options.layer},
        mean=options.mean,
        std=options.std,
        **{name: value for name, value in given.items() if value is not None},
    )
    if options.weight_bytes is not None or options.cycles is not None:
        configuration = named(options.config)

        def cycles(network: Network) -> int:
            return sum(layer.cycles for layer in compile(network, configuration).report)

        chosen = choose_widths(
            model,
            images.pixels,
            chosen,
            weight_bytes=options.weight_bytes,
            cycles=options.cycles,
            cost=cycles,
            progress=progress,
        )
    classes = tuple(options.classes.split(",")) if options.classes else ()
    network = convert(model, images.pixels, chosen, classes=classes, progress=progress)
    output = options.output or Path(source).with_suffix(".psnn")
    save(network, output)
    print(describe_network(network))
    print(f"\n{output}: written; calibrated on {len(images)} images")
    return 0
