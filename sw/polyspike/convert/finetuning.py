"""Fine-tuning with the quantizer in the loop: what is trained is what the integer network will compute."""

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .quantized import QuantizedLayer, QuantizedModel
from .training import Schedule, train

#: Two epochs at a low rate: enough for a network that is converted nearly losslessly already.
DEFAULT_SCHEDULE = Schedule(epochs=2, rate=0.003, decay=1e-4, warmup=0.1, clip=1.0)

#: Share of a range that is left of it at least; a single step at a high rate could make it negative.
LEAST_RANGE = 1 / 16

#: How much faster ranges learn than weights: there are few of them, and their gradients are scaled down.
RANGE_RATE = 200.0


def finetune(
    model: QuantizedModel,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    schedule: Schedule = DEFAULT_SCHEDULE,
    *,
    timesteps: Sequence[int] | None = None,
    distill: bool = True,
    resume: Path | None = None,
    progress: bool = True,
) -> QuantizedModel:
    """Train a calibrated model's weights, biases and ranges; return the trained copy.

    Roundings pass gradients straight through, ranges get those of learned step size quantization.

    Parameters
    ----------
    model
        What `calibrate` returned.
    images, labels
        Training images, uint8 [number, channels, height, width], or events [number, timesteps, channels, height,
        width], and their classes, int64 [number].
    schedule
        How to train.
    timesteps
        Numbers of timesteps to train for, in turn by batch, each unrolled; left out, the model's own. Trained for
        (1, 2), one set of weights learns to serve both.
    distill
        Follow the float network's logits as well as the labels.
    resume
        A file that keeps the state after every epoch; fine-tuning continues from it when it exists.
    progress
        Show a progress bar.
    """
    trained = copy.deepcopy(model)
    weights, biases, ranges = [], [], []
    for layer in trained.layers.values():
        assert isinstance(layer, QuantizedLayer)
        weights += [weight for weight in layer.weights if weight.requires_grad]
        biases += [layer.bias] if layer.bias.requires_grad else []
        ranges += [layer.range] if layer.range is not None else []
    least = [LEAST_RANGE * span.detach().clone() for span in ranges]

    steps = tuple(timesteps or (model.options.timesteps,))
    turns = [trained.sharing(model.options.replace(timesteps=number)) for number in steps]

    @torch.no_grad()
    def keep_ranges() -> None:
        for span, limit in zip(ranges, least, strict=True):
            span.clamp_(min=limit)

    def forward(x: Tensor, step: int) -> Tensor:
        keep_ranges()
        logits: Tensor = turns[step % len(turns)](x)
        return logits

    train(
        trained,
        images,
        labels,
        trained.prepare,
        schedule,
        teacher=trained.network.logits if distill else None,
        forward=forward,
        groups=[
            {"params": weights},
            {"params": biases, "weight_decay": 0.0},
            {"params": ranges, "weight_decay": 0.0, "lr": schedule.rate * RANGE_RATE},
        ],
        resume=resume,
        progress=progress,
        label="finetune",
    )
    keep_ranges()
    return trained
