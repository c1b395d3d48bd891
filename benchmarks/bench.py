"""What every network costs on the simulated accelerator, where its cycles go, and what that is worth on a routed board.

`make bench` runs this. It writes docs/benchmarks.md, bench.json, bench.svg and, for comparison with what was measured
before, bench-history.json. Exits with 1 when an integer differs from the golden model.

Cycles come from the hardware counters of the simulated gateware, the clock and the cells from the manifest of a board's
routed bitstream. Finished cases are kept in build/bench under names that change with the sources of gateware,
conversion and compiler, so an interrupted run goes on, and what may have changed is measured again.
"""

import argparse
import dataclasses
import datetime
import functools
import hashlib
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bounds
import numpy as np
import torch
from cases import add_arguments, kept
from matplotlib.figure import Figure
from numpy.typing import NDArray
from subjects import (
    CALIBRATION_IMAGES,
    FOLDERS,
    SHARED,
    UNTRAINED_CALIBRATION,
    published_resnet20,
    subjects,
    untrained,
)

from polyspike import bitstreams
from polyspike.bitstreams import Manifest
from polyspike.cli.board_tables import link_rate
from polyspike.cli.figures import figures
from polyspike.cli.plots import save_figure
from polyspike.cli.text import markdown, number, percent
from polyspike.compiler import compile
from polyspike.compiler.program import INSTRUCTION_CYCLES
from polyspike.convert import Options, convert
from polyspike.convert import demo as checkpoint
from polyspike.cosim.build import core
from polyspike.driver import compare, open_device
from polyspike.explore import predict
from polyspike.gateware.boards import BOARDS as CLASSES
from polyspike.golden import densities
from polyspike.network import Layer, Network
from polyspike.spec import NAMED

#: In convolutions over all channels with at least so many output channels, the lanes of all columns should add a
#: nonzero event in this share of all cycles.
WIDE, WANTED = 16, 0.90

#: The board whose manifest a configuration's rates are from; None where none was routed, and there are no rates.
BOARDS: dict[str, str | None] = {
    "tiny": "icebreaker",
    "small": "ulx3s-25f",
    "large": "ecpix5-85f",
    "large-pairs": "ulx3s-85f",
}

#: The configurations whose layers are shown one by one.
SHOWN = ("large", "large-pairs")

#: Networks with trained weights, and those with random ones.
TRAINED, UNTRAINED = ("demo", "lenet-s", "resnet8", "resnet8-sparse", "resnet20"), ("ds-cnn", "vgg16")

#: Images on the device where not `IMAGES`, because they take long to simulate.
IMAGES, FEWER = 3, {"vgg16": 1, "resnet20": 1}

#: Where cycles go, in the order of the picture, with what it means.
CAUSES = {
    "events": "lanes add a nonzero event",
    "idle lanes": "the same, in lanes without an output channel",
    "word fetch": "no word has come yet, or those that came were zero",
    "arbitration": "another column has the memory port",
    "drain": "a sum waits for the fire unit",
    "no work": "other columns are still at it: start, end and uneven shares of a RUN",
    "setup": f"instructions before a RUN (computed, as no counter has them: {INSTRUCTION_CYCLES} cycles each)",
}
_COLOURS = ("#1565c0", "#90caf9", "#ef6c00", "#fdd835", "#8e24aa", "#9e9e9e", "#424242")

#: MLPerf Tiny's ResNet-8 on CIFAR-10 elsewhere: who, part, multipliers (0 where not published), MHz, images a second,
#: accuracy. The figures are the submitters' own (MLPerf Tiny results, mlcommons.org).
PUBLISHED = (
    ("fpgaConvNet", "ZedBoard", 211, 143, 2431.0, "86.0 %"),
    ("fpgaConvNet", "ZC706", 525, 187, 6790.0, ""),
    ("fpgaConvNet", "Zybo", 78, 125, 317.5, ""),
    ("hls4ml", "Pynq-Z2", 0, 0, 130.8, "83.5 %"),
)


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """A network and real images for it; `weights` says whose they are."""

    name: str
    network: Callable[[], Network]
    images: NDArray[np.uint8]
    data: str
    weights: str


def cases(chosen: list[str]) -> Iterator[Case]:
    """Yield the networks of these names that there is data for."""
    committed = [name for name in TRAINED if name in chosen and name != "resnet20"]
    found = list(subjects(committed)) if committed else []
    if "resnet20" in chosen and SHARED.is_dir():
        found.append(published_resnet20(SHARED, CALIBRATION_IMAGES, 1000))
    for subject in found:
        trained, training = subject.trained, subject.training.images[:CALIBRATION_IMAGES]
        options = Options(mean=trained.mean, std=trained.std)
        if subject.name == "demo":
            model: Any = checkpoint.load_finetuned(Options())
            network = functools.partial(convert, model, name="demo", classes=subject.test.classes)
        else:
            network = functools.partial(convert, trained.model, training, options, name=subject.name)
        yield Case(subject.name, functools.cache(network), subject.test.images[:1000], subject.test.name, "trained")
    for name in UNTRAINED:
        if name in chosen:
            model, images = untrained(name)
            network = functools.partial(convert, model, images[:UNTRAINED_CALIBRATION], Options(), name=name)
            yield Case(name, functools.cache(network), images[UNTRAINED_CALIBRATION:], "Fashion-MNIST", "random")


def measure(case: Case, configuration: str, device: str, images: int) -> dict[str, Any]:
    """Run a network on the device and on the golden model, and return what it costs for one image."""
    hardware = NAMED[configuration]
    program = compile(case.network(), hardware)
    some = case.images[:images]
    with open_device(device, hardware) as opened, open_device("golden", hardware) as golden:
        opened.load(program)
        golden.load(program)
        # Rates are taken without traces, as a user would run it, and once everything is loaded.
        start, before = time.perf_counter(), opened.counters().cycles
        rates = opened.infer(some, progress=True).rates
        simulated = (opened.counters().cycles - before) / (time.perf_counter() - start)
        result = opened.infer(some, progress=True, trace=True, profile=True)
        comparison = compare(result, golden.infer(some, trace=True))
        many = case.images if program.resident else some
        start = time.perf_counter()
        golden.infer(many)
        golden_rate = len(many) / (time.perf_counter() - start)
    assert rates is not None and rates.sent is not None and rates.received is not None
    assert result.counts is not None
    density = densities(result.counts)
    predicted = {layer.layer: layer.cycles for layer in compile(case.network(), hardware, density=density).report}
    layers = [
        {**_rounded(layer.to_dict()), "setup": program.setup_cycles(layer.name), "predicted": predicted[layer.name]}
        for layer in figures(program, result)
    ]
    return {
        "network": case.name,
        "data": case.data,
        "weights": case.weights,
        "configuration": configuration,
        "images": images,
        "resident": program.resident,
        "integers_compared": comparison.compared,
        "integers_differing": comparison.differing,
        "macs": sum(layer.macs for layer in program.report),
        "events": _totals(bounds.events(case.network(), result.counts, hardware.lanes)),
        "bytes_sent": round(rates.sent / images),
        "bytes_received": round(rates.received / images),
        "simulated_cycles_per_second": round(simulated),
        "golden_images_per_second": round(golden_rate, 1),
        "machine": f"{os.cpu_count()} cores of {platform.machine()}",
        "wide_convolutions": list(_wide_convolutions(program.network)),
        "layers": layers,
    }


def _totals(events: dict[str, tuple[float, float]]) -> dict[str, float]:
    """Return the events of all layers, as they are and in pairs of positions."""
    alone, paired = (round(sum(layer[which] for layer in events.values()), 1) for which in (0, 1))
    return {"alone": alone, "paired": paired}


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in values.items()}


def _wide_convolutions(network: Network) -> Iterator[str]:
    """Yield the layers of at least `WIDE` channels whose first synapse is a convolution over all channels."""
    for node in network:
        if isinstance(node, Layer):
            synapse = node.synapses[0]
            whole_map = synapse.window == network[synapse.source].shape[1:]
            if synapse.groups == 1 and not whole_map and node.shape[0] >= WIDE:
                yield node.name


def lost(layer: dict[str, Any], columns: int) -> dict[str, float]:
    """Return a layer's cycles for an image by what they went into; see `CAUSES`."""
    events = layer["events"] / columns
    return {
        "events": events * layer["lanes_used"],
        "idle lanes": events * (1 - layer["lanes_used"]),
        "word fetch": layer["stall_fetch"] / columns,
        "arbitration": layer["stall_port"] / columns,
        "drain": layer["stall_drain"] / columns,
        "no work": layer["stall_idle"] / columns,
        "setup": layer["setup"],
    }


def row(measured: dict[str, Any], manifest: Manifest | None) -> dict[str, Any]:
    """Return a case's entry in docs/bench.json: what was measured, at the clock and size of a routed board if any."""
    configuration = NAMED[measured["configuration"]]
    layers = measured["layers"]
    parts = [lost(layer, configuration.columns) for layer in layers]
    causes = {cause: sum(part[cause] for part in parts) for cause in CAUSES}
    cycles = sum(causes.values())
    dsp, link = predict(configuration).dsp, None
    rates = ("images_per_s", "images_per_s_per_klut", "images_per_s_over_link")
    routed: dict[str, Any] = dict.fromkeys(("board", "fmax_mhz", *rates))
    if manifest is not None:
        rate = manifest.fmax_mhz * 1e6 / cycles
        most = max(measured["bytes_sent"], measured["bytes_received"])
        over_link = link_rate(CLASSES[manifest.board], manifest) / most
        link = round(max(0.0, manifest.fmax_mhz * 1e6 / over_link - cycles), 1)
        dsp = manifest.utilization.dsp
        routed = {
            "board": manifest.board,
            "fmax_mhz": manifest.fmax_mhz,
            "images_per_s": significant(rate),
            "images_per_s_per_klut": significant(rate / manifest.utilization.lut * 1000),
            "images_per_s_over_link": significant(min(rate, over_link)),
        }
    wide = [layer for layer in layers if layer["name"] in measured["wide_convolutions"]]
    events = sum(layer["events"] for layer in wide)
    return {
        "network": measured["network"],
        "configuration": measured["configuration"],
        "cycles_per_image": round(cycles, 1),
        **routed,
        "dsp": dsp,
        "images_per_s_per_dsp_mhz": significant(1e6 / cycles / max(1, dsp)),
        "utilization": round((causes["events"] + causes["idle lanes"]) / cycles, 4),
        "utilization_of_wide_convolutions": round(
            events / max(1, configuration.columns * sum(layer["cycles"] + layer["setup"] for layer in wide)), 4
        ),
        "lost": {
            **{name.replace(" ", "_"): round(causes[name], 1) for name in CAUSES if name != "events"},
            "link": link,
        },
        **{name: value for name, value in measured.items() if name not in ("network", "configuration")},
    }


def significant(value: float) -> float:
    """Return four significant figures."""
    return round(value, 3 - math.floor(math.log10(value))) if value else 0.0


def changes(rows: list[dict[str, Any]], history: list[dict[str, Any]], today: str) -> list[dict[str, Any]]:
    """Return the history with an entry more for every case whose cycles are not those of its last one."""
    history = list(history)
    for each in rows:
        mine = [entry for entry in history if _same(entry, each)]
        if not mine or mine[-1]["cycles_per_image"] != each["cycles_per_image"]:
            kept_fields = ("network", "configuration", "images", "cycles_per_image", "fmax_mhz", "images_per_s")
            history.append({"date": today, **{name: each[name] for name in kept_fields}})
    return history


def _same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return all(first[name] == second[name] for name in ("network", "configuration", "images"))


HEADINGS = (
    *("network", "configuration", "board", "cycles an image", "before", "Fmax MHz", "images/s", "per DSP MHz"),
    *("per kLUT", "over the link", "columns busy", "wide convolutions"),
)
LAYERS = ("layer", "cycles", "predicted", *CAUSES, "density", "busy")


def page(rows: list[dict[str, Any]], history: list[dict[str, Any]]) -> str:
    """Return docs/benchmarks.md."""
    table = []
    for each in rows:
        earlier = [entry["cycles_per_image"] for entry in history if _same(entry, each)]
        before = ""
        if len(earlier) > 1:
            before = f"{number(round(earlier[-2]))} ({each['cycles_per_image'] / earlier[-2] - 1:+.1%})"
        table.append(
            (
                each["network"],
                f"`{each['configuration']}`",
                each["board"] or "not routed",
                number(round(each["cycles_per_image"])),
                before,
                "" if each["fmax_mhz"] is None else f"{each['fmax_mhz']:.1f}",
                rate_text(each["images_per_s"]),
                f"{each['images_per_s_per_dsp_mhz']:.4f}",
                rate_text(each["images_per_s_per_klut"]),
                rate_text(each["images_per_s_over_link"]),
                percent(each["utilization"]),
                percent(each["utilization_of_wide_convolutions"]) if each["utilization_of_wide_convolutions"] else "",
            )
        )
    compared, differing = (sum(each[f"integers_{word}"] for each in rows) for word in ("compared", "differing"))
    parts = [
        "<!-- Written by `make bench`. -->",
        "# Benchmarks",
        "Cycles for one image at T = 1, from the hardware counters of the simulated gateware; *images/s* is the rate "
        "of the core alone at the *routed* Fmax of the board's manifest, and *over the link* what is left of it where "
        "every byte goes over the board's link at its fastest rate (weights too, once a batch, where a network is "
        "streamed; a batch is as many images as the JSON file says). *Before* is the last other figure of "
        "[bench-history.json](bench-history.json). *Columns busy* is the share of column cycles with a nonzero event; "
        f"*wide convolutions* the same for convolutions over all channels with {WIDE} output channels or more.",
        markdown(HEADINGS, table, left=3),
        f"Against the golden model, **{number(differing)} of {number(compared)} integers differ**. demo, lenet-s, "
        "resnet8, resnet8-sparse (trained for few spikes) and resnet20 are trained networks; the others have random "
        "weights, and batch norms with the statistics of real images.",
        "![Where the cycles go](bench.svg)",
        "\n".join(f"- **{cause}**: {text}." for cause, text in CAUSES.items()),
    ]
    parts += _beside_others(rows)
    for each in rows:
        if each["configuration"] not in SHOWN:
            continue
        columns = NAMED[each["configuration"]].columns
        lines = []
        for layer in each["layers"]:
            spent = lost(layer, columns)
            cycles = sum(spent.values())
            lines.append(
                (
                    layer["name"],
                    number(round(cycles)),
                    f"{layer['predicted'] / layer['cycles'] - 1:+.0%}",
                    *(number(round(spent[cause])) for cause in CAUSES),
                    "" if layer["density"] is None else percent(layer["density"]),
                    percent(layer["events"] / columns / cycles),
                )
            )
        parts += [
            f"## {each['network']} on `{each['configuration']}`, {each['data']}",
            f"{each['images']} image(s), {each['macs'] / 1e6:.1f} M multiply-accumulates of the dense network each; "
            f"weights {'resident' if each['resident'] else 'streamed'}. *Predicted* is the compiler's cost model with "
            "these densities, against the counted cycles.",
            markdown(LAYERS, lines),
            _verdict(each),
        ]
    rates = [
        (
            each["network"],
            f"`{each['configuration']}`",
            number(each["simulated_cycles_per_second"]),
            f"{each['golden_images_per_second']:,.0f}",
        )
        for each in rows
        if each["resident"]
    ]
    parts += [
        "## Speed of the simulations",
        f"On one of {' and '.join(sorted({each['machine'] for each in rows}))}, networks that stay on the chip. "
        "Cycles of the core a second of wall time, the transfers over the simulated link included; images a second of "
        "the golden model.",
        markdown(("network", "configuration", "simulated cycles/s", "golden images/s"), rates, left=2),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _beside_others(rows: list[dict[str, Any]]) -> list[str]:
    """Return the section about the network that most others have published a rate of."""
    mine = [each for each in rows if each["network"] in ("resnet8", "resnet8-sparse")]
    if not mine:
        return []
    table = [
        (
            f"polyspike, `{each['configuration']}`, {each['network']}",
            each["board"] or "not routed",
            number(each["dsp"]),
            "" if each["fmax_mhz"] is None else f"{each['fmax_mhz']:.0f}",
            rate_text(each["images_per_s"]),
            f"{each['images_per_s_per_dsp_mhz']:.3f}",
        )
        for each in mine
    ]
    table += [
        (
            name,
            part,
            number(dsp) if dsp else "",
            str(mhz) if mhz else "",
            rate_text(rate),
            f"{rate / dsp / mhz:.3f}" if dsp else "",
        )
        for name, part, dsp, mhz, rate, _ in PUBLISHED
    ]
    dense, sparse = (
        json.loads((FOLDERS[0] / f"{name}-cifar-10-jpeg.json").read_text()) for name in ("resnet8", "resnet8-sparse")
    )
    accuracies = " and ".join(f"{accuracy} ({name})" for name, *_, accuracy in PUBLISHED if accuracy)
    return [
        "## Beside published figures: ResNet-8",
        "Others' figures are their own, of boards (MLPerf Tiny results); ours are simulated cycles at a routed clock, "
        f"of the core alone. As a float network, resnet8 has {percent(dense['accuracy'], 2)} of {dense['dataset']} and "
        f"resnet8-sparse, which was trained for few spikes, {percent(sparse['accuracy'], 2)}; [the converted ones]"
        f"(accuracy.md) somewhat less. The others have {accuracies} of CIFAR-10.",
        markdown(("who", "part", "multipliers", "MHz", "images/s", "per DSP MHz"), table, left=2),
        *_limits(mine),
    ]


def _limits(rows: list[dict[str, Any]]) -> list[str]:
    """Return what bounds the rates of networks on `large` and `large-pairs`."""
    table = []
    for each in rows:
        configuration = NAMED[each["configuration"]]
        if configuration.name not in SHOWN:
            continue
        events = each["events"]["paired" if configuration.pairs else "alone"]
        cases = (
            ("as counted", each["cycles_per_image"]),
            ("events alone, one in every column and cycle", events / configuration.columns),
        )
        for name, cycles in cases:
            rate = "" if each["fmax_mhz"] is None else number(round(1e6 * each["fmax_mhz"] / cycles))
            table.append(
                (
                    each["network"],
                    f"`{configuration.name}`",
                    name,
                    number(round(cycles)),
                    rate,
                    f"{1e6 / cycles / each['dsp']:.3f}",
                )
            )
    if not table:
        return []
    return [
        "What bounds them; of a pair of positions, either count makes an event of both:",
        markdown(("network", "configuration", "", "cycles an image", "images/s", "per DSP MHz"), table, left=3),
    ]


def _verdict(entry: dict[str, Any]) -> str:
    """Say which wide convolutions alone are below what is wanted."""
    below = [
        f"{layer['name']} {percent(layer['utilization'])}"
        for layer in entry["layers"]
        if layer["name"] in entry["wide_convolutions"] and layer["utilization"] < WANTED
    ]
    if not entry["wide_convolutions"]:
        return ""
    return f"Wide convolutions below {percent(WANTED, 0)} of the counted cycles: {', '.join(below) or 'none'}."


def rate_text(value: float | None) -> str:
    """Return a rate as it stands in tables; nothing where there is none."""
    if value is None:
        return ""
    return number(round(value)) if value >= 100 else f"{value:.3g}"


def draw(rows: list[dict[str, Any]]) -> Figure:
    """Draw where each network's cycles go, as shares."""
    figure = Figure(figsize=(8.5, 0.8 + 0.3 * len(rows)), layout="constrained")
    axes: Any = figure.subplots()
    names = [f"{each['network']}, {each['configuration']}" for each in rows]
    left = np.zeros(len(rows))
    for cause, colour in zip(CAUSES, _COLOURS, strict=True):
        shares = []
        for each in rows:
            columns = NAMED[each["configuration"]].columns
            spent = sum(lost(layer, columns)[cause] for layer in each["layers"])
            shares.append(100 * spent / each["cycles_per_image"])
        axes.barh(names, shares, left=left, color=colour, label=cause, height=0.7)
        left += shares
    for index, each in enumerate(rows):
        text = f"{each['cycles_per_image']:,.0f} cycles"
        if each["images_per_s"] is not None:
            text += f", {rate_text(each['images_per_s'])} images/s"
        axes.text(101, index, text, va="center", fontsize=7)
    axes.set_xlim(0, 130)
    axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel("% of the cycles for an image")
    axes.invert_yaxis()
    axes.tick_params(labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=len(CAUSES), fontsize=7)
    return figure


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*TRAINED, *UNTRAINED]
    parser.add_argument("--networks", nargs="+", choices=names, default=names)
    parser.add_argument("--configs", nargs="+", choices=BOARDS, default=list(BOARDS))
    parser.add_argument("--images", type=int, help=f"images on the device (default: {IMAGES}, 1 for large networks)")
    parser.add_argument("--device", default="sim", help="device (default: sim)")
    add_arguments(parser, "bench")
    options = parser.parse_args()
    torch.set_num_threads(1)
    manifests = bitstreams.manifests()
    rows = []
    for case in cases(options.networks):
        images = options.images or FEWER.get(case.name, IMAGES)
        for name in options.configs:
            # Everything a figure depends on: gateware, conversion and compiler, the last two by their sources.
            parts = (core(NAMED[name]).key, _sources(), options.device)
            key = hashlib.sha256("-".join(parts).encode()).hexdigest()[:12]
            measured = kept(
                options,
                f"{case.name}-{name}-{images}-{key}",
                functools.partial(measure, case, name, options.device, images),
            )
            if measured is None:
                continue
            board = BOARDS[name]
            rows.append(row(measured, None if board is None else manifests[board]))
            print(
                f"{case.name} on {name}: {number(round(rows[-1]['cycles_per_image']))} cycles, "
                f"{rate_text(rows[-1]['images_per_s']) or '?'} images/s, columns busy "
                f"{percent(rows[-1]['utilization'])}, "
                f"{measured['integers_differing']} of {number(measured['integers_compared'])} integers differ",
                flush=True,
            )
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / "bench-history.json"
    history = json.loads(path.read_text()) if path.is_file() else []
    history = changes(rows, history, datetime.datetime.now(datetime.UTC).date().isoformat())
    path.write_text(json.dumps(history, indent=2) + "\n")
    (options.output / "bench.json").write_text(json.dumps(rows, indent=2) + "\n")
    (options.output / "benchmarks.md").write_text(page(rows, history))
    save_figure(draw(rows), options.output / "bench.svg")
    return 1 if any(each["integers_differing"] for each in rows) else 0


@functools.cache
def _sources() -> str:
    """Return a digest of what makes programs of networks."""
    import polyspike.compiler
    import polyspike.convert

    digest = hashlib.sha256()
    for package in (polyspike.convert, polyspike.compiler):
        for file in sorted(Path(package.__path__[0]).glob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
