"""Scale-and-fire: does a factor for every layer pay, beside one for the whole network? And which base serves it best?

    python benchmarks/scaling.py [--images 1000] [--levels 3 15] [--bases percentile max] [--trials 24] [--layers 96]

The demo network on Fashion-MNIST at T = 1, without fine-tuning. For each base range and largest count: the divergence
of the outputs over the calibration images, which the search minimizes, and the accuracy on test images. `--layers`
is the number of trials with a factor a layer; 0 leaves them out.
"""

import argparse
import logging

import optuna
import torch
import torch.nn.functional as F

from polyspike.convert import Options, QuantizedModel, demo
from polyspike.convert.calibration import choose_ranges, correct_biases
from polyspike.convert.datasets import fashion_mnist
from polyspike.convert.scaling import search_scale
from polyspike.convert.tracing import trace
from polyspike.convert.training import accuracy
from polyspike.network import CountRange

CALIBRATION_IMAGES = 128


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description="One factor of all ranges, or one for each layer.")
    parser.add_argument("--images", type=int, default=1000, help="test images (default: 1000)")
    parser.add_argument("--levels", type=int, nargs="+", default=[3, 15], help="largest counts (default: 3 15)")
    parser.add_argument("--bases", nargs="+", default=["percentile", "max"])
    parser.add_argument("--trials", type=int, default=24, help="with one factor for the network (default: 24)")
    parser.add_argument("--layers", type=int, default=96, help="trials with a factor for each layer (default: 96)")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("optuna").setLevel(logging.WARNING)
    network = trace(demo.load_float(), demo.SHAPE)
    for base in chosen.bases:
        for levels in chosen.levels:
            options = Options(counts=CountRange(0, levels, 4), method=base, per_channel=False)
            measure(QuantizedModel(network, options).eval(), chosen)


@torch.no_grad()
def measure(model: QuantizedModel, chosen: argparse.Namespace) -> None:
    """Print what the base ranges reach, scaled ones, and ones scaled layer by layer."""
    entry = model.prepare(fashion_mnist("train").first(CALIBRATION_IMAGES).images)
    test = fashion_mnist("test").first(chosen.images)
    inputs = model.prepare(test.images)
    means, wanted = choose_ranges(model, entry)
    names = [name for name, layer in model.layers.items() if layer.range is not None]

    def scaled(factors: dict[str, float]) -> tuple[QuantizedModel, float]:
        tried = model.with_options(model.options)
        for name, factor in factors.items():
            tried.layers[name].range.mul_(factor)
        got = correct_biases(tried, entry, means)
        return tried, F.kl_div(got.log_softmax(1), wanted.softmax(1), reduction="batchmean").item()

    def report(what: str, factors: dict[str, float]) -> None:
        tried, divergence = scaled(factors)
        counts = model.options.relu_counts
        values = ", ".join(f"{value:.2f}" for value in factors.values())
        print(
            f"{model.options.method}, counts 0..{counts.n_pos}, {what}: divergence {divergence:.4f} nats, "
            f"{accuracy(tried, inputs, test.labels):.1%} of {len(test)} images ({values})",
            flush=True,
        )

    report("base", dict.fromkeys(names, 1.0))
    scale = search_scale(lambda value: scaled(dict.fromkeys(names, value))[1], 1.0, chosen.trials, seed=0)
    common = dict.fromkeys(names, scale)
    report(f"one factor, {chosen.trials} trials", common)
    if chosen.layers:
        study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
        study.enqueue_trial(common)
        for _ in range(chosen.layers):
            trial = study.ask()
            study.tell(trial, scaled({name: trial.suggest_float(name, 0.25, 2.0, log=True) for name in names})[1])
        report(f"a factor a layer, {chosen.layers} trials more", study.best_params)


if __name__ == "__main__":
    main()
