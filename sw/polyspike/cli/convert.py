"""`polyspike convert`: from a trained PyTorch network to an integer network."""

import argparse
import sys
from pathlib import Path

from polyspike.spec import NAMED, NEURON_FEATURES

from . import model
from .arguments import METHODS, layer_widths, positive, whole

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
Where the images are counts of events (`polyspike events`), the network takes one bin, and --timesteps is their number.

examples:
  polyspike convert net.py --weights net.safetensors --images calibration.npz
  polyspike convert net.py --weights net.safetensors --images train/ --mean 0.5 --std 0.25 --timesteps 2
  polyspike convert nets.py:small --weights small.safetensors --images calibration.npy --method mse -o small.psnn
  polyspike convert net.py --weights net.safetensors --images calibration.npz --neuron ecl --timesteps 4
  polyspike convert net.py --weights net.safetensors --images calibration.npz --neuron sfn --trials 40
  polyspike convert net.py --weights net.safetensors --images calibration.npz --weight-bits 4 --layer conv1:weights=8
  polyspike convert net.py --weights net.safetensors --images calibration.npz --weight-bytes 100000
  polyspike convert net.py --weights net.safetensors --images calibration.npz --cycles 200000 --config small
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    model.add_arguments(parser, required=True, limit=512)
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.psnn", help="default: beside the Python file")
    parser.add_argument("--timesteps", type=positive, default=1, metavar="T", help="timesteps (default: 1)")
    parser.add_argument(
        "--bits", type=int, choices=(4, 8), default=4, help="bits of a count of pmsm and sfn neurons (default: 4)"
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
        choices=NEURON_FEATURES,
        default="pmsm",
        help="conversion method: polarity multi-spike, dual-threshold, scale-and-fire (or that with both polarities), "
        "integrate-and-fire, or two-phase probabilistic neurons (default: pmsm)",
    )
    parser.add_argument(
        "--method",
        choices=METHODS,
        help="how each layer's range is chosen (default: percentile with sfn and if, else mse)",
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
        "--trials",
        type=whole,
        metavar="N",
        help="look for the best common factor of all ranges in so many trials (default: 24 with sfn, else 0)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the trials (default: 0)")
    parser.add_argument("--classes", metavar="A,B,...", help="names of the outputs")


def execute(options: argparse.Namespace) -> int:
    """Run the command."""
    from polyspike.compiler import compile
    from polyspike.convert import LayerOptions, calibrate, choose_widths, convert
    from polyspike.convert.methods import method_named
    from polyspike.network import Network, save
    from polyspike.spec import named

    from .describe import describe_network

    progress = sys.stderr.isatty()
    given = model.load(options)
    own = {name: getattr(options, name) for name in ("method", "per_channel", "reconstruct", "trials")}
    chosen = method_named(options.neuron).options(
        timesteps=options.timesteps,
        bits=options.bits,
        weight_bits=options.weight_bits,
        layers={name: LayerOptions(widths.get("weights"), widths.get("counts")) for name, widths in options.layer},
        mean=options.mean,
        std=options.std,
        seed=options.seed,
        **{name: value for name, value in own.items() if value is not None},
    )
    if options.weight_bytes is not None or options.cycles is not None:
        configuration = named(options.config)

        def cycles(network: Network) -> int:
            return compile(network, configuration).cycles

        chosen = choose_widths(
            given.module,
            given.images.pixels,
            chosen,
            weight_bytes=options.weight_bytes,
            cycles=options.cycles,
            cost=cycles,
            progress=progress,
        )
    classes = tuple(options.classes.split(",")) if options.classes else ()
    quantized = calibrate(given.module, given.images.pixels, chosen, progress=progress)
    network = convert(quantized, name=given.name, classes=classes)
    output = options.output or Path(options.model.partition(":")[0]).with_suffix(".psnn")
    save(network, output)
    print(describe_network(network))
    scaled = f", all ranges times {quantized.options.scale:.3f}" if chosen.trials else ""
    print(f"\n{output}: written; calibrated on {len(given.images)} images{scaled}")
    return 0
