"""The trained networks that benchmarks measure: checkpoints of `polyspike train`, and their data sets."""

import dataclasses
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from polyspike.convert import demo
from polyspike.convert.datasets import Dataset, load
from polyspike.convert.float_training import Trained, load_trained, normalized
from polyspike.convert.training import predict
from polyspike.spec import PolyspikeError

ROOT = Path(__file__).resolve().parents[1]
#: The CIFAR-10 files.
SHARED = Path(os.environ.get("POLYSPIKE_SHARED_DATA", ROOT.parent / "shared" / "data"))
#: Where checkpoints are looked for, the committed ones first.
FOLDERS = [ROOT / "benchmarks" / "checkpoints", ROOT / "build" / "networks"]

#: Training images that conversions are calibrated with.
CALIBRATION_IMAGES = 512


@dataclasses.dataclass(frozen=True, eq=False)
class Subject:
    """A trained network, and the images it is measured with."""

    name: str
    trained: Trained
    training: Dataset
    test: Dataset

    def float_accuracy(self, images: int) -> float:
        """Return the float network's accuracy on the first test images."""
        trained, test = self.trained, self.test.first(images)
        classes = predict(trained.model, normalized(test.images, trained.mean, trained.std))
        return round(float((classes == test.labels).mean()), 4)


def subjects(chosen: Sequence[str] | None = None, folders: Sequence[Path] = FOLDERS) -> Iterator[Subject]:
    """Yield the trained networks there are checkpoints and data for."""
    demo_manifest = {"dataset": "Fashion-MNIST", "mean": [0.0], "std": [1.0]}
    found: dict[str, Trained] = {"demo": Trained(demo.load_float(), demo_manifest)}
    for folder in folders:
        for path in sorted(folder.glob("*.safetensors")):
            trained = load_trained(path)
            found.setdefault(trained.manifest["network"], trained)
    for name, trained in found.items():
        if chosen and name not in chosen:
            continue
        dataset = "fashion-mnist" if trained.manifest["dataset"] == "Fashion-MNIST" else "cifar10"
        try:
            training, test = (
                load(dataset, split, SHARED if dataset == "cifar10" else None) for split in ("train", "test")
            )
        except PolyspikeError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
            continue
        yield Subject(name, trained, training, test)
