"""Train the network for events: `python -m polyspike.convert.train_events` (`make train-events`).

Simulates events from Fashion-MNIST's images, trains `EventNet` on single bins, its logits averaged over the bins,
calibrates it, and fine-tunes it as a spiking network whose membranes go on from bin to bin. Writes the checkpoint with
a manifest. One thread, some minutes. Interrupted, it continues after the last finished epoch.
"""

import argparse
import dataclasses
import json
from pathlib import Path

import torch
from torch import Tensor

from .calibration import calibrate
from .datasets import Dataset
from .demo import CHECKPOINTS
from .event_demo import BINS, CHECKPOINT, MANIFEST, OPTIONS, SACCADES, simulated_events
from .finetuning import finetune
from .loading import save_state
from .models import EventNet, MeanOverBins
from .quantized import QuantizedModel
from .training import Images, Schedule, accuracy, train

CALIBRATION_IMAGES = 512


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m polyspike.convert.train_events", description=__doc__)
    parser.add_argument("--images", type=int, default=10_000, help="training images (default %(default)s)")
    parser.add_argument("--test-images", type=int, default=10_000, help="test images (default %(default)s)")
    parser.add_argument("--epochs", type=int, default=3, help="epochs in floating point (default %(default)s)")
    parser.add_argument("--finetune-epochs", type=int, default=3, help="epochs of fine-tuning (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and order")
    parser.add_argument("--output", type=Path, default=CHECKPOINTS, help="folder of the checkpoint")
    parser.add_argument(
        "--work", type=Path, default=Path("build/train-events"), help="folder of the state to resume from"
    )
    run(parser.parse_args(arguments))


def run(chosen: argparse.Namespace) -> None:
    """Train, calibrate, fine-tune, and write checkpoint and manifest."""
    torch.set_num_threads(1)
    training = simulated_events("train", chosen.images, progress=True)
    test = simulated_events("test", chosen.test_images, progress=True)
    float_schedule = Schedule(epochs=chosen.epochs, rate=0.1, flip=False, bfloat16=False, seed=chosen.seed)
    tuning = Schedule(
        epochs=chosen.finetune_epochs,
        rate=0.02,
        decay=1e-4,
        warmup=0.1,
        clip=1.0,
        flip=False,
        bfloat16=False,
        seed=chosen.seed + 1,
    )
    torch.manual_seed(chosen.seed)
    network = EventNet()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch lacks the type of this form
    model = MeanOverBins(network)
    name = f"{len(training)}-{chosen.epochs}-{chosen.seed}"
    train(
        model,
        training.images,
        training.labels,
        counts,
        float_schedule,
        resume=chosen.work / f"float-{name}.safetensors",
        label="float",
    )
    results = {"float": accuracy(lambda x: model(x.float()), torch.from_numpy(test.images), test.labels)}
    print(f"float network, mean over the bins: {results['float']:.2%} of {len(test)} test images")
    calibrated = calibrate(network, training.first(CALIBRATION_IMAGES).images, OPTIONS)
    results["calibrated"] = _accuracy(calibrated, test)
    print(f"calibrated, membranes going on from bin to bin: {results['calibrated']:.2%}")
    tuned = finetune(
        calibrated,
        training.images,
        training.labels,
        tuning,
        distill=False,
        resume=chosen.work / f"pmsm-{name}-{chosen.finetune_epochs}.safetensors",
    )
    results["finetuned"] = _accuracy(tuned, test)
    print(f"fine-tuned: {results['finetuned']:.2%}")

    chosen.output.mkdir(parents=True, exist_ok=True)
    save_state(tuned, chosen.output / CHECKPOINT)
    manifest = {
        "model": "EventNet",
        "data": test.name,
        "command": (
            f"python -m polyspike.convert.train_events --images {len(training)} --test-images {len(test)} "
            f"--epochs {chosen.epochs} --finetune-epochs {chosen.finetune_epochs} --seed {chosen.seed}"
        ),
        "saccades": dataclasses.asdict(SACCADES),
        "bins": BINS,
        "seed": chosen.seed,
        "training_images": len(training),
        "calibration_images": CALIBRATION_IMAGES,
        "epochs": chosen.epochs,
        "finetune_epochs": chosen.finetune_epochs,
        "test_images": len(test),
        # The integer network's own accuracy is what benchmarks/events.py prints.
        "accuracy_of": "the quantized network in floating point",
        "accuracy": {name: round(value, 4) for name, value in results.items()},
    }
    (chosen.output / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")


def counts(events: Images) -> Tensor:
    """Turn counts of events into the float network's input."""
    return torch.from_numpy(events).float()


def _accuracy(model: QuantizedModel, data: Dataset) -> float:
    # Counts of all samples as floats would take gigabytes.
    return accuracy(lambda x: model(model.prepare(x.numpy())), torch.from_numpy(data.images), data.labels)


if __name__ == "__main__":
    main()
