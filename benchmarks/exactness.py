"""Every conversion method on every network: does the simulated gateware compute the golden model's integers?

`make exactness` runs this. It writes docs/verification/networks.md and networks.json, a row a case: how many integers
(every spike count of every layer at every timestep, every output membrane) were compared and how many differ. The
networks have random weights, their batch norms the statistics of real images: exactness is a matter of the integers,
not of what they are good for. The images are Fashion-MNIST's, for colour networks as three equal channels in 32 x 32.

Finished cases are kept in build/exactness, so that an interrupted run goes on. The largest networks stream their
weights over the simulated link, layer by layer; that takes minutes each.
"""

import argparse
import functools
import json
import sys
import time
from typing import Any

import torch
from cases import add_arguments, kept
from subjects import ROOT, UNTRAINED_CALIBRATION, untrained

from polyspike.cli.text import markdown
from polyspike.compiler import compile
from polyspike.convert import calibrate, to_network
from polyspike.convert.methods import METHODS
from polyspike.convert.models import NETWORKS
from polyspike.driver import compare, open_device
from polyspike.spec import LARGE, for_neuron

#: Single-spike neurons need more than one timestep to be more than a threshold.
TIMESTEPS = {"pmsm": 1}
_TIMESTEPS = 2


def measure(name: str, method: str, device: str, number: int) -> dict[str, Any]:
    """Compile a network for `large` and run `number` images on the device and on the golden model."""
    model, images = untrained(name)
    options = METHODS[method].options(timesteps=TIMESTEPS.get(method, _TIMESTEPS))
    quantized = calibrate(model, images[:UNTRAINED_CALIBRATION], options)
    program = compile(to_network(quantized, name), for_neuron(LARGE, method))
    begin = time.monotonic()
    with open_device(device, program.configuration) as opened, open_device("golden", program.configuration) as golden:
        opened.load(program)
        golden.load(program)
        result = opened.infer(images[-number:], trace=True, progress=True)
        comparison = compare(result, golden.infer(images[-number:], trace=True))
    return {
        "network": name,
        "method": method,
        "timesteps": options.timesteps,
        "configuration": program.configuration.name,
        "device": device,
        "images": number,
        "integers_compared": comparison.compared,
        "integers_differing": comparison.differing,
        "seconds": round(time.monotonic() - begin, 1),
    }


HEADINGS = ("network", "method", "T", "configuration", "images", "integers compared", "differing", "seconds")


def page(rows: list[dict[str, Any]]) -> str:
    """Return docs/verification/networks.md."""
    table = [
        (
            row["network"],
            row["method"],
            str(row["timesteps"]),
            f"`{row['configuration']}`",
            str(row["images"]),
            f"{row['integers_compared']:,}",
            f"{row['integers_differing']:,}",
            f"{row['seconds']:.1f}",
        )
        for row in rows
    ]
    compared, differing = (sum(row[f"integers_{name}"] for row in rows) for name in ("compared", "differing"))
    return (
        "\n\n".join(
            [
                "<!-- Written by `make exactness`. -->",
                "# Every network, every method",
                "Simulated gateware against the golden model: every spike count of every layer at every timestep, "
                "and every output membrane. The networks are those of `polyspike.convert.models` at their full "
                "width, with random weights.",
                markdown(HEADINGS, table, left=2),
                f"**{differing:,} of {compared:,} integers differ.**",
            ]
        )
        + "\n"
    )


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--images", type=int, default=1, help="images a case (default: 1)")
    parser.add_argument("--device", default="sim", help="device (default: sim)")
    add_arguments(parser, "exactness", ROOT / "docs" / "verification")
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name in options.networks:
        for method in options.methods:
            case = f"{name}-{method}-{options.device}-{options.images}"
            row = kept(options, case, functools.partial(measure, name, method, options.device, options.images))
            if row is None:
                continue
            rows.append(row)
            compared, differing = row["integers_compared"], row["integers_differing"]
            print(f"{name}, {method}: {differing:,} of {compared:,} integers differ", flush=True)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "networks.json").write_text(json.dumps(rows, indent=2) + "\n")
    (options.output / "networks.md").write_text(page(rows))
    return 1 if any(row["integers_differing"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
