"""`polyspike entropy`: what quantization costs each layer, in bits."""

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import model
from .arguments import METHODS, positive

if TYPE_CHECKING:
    from polyspike.convert.analysis import LayerAnalysis

NAME = "entropy"
SUMMARY = "show what information quantization costs each layer of a network"
DESCRIPTION = """\
Show, layer by layer, the entropy of the activations before quantization and of the spike counts after it, and what is
lost: to the ReLU, to a count's width, to a range too small or too large. Nothing is converted. Without MODEL.py:
the demo network.
"""
EPILOG = """\
All in bits a value, over the images given:
  before  entropy of the layer's sums, in 2048 bins over all values that occur
  ReLU    what of it a ReLU takes away: that negative sums differ from each other
  after   entropy of the spike counts
  lost    before - after
  passed  information that the next layer can use: counts disturbed by their own error (docs/initialization.md)

examples:
  polyspike entropy
  polyspike entropy net.py --weights net.safetensors --images calibration.npz --mean 0.5 --std 0.25
  polyspike entropy --method max --plot entropy.svg --json entropy.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    model.add_arguments(parser, required=False, limit=256)
    parser.add_argument("--timesteps", type=positive, default=1, metavar="T", help="timesteps (default: 1)")
    parser.add_argument("--bits", type=int, choices=(4, 8), default=4, help="bits of a count (default: 4)")
    parser.add_argument(
        "--method",
        choices=METHODS,
        default="entropy",
        help="how each layer's range is chosen (default: entropy)",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures, and the sweep over ranges")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the sweep (.svg, .png, .pdf)")


def execute(options: argparse.Namespace) -> int:
    """Run the command."""
    from polyspike.convert import Options
    from polyspike.convert.analysis import analyze

    given = model.load(options)
    chosen = Options(
        timesteps=options.timesteps, bits=options.bits, method=options.method, mean=options.mean, std=options.std
    )
    layers = analyze(given.module, given.images.pixels, chosen)
    print(_describe(layers))
    if options.json is not None:
        written = {
            "network": given.name,
            "images": len(given.images),
            "timesteps": chosen.timesteps,
            "method": chosen.method,
            "layers": [dataclasses.asdict(layer) for layer in layers],
        }
        options.json.write_text(json.dumps(written, indent=1) + "\n")
        print(f"\n{options.json}: written")
    if options.plot is not None:
        from .plots import draw_sweeps, save_figure

        save_figure(draw_sweeps(layers, chosen.method), options.plot, bbox_inches="tight")
        print(f"\n{options.plot}: written")
    return 0


def _describe(layers: Sequence["LayerAnalysis"]) -> str:
    """Return the analysis as three tables."""
    from .describe import counts_text
    from .text import percent, table

    def bits(value: float) -> str:
        return f"{value:.2f}"

    headings = ("layer", "counts", "before", "ReLU", "after", "lost", "passed", "range", "of the largest")
    rows = [
        (
            layer.name,
            counts_text(layer.chosen.counts),
            bits(layer.before),
            bits(layer.polarity) if layer.rectified else "-",
            bits(layer.chosen.after),
            bits(layer.chosen.lost),
            bits(layer.chosen.passed),
            f"{layer.chosen.range:.3f}",
            percent(layer.chosen.range / layer.largest, 0) if layer.largest else "-",
        )
        for layer in layers
    ]
    text = f"Entropies in bits, with each layer's chosen range:\n\n{table(headings, rows, 2)}"
    for rectified, title in ((True, "with a ReLU"), (False, "without a ReLU")):
        some = [layer for layer in layers if layer.rectified is rectified]
        if some:
            counts = [f"{-each.counts.n_neg}..{each.counts.n_pos}" for each in some[0].widths]
            widths = [
                (layer.name, *(f"{bits(each.after)} / {bits(each.passed)}" for each in layer.widths)) for layer in some
            ]
            text += f"\n\nBy width of a count, layers {title}: after / passed\n\n{table(('layer', *counts), widths)}"
    polarity = [
        (
            layer.name,
            counts_text(layer.signed.counts),
            bits(layer.signed.after),
            bits(layer.signed.lost),
            bits(layer.chosen.lost - layer.signed.lost),
        )
        for layer in layers
        if layer.rectified
    ]
    if polarity:
        shown = table(("layer", "counts", "after", "lost", "saved"), polarity, 2)
        text += f"\n\nBy polarity, as many counts of both signs in place of the ReLU (another function):\n\n{shown}"
    return text
