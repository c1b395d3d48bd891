"""Training through the quantizer: gradients, improvement, agreement with the integers, resuming."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from convert import oracle
from polyspike.convert import Options, Schedule, calibrate, finetune, to_network
from polyspike.convert.quantized import _fire
from polyspike.convert.training import augment, predict, train
from polyspike.network import CountRange, quantize
from polyspike.spec import ConversionError, InputError

#: Coarse counts, calibrated by rounding alone: something is left to learn.
COARSE = Options(counts=CountRange(0, 1, 4), method="entropy", per_channel=False, reconstruct=False)
SCHEDULE = Schedule(epochs=6, rate=0.01, batch=32, flip=False, clip=1.0, bfloat16=False)


def task(number, seed):
    """Images of bright quarters; the class is the brightest quarter."""
    random = np.random.default_rng(seed)
    quarters = random.integers(0, 200, (number, 2, 2))
    labels = random.integers(0, 4, number)
    quarters[np.arange(number), labels // 2, labels % 2] += 45
    images = quarters.repeat(3, 1).repeat(3, 2) + random.integers(0, 10, (number, 6, 6))
    labels = quarters.reshape(number, 4).argmax(1)
    return images[:, None].astype(np.uint8), labels.astype(np.int64)


def pixels(images):
    return torch.from_numpy(images).float() / 255


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(128, 4))
    schedule = dataclasses.replace(SCHEDULE, epochs=10, rate=0.05)
    train(model, *task(1024, 0), pixels, schedule, progress=False)
    return model


def accuracy(model, images, labels):
    return (predict(model, model.prepare(images)) == labels).mean()


def test_finetuning_recovers_what_coarse_counts_lose(trained):
    images, labels = task(1024, 0)
    test_images, test_labels = task(512, 1)
    calibrated = calibrate(trained, images[:128], COARSE)
    ranges = {name: layer.range.clone() for name, layer in calibrated.layers.items() if layer.range is not None}
    tuned = finetune(calibrated, images, labels, SCHEDULE, progress=False)
    before, after = accuracy(calibrated, test_images, test_labels), accuracy(tuned, test_images, test_labels)
    assert after > before + 0.01
    for name, value in ranges.items():
        assert torch.equal(calibrated.layers[name].range, value)
        assert not torch.equal(tuned.layers[name].range, value)
    # The integers are what was trained.
    network = to_network(tuned, "tuned")
    chosen = test_images[:40]
    got = oracle.logits(network, quantize(network.input, chosen)).argmax(1)
    assert (got == predict(tuned, tuned.prepare(chosen))).mean() > 0.97


def test_resumed_training_equals_uninterrupted_training(trained, tmp_path):
    images, labels = task(256, 0)
    calibrated = calibrate(trained, images[:64], COARSE)
    schedule = dataclasses.replace(SCHEDULE, epochs=2)
    whole = finetune(calibrated, images, labels, schedule, progress=False, resume=tmp_path / "whole.safetensors")

    class StopTrainingError(Exception):
        pass

    calls = 0
    original = Schedule.rate_at

    def rate_at(self, progress):
        nonlocal calls
        calls += 1
        if calls > 10:
            raise StopTrainingError
        return original(self, progress)

    part = tmp_path / "part.safetensors"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(StopTrainingError):
        patch.setattr(Schedule, "rate_at", rate_at)
        finetune(calibrated, images, labels, schedule, progress=False, resume=part)
    resumed = finetune(calibrated, images, labels, schedule, progress=False, resume=part)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_several_timesteps_are_trained_together(trained):
    images, labels = task(512, 0)
    calibrated = calibrate(trained, images[:64])
    schedule = dataclasses.replace(SCHEDULE, epochs=1)
    tuned = finetune(calibrated, images, labels, schedule, timesteps=(1, 2), progress=False)
    alone = finetune(calibrated, images, labels, schedule, progress=False)
    assert not torch.equal(tuned.layer("4").weights[0], alone.layer("4").weights[0])
    for timesteps in (1, 2):
        assert accuracy(tuned.with_options(Options(timesteps=timesteps)), images, labels) > 0.9


def test_sharing_and_copying(trained):
    model = calibrate(trained, task(64, 0)[0])
    shared, copied = model.sharing(Options(timesteps=2)), model.with_options(Options(timesteps=2))
    with torch.no_grad():
        model.layer("4").bias.fill_(9.0)
    assert (shared.layer("4").bias == 9.0).all() and not (copied.layer("4").bias == 9.0).all()
    assert shared.layer("0").counts.n_neg > 0
    with pytest.raises(ConversionError, match="a matter of calibration"):
        model.with_options(Options(per_channel=False))


def test_two_timesteps_can_be_trained(trained):
    images, labels = task(256, 0)
    options = Options(timesteps=2, counts=CountRange(1, 2, 4))
    tuned = finetune(
        calibrate(trained, images[:64], options),
        images,
        labels,
        dataclasses.replace(SCHEDULE, epochs=1),
        progress=False,
    )
    assert accuracy(tuned, images, labels) > 0.6


def test_gradients_of_a_firing_neuron():
    span = torch.tensor([6.0], requires_grad=True)
    x = torch.tensor([-1.4, 0.4, 2.6, 9.0]).view(1, 4, 1, 1).requires_grad_()
    y = _fire(x, span, 0.0, 3)
    # A step of 2: counts 0 (clipped), 0, 1, 3 (clipped).
    assert y.flatten().tolist() == [0.0, 0.0, 2.0, 6.0]
    y.sum().backward()
    assert x.grad.flatten().tolist() == [0.0, 1.0, 1.0, 0.0]
    by_step = 0 + (0 - 0.2) + (1 - 1.3) + 3
    assert span.grad.item() == pytest.approx(by_step * 3 / (4 * 3) ** 0.5, rel=1e-5)


def test_augmentation():
    random = np.random.default_rng(0)
    images = np.arange(36, dtype=np.uint8).reshape(1, 1, 6, 6).repeat(50, 0)
    flipped = augment(images, random, True, 0)
    mirrored = (flipped == images[:, :, :, ::-1]).all((1, 2, 3))
    assert 10 < mirrored.sum() < 40 and (flipped[~mirrored] == images[~mirrored]).all()
    shifted = augment(images + 1, random, False, 1)
    centers = {int(image[0, 2, 2]) - 1 for image in shifted}
    assert centers == {y * 6 + x for y in (1, 2, 3) for x in (1, 2, 3)}


def test_bad_schedules():
    with pytest.raises(InputError, match="epochs of a training schedule must be positive, not 0"):
        Schedule(epochs=0, rate=0.1)
    with pytest.raises(InputError, match="10 images and 10 labels do not make a batch of 128"):
        train(nn.Identity(), *task(10, 0), pixels, Schedule(epochs=1, rate=0.1), progress=False)
