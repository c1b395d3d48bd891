"""`polyspike run`: execute a program on images."""

import argparse
import dataclasses
import json
from pathlib import Path

from .arguments import positive

NAME = "run"
SUMMARY = "run a program (.pspk) on images, on a device"
DESCRIPTION = """\
Execute a program on images and print what the network predicts, and how fast: the core alone, and from end to end.
Where labels are known, the accuracy is printed, too.

devices:
  golden         the golden model: integers in PyTorch, fast
  sim            the generated gateware, simulated cycle by cycle and driven through its link
  machine        the instruction-set simulator
  serial:PORT    a board on a serial port, e.g. serial:/dev/ttyUSB0
  tcp:HOST:PORT  a device that another machine serves
"""
EPILOG = """\
images are read from .npz (arrays 'images', 'labels'), .npy, a folder of PNG files, or IDX files; they are uint8,
[images, channels, rows, pixels], or [images, rows, pixels] for one channel. A network for events takes what `polyspike
events` writes: counts, uint8 [recordings, bins, channels, rows, pixels].

examples:
  polyspike run net.pspk test.npz
  polyspike run net.pspk photographs/ --device golden --json result.json
  polyspike run net.pspk test.npz --limit 10 --profile --verify
  polyspike run net.pspk test.npy --labels labels.npy --counts counts.npz
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("program", type=Path, metavar="PROGRAM.pspk", help="what `polyspike compile` wrote")
    parser.add_argument("images", type=Path, metavar="IMAGES", help="images: see below")
    parser.add_argument("--labels", type=Path, metavar="FILE", help="labels: .npy, .npz or IDX (default: from a .npz)")
    parser.add_argument("--device", default="sim", help="where to run (default: sim)")
    parser.add_argument("--limit", type=positive, metavar="N", help="only the first N images")
    parser.add_argument("--batch", type=positive, metavar="N", help="images handed over at once (default: all)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write predictions, logits and figures as JSON")
    parser.add_argument("--counts", type=Path, metavar="FILE.npz", help="write every layer's spike counts")
    parser.add_argument("--profile", action="store_true", help="print the hardware counters of every layer")
    parser.add_argument(
        "--verify", action="store_true", help="compare every integer with the golden model; exit 1 if one differs"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def execute(options: argparse.Namespace) -> int:
    """Run the command."""
    import numpy as np

    from polyspike.compiler import load_program
    from polyspike.driver import compare, open_device

    from .figures import figures, figures_table, rates_text
    from .images import check_lengths, load_images, load_labels
    from .text import number, percent, table

    program = load_program(options.program)
    images = load_images(options.images)
    labels = images.labels
    if options.labels is not None:
        labels = load_labels(options.labels)
        check_lengths(options.labels, images, labels)
    images = images.first(options.limit)
    if labels is not None:
        labels = labels[: len(images)]
    trace = options.verify or options.counts is not None
    with open_device(options.device, program.configuration) as device:
        device.load(program)
        result = device.infer(images.pixels, progress=not options.quiet, trace=trace, profile=options.profile)

    classes = program.network.classes
    names = images.names or tuple(str(index) for index in range(len(images)))
    rows = []
    for index, (name, prediction) in enumerate(zip(names, result.predictions.tolist(), strict=True)):
        row = [name, classes[prediction] if prediction < len(classes) else str(prediction)]
        row.append(f"{result.logits[index, prediction]:.3f}")
        if labels is not None:
            row.append("" if prediction == labels[index] else f"wrong: {labels[index]}")
        rows.append(row)
    shown = rows[:20]
    print(table(("image", "prediction", "logit", *(["label"] if labels is not None else [])), shown, left=2))
    if len(rows) > len(shown):
        print(f"... and {len(rows) - len(shown)} more (--json FILE writes them all)")

    summary: dict[str, object] = {
        "program": str(options.program),
        "device": options.device,
        "configuration": program.configuration.name,
        "images": len(images),
        "predictions": result.predictions.tolist(),
        "logits": result.logits.tolist(),
    }
    if labels is not None:
        accuracy = float(np.mean(result.predictions == labels))
        summary["accuracy"] = accuracy
        print(f"accuracy: {percent(accuracy, 2)} of {number(len(images))} images")
    if result.rates is not None:
        print(rates_text(result.rates))
        summary["rates"] = {
            **dataclasses.asdict(result.rates),
            "cycles_per_image": result.rates.cycles_per_image,
            "core_images_per_second": result.rates.core_images_per_second,
            "images_per_second": result.rates.images_per_second,
        }
    if result.profile is not None:
        layers = figures(program, result)
        print(figures_table(layers, program.configuration))
        summary["layers"] = [layer.to_dict() for layer in layers]
    status = 0
    if options.verify:
        with open_device("golden") as golden:
            golden.load(program)
            comparison = compare(result, golden.infer(images.pixels, progress=not options.quiet, trace=True))
        summary |= {"integers_compared": comparison.compared, "integers_differing": comparison.differing}
        print(f"{options.device} against the golden model: {comparison}")
        status = 1 if comparison.differing else 0
    if options.counts is not None:
        np.savez_compressed(options.counts, allow_pickle=False, **(result.counts or {}))
        print(f"{options.counts}: spike counts of {len(result.counts or {})} layers")
    if options.json is not None:
        options.json.write_text(json.dumps(summary, indent=2) + "\n")
    return status
