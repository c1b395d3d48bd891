"""How many timesteps each method needs to come within one point of the float network.

`make accuracy` runs this after benchmarks/accuracy.py. It writes docs/latency.md, latency.json and latency.svg. All
start from the same float networks: PMSM and QCFS of this project (QCFS after the fine-tuning it is made for, with 8
levels), and SpikingJelly's ann2snn (its RateCodingRecipe): with the 99.9th percentile, with the maximum, and with what
it offers beyond them, a threshold a channel and half of it as initial potential. SpikingJelly's networks are measured
in floating point, this project's as integers on the golden model.

SpikingJelly is left out unless installed, which `make accuracy` does.
"""

import argparse
import functools
import json
import sys
from typing import Any

import torch
from cases import add_arguments, kept
from matplotlib.figure import Figure
from subjects import CALIBRATION_IMAGES, Subject, finetuned, float_accuracy, logits, share_right, subjects, tuning

from polyspike.cli.plots import save_figure
from polyspike.cli.text import markdown, percent
from polyspike.convert import calibrate, to_network
from polyspike.convert.float_training import normalized
from polyspike.convert.methods import METHODS

#: Timesteps that are looked at.
LADDER = (1, 2, 4, 8, 16, 32, 64, 128)
#: Levels of the quantizer that QCFS networks are fine-tuned with.
QCFS_LEVELS = 8
#: What "within one point" is.
WITHIN = 0.01

_SPIKINGJELLY: dict[str, dict[str, Any]] = {
    "SpikingJelly, 99.9 %": {"mode": "99.9%"},
    "SpikingJelly, maximum": {"mode": "max"},
    "SpikingJelly, 99.9 %, per channel, half a threshold": {
        "mode": "99.9%",
        "channel_wise": True,
        "half_threshold": True,
    },
}

Curve = dict[int, float]


def ours(subject: Subject, method: str, images: int, finetune_images: int, target: float) -> Curve:
    """Return the accuracy by timesteps, up to the first within reach of `target`."""
    training, test = subject.training, subject.test.first(images)
    chosen = METHODS[method].options(
        timesteps=QCFS_LEVELS if method == "qcfs" else 1, mean=subject.trained.mean, std=subject.trained.std
    )
    quantized = calibrate(subject.trained.model, training.images[:CALIBRATION_IMAGES], chosen)
    if finetune_images:
        quantized = finetuned(METHODS[method], quantized, training.first(finetune_images), tuning(1, 1))
    curve: Curve = {}
    for timesteps in LADDER:
        network = to_network(quantized.with_options(chosen.replace(timesteps=timesteps)), subject.name)
        curve[timesteps] = share_right(logits(network, test.images, progress=True), test.labels)
        if curve[timesteps] >= target:
            break
    return curve


def spikingjelly(subject: Subject, recipe: dict[str, Any], images: int, target: float) -> Curve:
    """Return the accuracy of SpikingJelly's network by timesteps, up to the first within reach of `target`."""
    from spikingjelly.activation_based import ann2snn, functional

    trained, test = subject.trained, subject.test.first(images)
    training = normalized(subject.training.images[:CALIBRATION_IMAGES], trained.mean, trained.std)
    converter = ann2snn.FXConverter(ann2snn.RateCodingRecipe([training], **recipe))
    network = converter.convert(trained.model).eval()
    inputs = normalized(test.images, trained.mean, trained.std)

    totals = torch.zeros(len(inputs), len(test.classes))
    curve: Curve = {}
    with torch.no_grad():
        for timesteps in LADDER:
            for start in range(0, len(inputs), 250):
                part = slice(start, start + 250)
                # The membranes of a batch are started anew: keeping those of all batches would not fit.
                functional.reset_net(network)
                totals[part] = sum(network(inputs[part]) for _ in range(timesteps))
            curve[timesteps] = share_right(totals.numpy(), test.labels)
            if curve[timesteps] >= target:
                break
    return curve


def measure(subject: Subject, images: int, finetune_images: int) -> list[dict[str, Any]]:
    """Return a row for each method."""
    reference = float_accuracy(subject, images)
    target = reference - WITHIN
    curves = {
        "PMSM, calibration alone": ours(subject, "pmsm", images, 0, target),
        "PMSM": ours(subject, "pmsm", images, finetune_images, target),
        "QCFS": ours(subject, "qcfs", images, finetune_images, target),
    }
    try:
        import spikingjelly as _  # noqa: F401 - only whether it is there
    except ImportError:
        print(f"SpikingJelly is left out: it is not installed. {(__doc__ or '').splitlines()[-1]}", file=sys.stderr)
    else:
        for name, recipe in _SPIKINGJELLY.items():
            curves[name] = spikingjelly(subject, recipe, images, target)
    return [
        {
            "network": subject.name,
            "dataset": subject.test.name,
            "method": name,
            "images": images,
            "finetune_images": 0 if name.startswith(("SpikingJelly", "PMSM,")) else finetune_images,
            "float_accuracy": reference,
            "accuracy": curve,
            "timesteps": next((step for step, value in curve.items() if value >= target), None),
        }
        for name, curve in curves.items()
    ]


def page(rows: list[dict[str, Any]]) -> str:
    """Return docs/latency.md."""
    parts = [
        "<!-- Written by benchmarks/latency.py, which `make accuracy` runs. -->",
        "# Timesteps to come within one point of the float network",
        f"The first of {', '.join(map(str, LADDER))} timesteps at which a method is at most one percentage point below "
        "the float network, all of them on the same float weights. PMSM and QCFS are fine-tuned for an epoch unless "
        "it says otherwise; they are integer networks on the golden model. SpikingJelly's networks (ann2snn, "
        "RateCodingRecipe) are in floating point, converted without training.",
        "![accuracy by timesteps](latency.svg)",
    ]
    for network in dict.fromkeys(row["network"] for row in rows):
        mine = [row for row in rows if row["network"] == network]
        parts.append(f"## {network}, {mine[0]['dataset']}")
        parts.append(f"Float network: {percent(mine[0]['float_accuracy'], 2)} of {mine[0]['images']:,} test images.")
        table = []
        for row in mine:
            last, value = list(row["accuracy"].items())[-1]
            needed = str(row["timesteps"]) if row["timesteps"] else f"more than {last}"
            table.append(
                (row["method"], needed, f"{percent(row['accuracy'][min(row['accuracy'])], 2)}", percent(value, 2))
            )
        parts.append(markdown(("method", "T within one point", "accuracy at T = 1", "accuracy at that T"), table))
    return "\n\n".join(parts) + "\n"


def draw(rows: list[dict[str, Any]]) -> Figure:
    """Draw accuracy against timesteps, a panel a network."""
    networks = list(dict.fromkeys(row["network"] for row in rows))
    figure = Figure(figsize=(4.2 * max(1, len(networks)), 3.6), layout="constrained")
    grid: Any = figure.subplots(1, max(1, len(networks)), squeeze=False)
    for axis, network in zip(grid.flat, networks, strict=False):
        mine = [row for row in rows if row["network"] == network]
        for row in mine:
            accuracies = [100 * value for value in row["accuracy"].values()]
            axis.plot(list(row["accuracy"]), accuracies, marker="o", markersize=3, label=row["method"])
        axis.axhline(100 * mine[0]["float_accuracy"], color="black", linewidth=0.8, linestyle="--", label="float")
        axis.set_xscale("log", base=2)
        axis.set_title(f"{network}, {mine[0]['dataset']}", fontsize=9)
        axis.set_xlabel("timesteps")
        axis.set_ylabel("accuracy, %")
    grid.flat[0].legend(fontsize=6)
    return figure


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", metavar="NAME", help="default: all there are checkpoints of")
    parser.add_argument("--images", type=int, default=1000, help="test images (default: %(default)s)")
    parser.add_argument("--finetune-images", type=int, default=20_000, help="training images (default: %(default)s)")
    add_arguments(parser, "latency")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for subject in subjects(options.networks):
        name = f"{subject.name}-{options.images}-{options.finetune_images}"
        found = kept(options, name, functools.partial(measure, subject, options.images, options.finetune_images))
        for row in found or []:
            row["accuracy"] = {int(step): value for step, value in row["accuracy"].items()}
            rows.append(row)
            print(f"{row['network']}, {row['method']}: T = {row['timesteps']}", flush=True)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "latency.json").write_text(json.dumps(rows, indent=2) + "\n")
    (options.output / "latency.md").write_text(page(rows))
    save_figure(draw(rows), options.output / "latency.svg", bbox_inches="tight")


if __name__ == "__main__":
    main()
