"""The training loop that training from scratch and fine-tuning share. One thread trains fastest on small networks."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from polyspike.spec import InputError

from .sparsity import Watch

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How to train: stochastic gradient descent with Nesterov momentum, one cycle of warm-up and cosine decay.

    `warmup` is the share of all steps in which the learning rate rises linearly to `rate`. `flip` mirrors half of the
    images, `shift` moves them by up to so many pixels. `clip` limits the norm of a step's gradients. `temperature` is
    what logits are divided by where a teacher is followed (Hinton, Vinyals and Dean, arXiv 1503.02531). `sparsity` is
    the weight of the loss that asks for few activations other than zero; see `sparsity.Watch`.
    """

    epochs: int
    rate: float
    batch: int = 128
    momentum: float = 0.9
    clip: float | None = None
    decay: float = 5e-4
    warmup: float = 0.2
    flip: bool = True
    shift: int = 0
    smoothing: float = 0.0
    temperature: float = 1.0
    sparsity: float = 0.0
    bfloat16: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "rate", "batch", "temperature"):
            if getattr(self, name) <= 0:
                raise InputError(f"{name} of a training schedule must be positive, not {getattr(self, name)}")
        if self.sparsity < 0:
            raise InputError(f"sparsity of a training schedule must not be negative, but it is {self.sparsity}")

    def rate_at(self, progress: float) -> float:
        """Return the learning rate at `progress`, 0..1 of all steps."""
        if progress < self.warmup:
            return self.rate * progress / self.warmup
        return self.rate * 0.5 * (1 + float(np.cos(np.pi * (progress - self.warmup) / (1 - self.warmup))))


def train(
    model: nn.Module,
    images: Images,
    labels: Labels,
    prepare: Callable[[Images], Tensor],
    schedule: Schedule,
    *,
    teacher: Callable[[Tensor], Tensor] | None = None,
    forward: Callable[[Tensor, int], Tensor] | None = None,
    groups: list[dict[str, Any]] | None = None,
    resume: Path | None = None,
    progress: bool = True,
    label: str = "train",
) -> None:
    """Train `model` in place.

    Parameters
    ----------
    model
        Maps what `prepare` returns to logits [batch, classes].
    images, labels
        uint8 [number, channels, height, width], or events [number, timesteps, channels, height, width]; int64 [number].
    prepare
        Turns a batch of images into the model's input.
    schedule
        How to train.
    teacher
        A network whose logits the model also follows (distillation, equal parts).
    forward
        What computes the logits from the model's parameters, given the input and the number of the step in its epoch;
        the model itself when absent.
    groups
        Parameter groups of the optimizer; all parameters when absent.
    resume
        A safetensors file that keeps the state after every epoch; training continues from it when it exists.
    progress
        Show a progress bar.
    label
        What the progress bar is called.
    """
    if len(images) != len(labels) or len(images) < schedule.batch:
        raise InputError(f"{len(images)} images and {len(labels)} labels do not make a batch of {schedule.batch}")
    optimizer = torch.optim.SGD(
        groups if groups is not None else model.parameters(),
        lr=schedule.rate,
        momentum=schedule.momentum,
        weight_decay=schedule.decay,
        nesterov=True,
    )
    scales = [group["lr"] / schedule.rate for group in optimizer.param_groups]
    first = _restore(resume, model, optimizer) if resume is not None else 0
    steps = len(images) // schedule.batch
    events = Watch(model) if schedule.sparsity else None
    for epoch in range(first, schedule.epochs):
        # Seeding each epoch by its number makes a resumed run equal to an uninterrupted one.
        random = np.random.default_rng((schedule.seed, epoch))
        order = random.permutation(len(images))
        model.train()
        total = 0.0
        bar = tqdm(range(steps), desc=f"{label} {epoch + 1}/{schedule.epochs}", disable=not progress, mininterval=1.0)
        for step in bar:
            rate = schedule.rate_at((epoch * steps + step) / (schedule.epochs * steps))
            for group, scale in zip(optimizer.param_groups, scales, strict=True):
                group["lr"] = rate * scale
            chosen = order[step * schedule.batch : (step + 1) * schedule.batch]
            x = prepare(augment(images[chosen], random, schedule.flip, schedule.shift))
            if x.ndim == 4:
                x = x.contiguous(memory_format=torch.channels_last)
            y = torch.from_numpy(labels[chosen])
            with torch.autocast("cpu", torch.bfloat16, enabled=schedule.bfloat16):
                logits = (model(x) if forward is None else forward(x, step)).float()
                loss = F.cross_entropy(logits, y, label_smoothing=schedule.smoothing)
                if teacher is not None:
                    loss = 0.5 * loss + 0.5 * _distillation(logits, teacher, x, schedule.temperature)
            if events is not None:
                loss = loss + schedule.sparsity * events.take()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            if schedule.clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), schedule.clip)
            optimizer.step()
            total += loss.item()
            bar.set_postfix(loss=f"{total / (step + 1):.3f}")
        if resume is not None:
            _keep(resume, model, optimizer, epoch + 1)
    if events is not None:
        events.stop()
    model.eval()


def _distillation(logits: Tensor, teacher: Callable[[Tensor], Tensor], x: Tensor, temperature: float) -> Tensor:
    """Return the loss against a teacher's softened classes; its gradients keep their size at any temperature."""
    with torch.no_grad():
        wanted = F.softmax(teacher(x).float() / temperature, 1)
    return F.cross_entropy(logits / temperature, wanted) * temperature**2


def augment(images: Images, random: np.random.Generator, flip: bool, shift: int) -> Images:
    """Mirror half of the images and move each by up to `shift` pixels; what comes in from outside is zero."""
    images = images.copy()
    if flip:
        mirrored = random.random(len(images)) < 0.5
        images[mirrored] = images[mirrored][..., ::-1]
    if shift:
        height, width = images.shape[-2:]
        padded = np.pad(images, (*[(0, 0)] * (images.ndim - 2), (shift, shift), (shift, shift)))
        for index, (y, x) in enumerate(random.integers(0, 2 * shift + 1, (len(images), 2))):
            images[index] = padded[index, ..., y : y + height, x : x + width]
    return images


@torch.no_grad()
def predict(model: Callable[[Tensor], Tensor], inputs: Tensor, batch: int = 500) -> NDArray[np.int64]:
    """Return the class with the largest logit for each input, int64 [number]."""
    classes = [model(inputs[at : at + batch]).argmax(1) for at in range(0, len(inputs), batch)]
    return torch.cat(classes).numpy()


def accuracy(model: Callable[[Tensor], Tensor], inputs: Tensor, labels: Labels) -> float:
    """Return the share of inputs whose largest logit is that of their label."""
    return float((predict(model, inputs) == labels).mean())


def _keep(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, epochs: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        if state.get("momentum_buffer") is not None:
            tensors[f"momentum.{index}"] = state["momentum_buffer"]
    tensors = {name: value.detach().contiguous().clone() for name, value in tensors.items()}
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata={"epochs": str(epochs)})
    partial.replace(path)


def _restore(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    if not path.is_file():
        return 0
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        epochs = int(file.metadata()["epochs"])
    model.load_state_dict({n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")})
    state = optimizer.state_dict()
    state["state"] = {
        int(name.removeprefix("momentum.")): {"momentum_buffer": tensor}
        for name, tensor in tensors.items()
        if name.startswith("momentum.")
    }
    optimizer.load_state_dict(state)
    return epochs
