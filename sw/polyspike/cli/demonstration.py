"""What the demo does and measures."""

import dataclasses
import sys
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from polyspike.compiler import Program, compile
from polyspike.convert import Options, convert
from polyspike.convert import demo as checkpoint
from polyspike.convert.datasets import Dataset, fashion_mnist
from polyspike.convert.train_demo import CALIBRATION_IMAGES, pixels
from polyspike.convert.training import predict
from polyspike.driver import Comparison, Result, compare, open_device
from polyspike.network import Network
from polyspike.spec import Configuration

from .figures import LayerFigures, figures, figures_table
from .text import number, percent, table


@dataclasses.dataclass(frozen=True, eq=False)
class Demonstration:
    """What the demo has found out. Accuracies are fractions, of `golden_images` test images each."""

    program: Program
    float_accuracy: float
    #: one timestep, ranges from calibration images alone
    accuracy_t1_calibrated: float
    #: one and two timesteps, after fine-tuning with the quantizer in the loop
    accuracy_t1: float
    accuracy_t2: float
    golden_images: int
    #: accuracy of the simulated gateware on the images it ran
    accuracy_device: float
    device: str
    clock_mhz: float
    #: the simulated images, what the gateware made of them, and how that compares with the golden model
    images: Dataset
    result: Result
    comparison: Comparison
    layers: tuple[LayerFigures, ...]
    #: wall time of the golden model for all its images, and of the simulation
    golden_seconds: float
    device_seconds: float

    @property
    def configuration(self) -> Configuration:
        """The hardware."""
        return self.program.configuration

    @property
    def cycles_per_image(self) -> float:
        """Cycles of the core for one image, while it runs the network."""
        return sum(layer.cycles for layer in self.layers)

    @property
    def images_per_second(self) -> float:
        """What the core's cycles allow at the stated clock."""
        return self.clock_mhz * 1e6 / max(1.0, self.cycles_per_image)

    @property
    def accuracies(self) -> tuple[tuple[str, float], ...]:
        """The table of accuracies."""
        return (
            ("float network", self.float_accuracy),
            ("converted, T = 1, calibration alone", self.accuracy_t1_calibrated),
            ("converted, T = 1, fine-tuned", self.accuracy_t1),
            ("converted, T = 2, fine-tuned", self.accuracy_t2),
        )

    @property
    def verdict(self) -> str:
        """The comparison in one line."""
        text = f"{number(self.comparison.differing)} of {number(self.comparison.compared)} integers differ"
        return text if self.comparison.first is None else f"{text}; the first: {self.comparison.first}"

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain values for JSON."""
        return {
            "network": self.program.network.name,
            "configuration": self.configuration.name,
            "device": self.device,
            "float_accuracy": self.float_accuracy,
            "accuracy_t1_calibrated": self.accuracy_t1_calibrated,
            "accuracy_t1": self.accuracy_t1,
            "accuracy_t2": self.accuracy_t2,
            "accuracy_simulated": self.accuracy_device,
            "images_golden": self.golden_images,
            "images_simulated": len(self.images),
            "integers_compared": self.comparison.compared,
            "integers_differing": self.comparison.differing,
            "cycles_per_image": self.cycles_per_image,
            "clock_mhz": self.clock_mhz,
            "images_per_second": self.images_per_second,
            "golden_seconds": self.golden_seconds,
            "device_seconds": self.device_seconds,
            "layers": [layer.to_dict() for layer in self.layers],
        }

    def text(self) -> str:
        """Return what the demo prints."""
        rows = [
            (name, percent(value, 2), f"{100 * (value - self.float_accuracy):+.2f}" if index else "")
            for index, (name, value) in enumerate(self.accuracies)
        ]
        configuration = self.configuration
        return "\n".join(
            [
                f"Accuracy on {number(self.golden_images)} test images of Fashion-MNIST (golden model)",
                "",
                table(("network", "accuracy", "points"), rows),
                "",
                f"Layers at T = 1 on {configuration.name!r} ({configuration.columns} columns of {configuration.lanes} "
                f"lanes), averages of {number(len(self.images))} images",
                "",
                figures_table(self.layers, configuration),
                "",
                "events: cycles in which a column added a nonzero count to its lanes; density: nonzero counts in the "
                "layer's input;",
                "utilization: events / (cycles x columns); lanes used: those of a tile that stand for a channel",
                "",
                f"{number(round(self.cycles_per_image))} cycles an image, {number(round(self.images_per_second))} "
                f"images a second at {self.clock_mhz:g} MHz (simulated core rate, without the link)",
                f"device {self.device!r} against the golden model, every layer of {number(len(self.images))} images: "
                f"{self.verdict}",
            ]
        )


def demonstrate(
    configuration: Configuration, *, device: str, simulated: int, golden: int, clock_mhz: float, progress: bool
) -> Demonstration:
    """Convert, compile and run the demo network.

    Parameters
    ----------
    configuration
        The hardware.
    device
        Where the first `simulated` test images are run, every count traced.
    golden
        How many test images run on the golden model.
    clock_mhz
        The clock for which a rate is stated.
    progress
        Say on the standard error output what is being done, with progress bars.
    """

    def say(text: str) -> None:
        if progress:
            print(f"· {text}", file=sys.stderr, flush=True)

    test = fashion_mnist("test").first(golden)
    model = checkpoint.load_float()
    say(f"float network on {number(len(test))} images")
    float_accuracy = _accuracy(predict(model, pixels(test.images)), test)

    say(f"calibrating on {number(CALIBRATION_IMAGES)} training images")
    training = fashion_mnist("train").first(CALIBRATION_IMAGES)
    calibrated = convert(model, training.images, name="demo", classes=test.classes, progress=progress)
    tuned = [
        convert(checkpoint.load_finetuned(Options(timesteps=steps)), name="demo", classes=test.classes)
        for steps in (1, 2)
    ]

    accuracies, seconds = [], 0.0
    for what, network in (
        ("T = 1, calibration alone", calibrated),
        ("T = 1, fine-tuned", tuned[0]),
        ("T = 2, fine-tuned", tuned[1]),
    ):
        say(f"golden model on {number(len(test))} images, {what}")
        start = time.perf_counter()
        accuracies.append(_accuracy(_golden(network, configuration, test.images, progress), test))
        if network is tuned[0]:
            seconds = time.perf_counter() - start

    program = compile(tuned[0], configuration)
    some = test.first(simulated)
    say(f"device {device!r} on {number(len(some))} images, every count of every layer read back")
    with open_device(device, configuration) as opened:
        opened.load(program)
        start = time.perf_counter()
        result = opened.infer(some.images, progress=progress, trace=True, profile=True)
        device_seconds = time.perf_counter() - start
    say("the same images on the golden model")
    with open_device("golden", configuration) as reference:
        reference.load(program)
        comparison = compare(result, reference.infer(some.images, progress=progress, trace=True))

    return Demonstration(
        program=program,
        float_accuracy=float_accuracy,
        accuracy_t1_calibrated=accuracies[0],
        accuracy_t1=accuracies[1],
        accuracy_t2=accuracies[2],
        golden_images=len(test),
        accuracy_device=_accuracy(result.predictions, some),
        device=device,
        clock_mhz=clock_mhz,
        images=some,
        result=result,
        comparison=comparison,
        layers=figures(program, result),
        golden_seconds=seconds,
        device_seconds=device_seconds,
    )


def _golden(
    network: Network, configuration: Configuration, images: NDArray[np.uint8], progress: bool
) -> NDArray[np.int64]:
    with open_device("golden", configuration) as device:
        device.load(compile(network, configuration))
        return device.infer(images, progress=progress).predictions


def _accuracy(predictions: NDArray[np.int64], data: Dataset) -> float:
    return float(np.mean(predictions == data.labels))
