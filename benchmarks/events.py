"""Accuracy of the network for events on the golden model, and every integer of some samples on a device.

    python benchmarks/events.py [--images 10000] [--device sim --simulated 3] [--config large]
                                [--json FILE] [--picture FILE]

The samples are simulated events from the real test images of Fashion-MNIST. Exits with 1 if an integer differs.
"""

import argparse
import json
import sys
from pathlib import Path

import torch

from polyspike.cli.plots import draw_bins, save_figure
from polyspike.compiler import compile
from polyspike.convert import to_network
from polyspike.convert.event_demo import BINS, load_finetuned, simulated_events
from polyspike.driver import compare, open_device
from polyspike.spec import named


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description="Accuracy of the network for events.")
    parser.add_argument("--images", type=int, default=10_000, help="test samples on the golden model (default: 10000)")
    parser.add_argument("--device", default="sim", help="device that is compared (default: sim)")
    parser.add_argument("--simulated", type=int, default=3, help="samples it runs, every count traced (default: 3)")
    parser.add_argument("--config", default="large", help="hardware configuration (default: large)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--picture", type=Path, help="draw the bins of three samples")
    options = parser.parse_args()
    torch.set_num_threads(1)
    configuration = named(options.config)
    test = simulated_events("test", options.images, progress=True)
    network = to_network(load_finetuned(), "events", test.classes)
    program = compile(network, configuration)
    with open_device("golden", configuration) as golden:
        golden.load(program)
        predictions = golden.infer(test.images, progress=True).predictions
        some = test.first(options.simulated).images
        wanted = golden.infer(some, trace=True)
    accuracy = float((predictions == test.labels).mean())
    print(f"golden model: {accuracy:.2%} of {len(test)} samples ({test.name}, {BINS} bins)")
    with open_device(options.device, configuration) as device:
        device.load(program)
        result = device.infer(some, trace=True, profile=True)
        cycles = device.counters().cycles // len(some)
    comparison = compare(result, wanted)
    print(f"device {options.device!r}, configuration {options.config!r}: {comparison}; {cycles:,} cycles a sample")
    if options.picture is not None:
        names = [test.classes[label] for label in test.labels[:3]]
        save_figure(draw_bins(test.images[:3], names), options.picture)
    if options.json is not None:
        figures = {
            "data": test.name,
            "samples": len(test),
            "bins": BINS,
            "events_per_sample": round(float(test.images.sum()) / len(test), 1),
            "density": round(float((test.images > 0).mean()), 4),
            "golden_accuracy": round(accuracy, 4),
            "device": options.device,
            "configuration": options.config,
            "compared_samples": len(some),
            "integers_compared": comparison.compared,
            "integers_differing": comparison.differing,
            "cycles_per_sample": cycles,
        }
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    sys.exit(1 if comparison.differing else 0)


if __name__ == "__main__":
    main()
