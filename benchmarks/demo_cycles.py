"""Measure what an image of the demo network takes on each configuration, on the simulated gateware.

    python benchmarks/demo_cycles.py [--images 20] [--config large ...]

Writes bitstreams/polyspike/bitstreams/demo.json, from which `polyspike boards --markdown` makes its rates.
"""

import argparse

from polyspike.bitstreams.demo import DemoFigures, demo_figures, save_demo_figures
from polyspike.compiler import compile
from polyspike.convert import Options, convert
from polyspike.convert import demo as checkpoint
from polyspike.convert.datasets import fashion_mnist
from polyspike.driver import open_device
from polyspike.spec import NAMED, Configuration


def measure(configuration: Configuration, images: int) -> DemoFigures:
    """Run some test images as a user would, without reading back what is in between."""
    test = fashion_mnist("test").first(images)
    network = convert(checkpoint.load_finetuned(Options(timesteps=1)), name="demo", classes=test.classes)
    with open_device("sim", configuration) as device:
        device.load(compile(network, configuration))
        rates = device.infer(test.images, progress=True).rates
    assert rates is not None and rates.sent is not None and rates.received is not None
    return DemoFigures(
        configuration=configuration.name,
        digest=configuration.digest,
        images=images,
        cycles_per_image=round(rates.cycles_per_image, 1),
        sent_per_image=round(rates.sent / images, 1),
        received_per_image=round(rates.received / images, 1),
    )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description="Measure the demo network's cycles and bytes an image.")
    parser.add_argument("--images", type=int, default=20, help="images on the simulated gateware (default: 20)")
    parser.add_argument("--config", nargs="+", choices=sorted(NAMED), default=list(NAMED), help="default: all")
    options = parser.parse_args()
    found = {each.configuration: each for each in demo_figures().values()}
    for name in options.config:
        found[name] = measure(NAMED[name], options.images)
        print(found[name])
    save_demo_figures(found[name] for name in NAMED if name in found)


if __name__ == "__main__":
    main()
