"""Accuracy of the conversion methods on trained networks.

`make accuracy` runs this. It writes docs/accuracy.md and docs/accuracy.json.

Each method converts the same float networks, which `polyspike train` made: with calibration alone, and after the same
short fine-tuning with the method's own quantizer in the loop. What is measured is the integer network on the golden
model. Single-spike neurons are fine-tuned with as many levels as their T timesteps can express, as QCFS does; networks
of polarity multi-spike neurons are fine-tuned once, at one timestep.

Results are kept in build/accuracy, a file a case, so that an interrupted run goes on where it was; `--again` forgets
them. A network without checkpoint, or without its data set, is left out and said so.
"""

import argparse
import dataclasses
import functools
import json
import sys
from pathlib import Path
from typing import Any

import torch
from cases import add_arguments, kept
from subjects import (
    CALIBRATION_IMAGES,
    FOLDERS,
    Subject,
    finetuned,
    float_accuracy,
    logits,
    share_right,
    subjects,
    tuning,
)

from polyspike.cli.text import markdown, percent
from polyspike.convert import calibrate, to_network
from polyspike.convert.datasets import Dataset
from polyspike.convert.float_training import schedule_of
from polyspike.convert.methods import METHODS, ConversionMethod
from polyspike.golden import Activity, activity, run
from polyspike.network import Network, quantize
from polyspike.spec import ConversionError

#: Test images of methods other than pmsm, unless asked for more.
IMAGES = 1000
#: Images that spikes and synaptic operations are averaged over.
ACTIVITY_IMAGES = 200


@dataclasses.dataclass(frozen=True)
class Settings:
    """What all cases have in common."""

    images: int
    finetune_images: int
    epochs: int
    seed: int


def measure(
    subject: Subject,
    method: ConversionMethod,
    settings: Settings,
    options: argparse.Namespace,
) -> list[dict[str, Any]]:
    """Return a row for each number of timesteps that the method works with."""
    rows = []
    for timesteps in options.timesteps:
        parts = (subject.name, method.name, timesteps, *dataclasses.astuple(settings))
        case = functools.partial(_case, subject, method, settings, timesteps, options.work)
        rows.append(kept(options, "-".join(map(str, parts)), case))
    return [row for row in rows if row is not None]


def _case(
    subject: Subject, method: ConversionMethod, settings: Settings, timesteps: int, work: Path
) -> dict[str, Any] | None:
    """Measure a method with a number of timesteps; None where it does not work with it."""
    test = subject.test.first(settings.images)
    try:
        chosen = method.options(timesteps=timesteps, mean=subject.trained.mean, std=subject.trained.std)
        calibrated = calibrate(subject.trained.model, subject.training.images[:CALIBRATION_IMAGES], chosen)
    except ConversionError as error:
        print(f"{subject.name}, {method.name}, T = {timesteps}: {error}", file=sys.stderr)
        return None
    training = method.training_options(chosen)
    levels = f"{training.relu_counts.n_pos}-{training.linear_counts.n_pos}"
    parts = (subject.name, method.name, levels, settings.finetune_images, settings.epochs, settings.seed)
    data = subject.training.first(settings.finetune_images)
    state = work / f"{'-'.join(map(str, parts))}.safetensors"
    shift = schedule_of(subject.name, data).shift  # as in training
    schedule = tuning(settings.epochs, settings.seed + 1, levels=training.relu_counts.n_pos, shift=shift)
    tuned = finetuned(method, calibrated, data, schedule, resume=state)
    network = to_network(tuned, subject.name, test.classes)
    cost = _activity(network, subject.test)
    row = {
        "method": method.name,
        "network": subject.name,
        "dataset": test.name,
        "timesteps": timesteps,
        "float_accuracy": float_accuracy(subject, settings.images),
        "calibrated_accuracy": _accuracy(to_network(calibrated, subject.name), test),
        "finetuned_accuracy": _accuracy(network, test),
        "spikes_per_neuron": round(cost.spikes_per_neuron, 4),
        "synops_per_image": round(cost.synops),
        "input_macs_per_image": round(cost.input_macs),
        "microjoules_45nm": round(cost.microjoules, 3),
        "float_microjoules_45nm": round(cost.float_microjoules, 3),
        "seed": settings.seed,
        "images": len(test),
        "finetune_images": len(data),
        "finetune_epochs": settings.epochs,
    }
    print(_line(row), flush=True)
    return row


def _accuracy(network: Network, test: Dataset) -> float:
    return share_right(logits(network, test.images, progress=True), test.labels)


def _activity(network: Network, test: Dataset) -> Activity:
    images = test.images[:ACTIVITY_IMAGES]
    return activity(network, run(network, quantize(network.input, images), observe=True).counts)


def _line(row: dict[str, Any]) -> str:
    return (
        f"{row['network']}, {row['method']}, T = {row['timesteps']}: float {percent(row['float_accuracy'], 2)}, "
        f"calibrated {percent(row['calibrated_accuracy'], 2)}, fine-tuned {percent(row['finetuned_accuracy'], 2)}, "
        f"{row['spikes_per_neuron']:.2f} spikes a neuron"
    )


HEADINGS = (
    "method",
    "T",
    "images",
    "calibration alone",
    "points",
    "fine-tuned",
    "points",
    "spikes a neuron",
    "synaptic operations",
    "energy (45 nm model)",
)


def page(rows: list[dict[str, Any]]) -> str:
    """Return docs/accuracy.md."""
    parts = [
        "<!-- Written by `make accuracy`. -->",
        "# Accuracy of the conversion methods",
        "Integer networks on the golden model; the gateware computes the same integers. Calibration with "
        f"{CALIBRATION_IMAGES} training images. *Fine-tuned* is the same short training for every method, with "
        "its quantizer in the loop, at a rate of 0.003, a third of that where counts have 15 levels or more. "
        "*Points* are percentage points against the float network on the same images, the first ones of the test set.",
        "Spikes and synaptic operations (one spike through one synapse, a count of s being |s| spikes) are averages of "
        f"{ACTIVITY_IMAGES} test images, all timesteps together. Energy is the literature's model for 45 nm, not a "
        "measurement: 0.9 pJ an accumulation, and 4.6 pJ a multiply-accumulate of the first layer, which sees pixels.",
    ]
    parts.append(
        "In layers with a ReLU, sfn's neurons at T = 1 are those of pmsm: the two differ in how ranges and weights are "
        "calibrated, and few tenths between rows of 1,000 images are noise. Neurons of one spike a timestep (ecl, "
        "qcfs, if, tpp) have one or two levels at T = 1, so what they lose there is what more timesteps are for."
    )
    parts.append(
        "The checkpoints are those of benchmarks/checkpoints; resnet20's is not among them, and is made by the "
        "commands of the [user guide](user-guide.md#networks-of-the-papers)."
    )
    networks = list(dict.fromkeys(row["network"] for row in rows))
    for network in networks:
        mine = [row for row in rows if row["network"] == network]
        first = mine[0]
        parts.append(f"## {network}, {first['dataset']}")
        parts.append(
            f"Float network: {percent(first['float_accuracy'], 2)} of {first['images']:,} test images, "
            f"{first['float_microjoules_45nm']:.1f} µJ by the model. Fine-tuning: {first['finetune_epochs']} epoch(s) "
            f"of {first['finetune_images']:,} images, seed {first['seed']}."
        )
        parts.append(markdown(HEADINGS, [_row(row) for row in mine]))
        parts.append(_ahead(mine))
    return "\n\n".join(part for part in parts if part) + "\n"


def _row(row: dict[str, Any]) -> tuple[str, ...]:
    def points(name: str) -> str:
        return f"{(row[name] - row['float_accuracy']) * 100:+.2f}"

    return (
        row["method"],
        str(row["timesteps"]),
        f"{row['images']:,}",
        percent(row["calibrated_accuracy"], 2),
        points("calibrated_accuracy"),
        percent(row["finetuned_accuracy"], 2),
        points("finetuned_accuracy"),
        f"{row['spikes_per_neuron']:.2f}",
        f"{row['synops_per_image']:,}",
        f"{row['microjoules_45nm']:.2f} µJ",
    )


def _ahead(rows: list[dict[str, Any]]) -> str:
    """Say which methods PMSM is not ahead of at T = 1."""
    at_one = {row["method"]: row for row in rows if row["timesteps"] == 1}
    if "pmsm" not in at_one or len(at_one) == 1:
        return ""
    sentences = []
    for name, text in (("calibrated_accuracy", "with calibration alone"), ("finetuned_accuracy", "after fine-tuning")):
        loss = {each: row["float_accuracy"] - row[name] for each, row in at_one.items()}
        ahead = [each for each, value in loss.items() if round(value, 4) < round(loss["pmsm"], 4)]
        sentences.append(
            f"{text}, {' and '.join(ahead) or 'no method'} {'are' if len(ahead) > 1 else 'is'} ahead of pmsm"
        )
    return f"At T = 1: {'; '.join(sentences)}."


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", metavar="NAME", help="default: all there are checkpoints of")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--timesteps", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--images", type=int, help=f"test images (default: all for pmsm, {IMAGES} for others)")
    parser.add_argument("--finetune-images", type=int, default=6400, help="training images (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=1, help="epochs of fine-tuning (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoints", type=Path, nargs="+", default=FOLDERS, metavar="FOLDER")
    add_arguments(parser, "accuracy")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    rows = []
    for subject in subjects(options.networks, options.checkpoints):
        for name in options.methods:
            images = options.images or (len(subject.test) if name == "pmsm" else IMAGES)
            settings = Settings(images, options.finetune_images, options.epochs, options.seed)
            rows += measure(subject, METHODS[name], settings, options)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "accuracy.json").write_text(json.dumps(rows, indent=2) + "\n")
    (options.output / "accuracy.md").write_text(page(rows))


if __name__ == "__main__":
    main()
