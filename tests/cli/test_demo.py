"""The demo on few images and the instruction-set simulator: what it writes, and what happens when integers differ."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from polyspike.cli import demonstration
from polyspike.cli.figures import input_density
from polyspike.cli.main import main
from polyspike.compiler import compile
from polyspike.convert import Options, convert
from polyspike.convert import demo as checkpoint
from polyspike.convert.datasets import FASHION_MNIST_FOLDER
from polyspike.driver import Result, open_device
from polyspike.spec import LARGE

pytestmark = pytest.mark.skipif(
    not FASHION_MNIST_FOLDER.is_dir(), reason="needs Debian's package dataset-fashion-mnist"
)

KEYS = {
    "float_accuracy",
    "accuracy_t1",
    "accuracy_t2",
    "images_golden",
    "images_simulated",
    "integers_compared",
    "integers_differing",
    "cycles_per_image",
    "layers",
}


class Checker(HTMLParser):
    """Counts pictures, and notes tags that are left open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.pictures = 0

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            values = dict(attributes)
            assert (values["src"] or "").startswith("data:image/svg+xml;base64,")
            assert values["alt"]
            self.pictures += 1
        elif tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def run(folder: Path, *more: str) -> tuple[int, dict, str]:  # type: ignore[type-arg]
    target, report = folder / "demo.json", folder / "sub" / "report.html"
    sizes = ["--images", "2", "--golden-images", "40", "--quiet"]
    files = ["--json", str(target), "--report", str(report)]
    status = main(["demo", *sizes, *files, "--device", "machine", "--clock-mhz", "50", *more])
    return status, json.loads(target.read_text()), report.read_text()


def test_what_it_prints_and_writes_agrees(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, figures, report = run(tmp_path)
    printed = capsys.readouterr().out
    assert status == 0
    assert set(figures) >= KEYS
    assert (figures["images_golden"], figures["images_simulated"], figures["integers_differing"]) == (40, 2, 0)
    # Per image: input 1 x 28 x 28; 32 x 28 x 28 twice; 32 x 14 x 14; 64 x 14 x 14 twice; 64 x 7 x 7; 128 x 7 x 7; 10.
    counts = 28 * 28 * (1 + 32 + 32) + 14 * 14 * (32 + 64 + 64) + 7 * 7 * (64 + 128) + 10
    assert figures["integers_compared"] == 2 * counts
    assert f"0 of {2 * counts:,} integers differ" in printed
    assert figures["float_accuracy"] > 0.8 and figures["accuracy_t1"] > 0.8 and figures["accuracy_t2"] > 0.8
    assert f"{100 * figures['accuracy_t1']:.2f} %" in printed
    assert [layer["name"] for layer in figures["layers"]] == [
        "conv1", "conv2", "pool1", "conv3", "conv4", "pool2", "conv5", "classifier"
    ]  # fmt: skip
    for layer in figures["layers"]:
        assert 0 < layer["density"] < 1
        assert 0 < layer["utilization"] <= 1
        assert layer["utilization"] == pytest.approx(layer["events"] / (8 * layer["cycles"]))
        assert layer["lanes_used"] == (10 / 16 if layer["name"] == "classifier" else 1)
    assert figures["cycles_per_image"] == pytest.approx(sum(layer["cycles"] for layer in figures["layers"]))
    assert figures["images_per_second"] == pytest.approx(50e6 / figures["cycles_per_image"])
    assert re.search(r"images a second at 50 MHz", printed)
    assert str(tmp_path / "sub" / "report.html") in printed
    checker = Checker()
    checker.feed(report)
    assert (checker.open, checker.pictures) == ([], 3)
    assert f"{2 * counts:,}" in report


def test_a_differing_integer_fails_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One count of the device is altered on its way."""
    opened = demonstration.open_device

    def faulty(url: str, configuration: object) -> object:
        device = opened(url, configuration)  # type: ignore[arg-type]
        if url == "machine":
            infer = device.infer

            def altered(*arguments: object, **options: object) -> Result:
                result = infer(*arguments, **options)  # type: ignore[arg-type]
                assert result.counts is not None
                result.counts["conv3"][1, 0, 5, 3, 2] += 1
                return result

            monkeypatch.setattr(device, "infer", altered)
        return device

    monkeypatch.setattr(demonstration, "open_device", faulty)
    status, figures, report = run(tmp_path)
    assert status == 1
    assert figures["integers_differing"] == 1
    assert "layer &#39;conv3&#39;, image 1, timestep 0, position (3, 2), channel 5" in report


def test_density_is_that_of_the_input() -> None:
    """A pooling layer before a convolution has another density than its own input."""
    program = compile(convert(checkpoint.load_finetuned(Options())), LARGE)
    images = np.random.default_rng(0).integers(0, 256, (2, 28, 28), np.uint8)
    with open_device("golden", LARGE) as device:
        device.load(program)
        counts = device.infer(images, trace=True).counts
    assert counts is not None
    assert input_density(program, "conv3", counts) == np.mean(counts["pool1"] != 0)
    assert input_density(program, "pool1", counts) == np.mean(counts["conv2"] != 0)
