"""Does it matter how a quantizer's ranges are initialized, and does entropy do it best?

    python benchmarks/initialization.py [--networks demo ...] [--cifar FOLDER] [--levels 3 15] [--seeds 3]
                                        [--images 1000] [--finetune-images 2000] [--epochs 1]

`make initialization` runs this. It writes initialization.md, .json and .svg to docs. For each network, largest count
and way to choose ranges: the accuracy at T = 1 with calibration alone, and after the same short fine-tuning, for
several seeds, which choose calibration images and the order of training; and, without fine-tuning, the accuracy with
all ranges times a factor.

Networks are the demo network, those that `polyspike train` has left checkpoints of, and, with `--cifar`, the ResNet-20
of resnet20_cifar10.safetensors in that folder, beside the CIFAR-10 (JPEG) archives. Results are kept in
build/initialization, a file a case: an interrupted run goes on where it was, and what was measured with the same
settings before stays in the tables.
"""

import argparse
import dataclasses
import functools
import json
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cases import add_arguments, kept
from matplotlib.figure import Figure
from subjects import Subject, float_accuracy, published_resnet20, subjects, tuning
from tqdm import tqdm

from polyspike.cli.plots import save_figure
from polyspike.cli.text import markdown, percent
from polyspike.convert import Method, Options, calibrate, finetune
from polyspike.convert.training import accuracy
from polyspike.network import CountRange

#: Ways to choose ranges, and the colours of their lines.
METHODS = {Method.ENTROPY: "#1565c0", Method.MSE: "#2e7d32", Method.PERCENTILE: "#ef6c00", Method.MAX: "#757575"}
FACTORS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)

#: Training images that ranges are chosen by.
CALIBRATION_IMAGES = 128


@dataclasses.dataclass(frozen=True)
class Settings:
    """What all cases have in common."""

    images: int
    finetune_images: int
    epochs: int


def main() -> None:
    """Run the benchmark and write the page."""
    parser = argparse.ArgumentParser(description="Accuracy by the initialization of ranges.")
    parser.add_argument("--networks", nargs="+", help="default: all there are checkpoints of")
    parser.add_argument("--cifar", type=Path, metavar="FOLDER", help="ResNet-20's checkpoint and CIFAR-10 (JPEG)")
    parser.add_argument("--levels", type=int, nargs="+", default=[3, 15], help="largest counts (default: 3 15)")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds (default: 3)")
    parser.add_argument("--images", type=int, default=500, help="test images (default: 500)")
    parser.add_argument("--finetune-images", type=int, default=1024, help="training images (default: 1024)")
    parser.add_argument("--epochs", type=int, default=1, help="of fine-tuning (default: 1)")
    add_arguments(parser, "initialization")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    settings = Settings(chosen.images, chosen.finetune_images, chosen.epochs)
    for subject in _subjects(chosen.networks, chosen.cifar):
        pairs = [(levels, method) for levels in chosen.levels for method in METHODS]
        for levels, method, seed in tqdm(
            [(*pair, seed) for pair in pairs for seed in (*range(chosen.seeds), None)], desc=subject.name
        ):
            parts = (subject.name, levels, method, "factors" if seed is None else seed, *dataclasses.astuple(settings))
            case = functools.partial(_measure, subject, levels, method, seed, settings)
            kept(chosen, "-".join(map(str, parts)), case)
    rows = sorted(
        (json.loads(path.read_text()) for path in chosen.work.glob("*.json")),
        key=lambda row: (row["network"], row["levels"], list(METHODS).index(row["method"]), row.get("seed", -1)),
    )
    data = {**dataclasses.asdict(settings), "calibration_images": CALIBRATION_IMAGES}
    data["rows"] = [row for row in rows if row.pop("settings") == dataclasses.asdict(settings)]
    (chosen.output / "initialization.json").write_text(json.dumps(data, indent=1) + "\n")
    (chosen.output / "initialization.md").write_text(page(data))
    save_figure(draw(data["rows"]), chosen.output / "initialization.svg", bbox_inches="tight")


def _subjects(networks: Sequence[str] | None, cifar: Path | None) -> Iterator[Subject]:
    """Yield the networks that were asked for."""
    if networks is None or set(networks) - {"resnet20-cifar"}:
        yield from subjects(networks)
    if cifar is not None and (networks is None or "resnet20-cifar" in networks):
        yield dataclasses.replace(published_resnet20(cifar, training=10_000), name="resnet20-cifar")


def _measure(subject: Subject, levels: int, method: Method, seed: int | None, settings: Settings) -> dict[str, Any]:
    """Measure a case, or the factors where there is no seed."""
    row: dict[str, Any] = {"network": subject.name, "levels": levels, "method": method}
    row |= (
        _factors(subject, levels, method, settings) if seed is None else _case(subject, levels, method, seed, settings)
    )
    row["settings"] = dataclasses.asdict(settings)
    return row


def _options(subject: Subject, levels: int, method: Method) -> Options:
    """Return one range a layer, the float network's weights: what is compared is how ranges are chosen."""
    return Options(
        counts=CountRange(0, levels, 4),
        method=method,
        per_channel=False,
        reconstruct=False,
        mean=tuple(subject.trained.mean),
        std=tuple(subject.trained.std),
    )


def _case(subject: Subject, levels: int, method: Method, seed: int, settings: Settings) -> dict[str, Any]:
    training, test = subject.training, subject.test.first(settings.images)
    order = np.random.default_rng(seed).permutation(len(training.labels))
    images = training.images[order[:CALIBRATION_IMAGES]]
    calibrated = calibrate(subject.trained.model, images, _options(subject, levels, method))
    inputs = calibrated.prepare(test.images)

    taken = order[: settings.finetune_images]
    schedule = tuning(settings.epochs, seed)
    tuned = finetune(calibrated, training.images[taken], training.labels[taken], schedule, progress=False)
    return {
        "seed": seed,
        "float": float_accuracy(subject, settings.images),
        "before": round(accuracy(calibrated, inputs, test.labels), 4),
        "after": round(accuracy(tuned, inputs, test.labels), 4),
    }


def _factors(subject: Subject, levels: int, method: Method, settings: Settings) -> dict[str, Any]:
    test = subject.test.first(settings.images // 2)
    images = subject.training.images[:CALIBRATION_IMAGES]
    found = {}
    for factor in FACTORS:
        model = calibrate(subject.trained.model, images, _options(subject, levels, method).replace(scale=factor))
        found[str(factor)] = round(accuracy(model, model.prepare(test.images), test.labels), 4)
    return {"factors": found}


def _groups(rows: list[dict[str, Any]], key: str) -> dict[tuple[str, int], dict[str, list[dict[str, Any]]]]:
    """Return the rows that have `key`, by network and largest count, then by method."""
    result: dict[tuple[str, int], dict[str, list[dict[str, Any]]]] = {}
    for row in rows:
        if key in row:
            result.setdefault((row["network"], row["levels"]), {}).setdefault(row["method"], []).append(row)
    return result


def _spread(values: Sequence[float]) -> str:
    text = percent(statistics.mean(values))
    return text if len(values) == 1 else f"{text} ({percent(min(values))} .. {percent(max(values))})"


def page(data: dict[str, Any]) -> str:
    """Return the page: what was measured, tables, and how often entropy was best."""
    groups = _groups(data["rows"], "seed")
    body, verdicts = [], []
    best_of = {"before": 0, "after": 0}
    for (network, levels), methods in groups.items():
        means = {
            when: {name: statistics.mean(row[when] for row in rows) for name, rows in methods.items()}
            for when in ("before", "after")
        }
        table = [
            (f"`{name}`", _spread([row["before"] for row in rows]), _spread([row["after"] for row in rows]))
            for name, rows in methods.items()
        ]
        some = next(iter(methods.values()))
        body.append(
            f"**{network}, counts 0..{levels}**, {len(some)} seeds; the float network has "
            f"{percent(statistics.mean(row['float'] for row in some))}:\n\n"
            + markdown(("ranges by", "calibration alone", "fine-tuned"), table)
        )
        for when, mean in means.items():
            best_of[when] += mean["entropy"] == max(mean.values())
        verdicts.append(
            (
                f"{network}, 0..{levels}",
                *(
                    f"{100 * (mean['entropy'] - best):+.1f} (`{name}`)"
                    for mean in means.values()
                    for best, name in [max((value, name) for name, value in mean.items() if name != "entropy")]
                ),
            )
        )
    points = markdown(("", "calibration alone", "fine-tuned"), verdicts)
    return f"""{_INTRODUCTION}
## Measured

At T = 1: {data["calibration_images"]} calibration images, the first {data["images"]:,} test images, fine-tuning for
{data["epochs"]} epoch(s) of {data["finetune_images"]:,} training images. A seed chooses calibration and training
images and their order; accuracies are means over seeds, with the least and the largest in brackets. `make
initialization` measures it:

{(chr(10) * 2).join(body)}

Entropy beside the best of the other three, in points of the mean accuracy; above 0 entropy is better:

{points}

Of {len(groups)} cases entropy is the best in {best_of["before"]} with calibration alone, and in {best_of["after"]}
after fine-tuning. A point is {data["images"] // 100} images here: differences below it say little.

## Accuracy against the range

All ranges of a network times one factor, calibration alone, the first {data["images"] // 2:,} test images. Where a
curve is at its best at 1, the method chose well; where it is far from it, one factor for the whole network would have
helped, which is what scale-and-fire neurons look for.

![Accuracy against the factor of all ranges, a panel for each network and largest count](initialization.svg)
"""


_INTRODUCTION = """\
# How ranges are initialized

A quantized layer has one hyperparameter, its range: the largest activation its counts can express. PMSM initializes it
by entropy. This page says what that means here, and whether it is better than simpler ways. `polyspike entropy` shows
the quantities below for any network, layer by layer.

## The criterion

Of a layer with activations x, counts s worth d each, and errors e = x - d s:

- **Entropy of the counts**, H(s). No more than that can get through, but it is not what to maximize: it does not know
  how far off a clipped value is.
- **Information passed**, I(d) = I(s; s + e') with e' normal and of the power of e. The next layer adds up many counts,
  so what disturbs it is Gaussian; I(d) is what can be told about a count behind that disturbance. `entropy` takes
  the range with the largest I(d), over the activations above zero where there is a ReLU.
- **Squared error**, the mean of e^2, which `mse` minimizes. It does not know how often each count is used.
- `max` clips nothing, `percentile` the largest thousandth of the activations above zero.

I(d) is computed from the distribution of s + e'. The approximation H(s) + log2 d - 1/2 log2(2 pi e E[e^2]) will not do.
It holds where errors are about as large as a step, as with many counts. With five counts or fewer most
activations may round to zero, with errors far smaller than a step; then it grows with d without bound, chooses the
largest range there is, and a network of ternary neurons falls silent. `tests/convert/test_entropy.py` has that case.
"""


def draw(rows: list[dict[str, Any]]) -> Figure:
    """Draw accuracy against the factor of all ranges."""
    groups = _groups(rows, "factors")
    figure = Figure(figsize=(4.2 * max(1, len(groups)), 3.2), layout="constrained")
    grid: Any = figure.subplots(1, max(1, len(groups)), squeeze=False)
    for axes, ((network, levels), methods) in zip(grid.flat, groups.items(), strict=False):
        for name, (row,) in methods.items():
            factors = [float(factor) for factor in row["factors"]]
            accuracies = [100 * value for value in row["factors"].values()]
            axes.plot(factors, accuracies, color=METHODS[Method(name)], label=name, marker="o", markersize=3)
        axes.axvline(1.0, color="#b0bec5", linewidth=1)
        axes.set_title(f"{network}, counts 0..{levels}", fontsize=9)
        axes.set_ylim(0, 100)
        axes.tick_params(labelsize=8)
    handles, labels = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(METHODS), fontsize=9, frameon=False)
    figure.supxlabel("factor of all ranges", fontsize=9)
    figure.supylabel("accuracy, %", fontsize=9)
    return figure


if __name__ == "__main__":
    main()
