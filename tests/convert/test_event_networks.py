"""Networks for events: calibrated, fine-tuned and converted with other counts at every timestep."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from golden import naive
from polyspike.convert import Options, Schedule, calibrate, convert, event_demo, finetune, to_network, train_events
from polyspike.convert.datasets import FASHION_MNIST_FOLDER, fashion_mnist
from polyspike.convert.models import MeanOverBins
from polyspike.convert.training import predict, train
from polyspike.golden import run
from polyspike.network import CountRange, membrane_ranges, quantize
from polyspike.spec import ConversionError, InputError

BINS = 4
OPTIONS = Options(timesteps=BINS, counts=CountRange(0, 15, 4))


def task(number, seed):
    """A bar that moves over 6 x 6 pixels, ON events in front of it and OFF events behind: up, down, left or right."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 4, number)
    counts = random.integers(0, 4, (number, BINS, 2, 6, 6)).astype(np.uint8)
    for events, label in zip(counts, labels, strict=True):
        for step in range(BINS):
            at = 1 + step if label % 2 else BINS - step
            for polarity, place in ((1, at), (0, at - 1 if label % 2 else at + 1)):
                line = random.integers(0, 6, 6)
                if label < 2:
                    events[step, polarity, place] += line.astype(np.uint8)
                else:
                    events[step, polarity, :, place] += line.astype(np.uint8)
    return counts, labels


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(32, 4)
    )
    schedule = Schedule(epochs=4, rate=0.1, batch=32, flip=False, shift=1, bfloat16=False)
    train(MeanOverBins(net), *task(512, 0), train_events.counts, schedule, progress=False)
    return net


def accuracy(model, events, labels):
    return (predict(model, model.prepare(events)) == labels).mean()


def test_the_integers_are_what_was_calibrated(trained):
    events, _ = task(256, 0)
    quantized = calibrate(trained, events, OPTIONS)
    network = to_network(quantized, "bars")
    assert (network.input.bins, network.input.counts) == (BINS, CountRange(0, 15, 4))
    some = events[:20]
    membranes = run(network, quantize(network.input, some)).membranes
    for index in range(2):
        wanted = naive.execute(network, quantize(network.input, some)[index], BINS)[1]
        assert np.array_equal(membranes[index], wanted)
    logits = membranes[..., 0, 0] * network.output.scale / BINS
    with torch.no_grad():
        error = np.abs(logits - quantized(quantized.prepare(some)).numpy())
    # In floating point a sum that is a whole number of steps and a half may come to lie on the other side.
    assert (error.max(1) < 1e-4).mean() >= 0.8
    assert error.max() < 0.1


def test_the_float_network_is_the_mean_over_bins(trained):
    events, labels = task(64, 1)
    quantized = calibrate(trained, events, OPTIONS)
    with torch.no_grad():
        wanted = MeanOverBins(trained.eval())(train_events.counts(events))
        assert torch.allclose(quantized.network.logits(quantized.prepare(events)), wanted, atol=1e-4)
    assert (wanted.argmax(1).numpy() == labels).mean() > 0.9


def test_finetuning_on_events(trained):
    events, labels = task(512, 0)
    test = task(256, 2)
    coarse = OPTIONS.replace(counts=CountRange(0, 1, 4))
    quantized = calibrate(trained, events[:64], coarse)
    schedule = Schedule(epochs=3, rate=0.02, batch=32, flip=False, clip=1.0, bfloat16=False)
    tuned = finetune(quantized, events, labels, schedule, distill=False, progress=False)
    before, after = accuracy(quantized, *test), accuracy(tuned, *test)
    assert after > before + 0.02, (before, after)
    network = to_network(tuned, "bars")
    membranes = run(network, quantize(network.input, test[0])).membranes
    assert ((membranes[..., 0, 0] * network.output.scale).argmax(1) == test[1]).mean() == pytest.approx(after, abs=0.02)
    # Membranes go on from bin to bin: other orders of the same bins give other results.
    other = run(network, quantize(network.input, test[0][:, ::-1])).membranes
    assert (other != membranes).any()


def test_equal_bins_are_an_image(trained):
    """The same network, made for images, computes the same of counts that do not vary."""
    image = np.random.default_rng(0).integers(0, 16, (5, 2, 6, 6)).astype(np.uint8)
    events = image[:, None].repeat(BINS, 1)
    of_events = convert(trained, events, OPTIONS)
    # An image's pixels are 8-bit counts in units of 1 / 255.
    weight = trained[0].weight.data.clone()
    trained[0].weight.data *= 255
    try:
        of_images = convert(trained, image, OPTIONS)
    finally:
        trained[0].weight.data = weight
    wanted = run(of_images, quantize(of_images.input, image)).membranes
    got = run(of_events, quantize(of_events.input, events)).membranes
    scales = of_images.output.scale, of_events.output.scale
    assert np.allclose(got[..., 0, 0] * scales[1], wanted[..., 0, 0] * scales[0], rtol=0.05, atol=0.1)


def test_what_does_not_fit_is_refused(trained):
    events, labels = task(64, 0)
    with pytest.raises(ConversionError, match="events in 4 bins, one for each timestep, but timesteps is 1; make it 4"):
        calibrate(trained, events)
    for normalization in ({"mean": (0.5,)}, {"std": (2.0,)}):
        with pytest.raises(ConversionError, match="sees counts of events as they are"):
            calibrate(trained, events, OPTIONS.replace(**normalization))
    quantized = calibrate(trained, events, OPTIONS)
    for wrong in (events[:, :2], events[:, 0], events[..., 1:]):
        with pytest.raises(InputError, match=r"the network takes \[batch, 4, 2, 6, 6\]"):
            quantized.prepare(wrong)
    schedule = Schedule(epochs=1, rate=0.01, batch=32, flip=False)
    with pytest.raises(ConversionError, match="events in 4 bins do not make 2 timesteps"):
        finetune(quantized, events, labels, schedule, timesteps=(2,), distill=False, progress=False)


# The committed network

needs_images = pytest.mark.skipif(
    not FASHION_MNIST_FOLDER.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed"
)


def test_manifest_keeps_the_promise():
    manifest = event_demo.manifest()
    assert "simulated events" in manifest["data"]
    assert manifest["test_images"] == 10_000
    assert manifest["accuracy"]["finetuned"] >= 0.85


@needs_images
def test_committed_network():
    test = event_demo.simulated_events("test", 300)
    network = to_network(event_demo.load_finetuned(), "events", test.classes)
    assert max(int(ranges.bits().max()) for ranges in membrane_ranges(network).values()) <= 24
    membranes = run(network, quantize(network.input, test.images)).membranes[..., 0, 0]
    right = ((membranes * network.output.scale).argmax(1) == test.labels).mean()
    assert right == pytest.approx(event_demo.manifest()["accuracy"]["finetuned"], abs=0.05)


@needs_images
def test_training_command(tmp_path, capsys, monkeypatch):
    small = fashion_mnist("test").first(256)
    monkeypatch.setattr(event_demo, "fashion_mnist", lambda split: small)
    arguments = ["--epochs", "1", "--finetune-epochs", "1", "--images", "128", "--test-images", "20"]
    train_events.main([*arguments, "--output", str(tmp_path / "out"), "--work", str(tmp_path / "work")])
    assert "fine-tuned:" in capsys.readouterr().out
    written = json.loads((tmp_path / "out" / event_demo.MANIFEST).read_text())
    assert written["training_images"] == 128 and 0 <= written["accuracy"]["finetuned"] <= 1
    assert isinstance(event_demo.load_finetuned(tmp_path / "out"), nn.Module)
