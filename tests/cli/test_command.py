"""The `polyspike` command, from a network of one's own to predictions, and what it says when something is wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from polyspike.cli.main import main
from polyspike.compiler import load_program
from polyspike.convert.methods import METHODS
from polyspike.network import Layer, load
from polyspike.spec import NEURON_FEATURES
from polyspike.spec.configuration import FEATURES

MODEL = """
from torch import nn

def model():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8 * 4 * 4, 3)
    )
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with net.py, its weights, images with labels, and what convert and compile make of them."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "net.py").write_text(MODEL)
    torch.manual_seed(3)
    names: dict[str, object] = {}
    exec(MODEL, names)
    model = names["model"]()  # type: ignore[operator]
    save_file(model.state_dict(), folder / "net.safetensors")
    images = np.random.default_rng(4).integers(0, 256, (12, 8, 8), np.uint8)
    with torch.no_grad():
        labels = model(torch.from_numpy(images)[:, None] / 255).argmax(1).numpy()
    np.savez(folder / "images.npz", images=images, labels=labels)
    (folder / "pngs").mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image).save(folder / "pngs" / f"{index:02}.png")
    weights, calibration = str(folder / "net.safetensors"), str(folder / "images.npz")
    assert main(["convert", str(folder / "net.py"), "--weights", weights, "--images", calibration]) == 0
    assert main(["compile", str(folder / "net.psnn"), "--config", "tiny"]) == 0
    return folder


def test_run_predicts_what_the_float_network_does(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On images the weights were not trained for at that: most predictions of 12 must survive the quantization."""
    result, program = folder / "result.json", str(folder / "net.pspk")
    arguments = ["run", program, str(folder / "images.npz"), "--device", "machine", "--quiet"]
    assert main([*arguments, "--json", str(result), "--verify", "--profile"]) == 0
    printed = capsys.readouterr().out
    written = json.loads(result.read_text())
    assert written["integers_differing"] == 0
    rates = written["rates"]
    assert rates["cycles"] == 12 * rates["cycles_per_image"] > 0
    assert f"core: {round(rates['cycles_per_image']):,} cycles an image\n" in printed
    assert f"end to end: {rates['images_per_second']:.1f} images/s\n" in printed
    # Per image: input 64, convolution 8 x 8 x 8, pooling 8 x 4 x 4, three membranes.
    assert written["integers_compared"] == 12 * (64 + 512 + 128 + 3)
    assert written["accuracy"] >= 0.75
    labels = np.load(folder / "images.npz")["labels"]
    assert written["accuracy"] == pytest.approx(np.mean(np.array(written["predictions"]) == labels))
    assert np.array_equal(np.argmax(written["logits"], axis=1), written["predictions"])
    assert f"accuracy: {100 * written['accuracy']:.2f} % of 12 images" in printed
    assert "0 of 8484 integers differ" in printed


def test_folder_of_images_gives_the_same_predictions(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program, found = str(folder / "net.pspk"), []
    for source in ("pngs", "images.npz"):
        target = folder / f"{source}.json"
        arguments = ["run", program, str(folder / source), "--device", "golden", "--quiet", "--json", str(target)]
        assert main(arguments) == 0
        found.append(json.loads(target.read_text())["predictions"])
    assert found[0] == found[1]
    assert "07.png" in capsys.readouterr().out


def test_counts_are_written(folder: Path) -> None:
    arguments = ["run", str(folder / "net.pspk"), str(folder / "images.npz"), "--device", "golden", "--limit", "5"]
    assert main([*arguments, "--quiet", "--counts", str(folder / "counts.npz")]) == 0
    network = load(folder / "net.psnn")
    with np.load(folder / "counts.npz") as counts:
        assert set(counts.files) == {node.name for node in network.nodes[:-1]}
        for name in counts.files:
            assert counts[name].shape == (5, 1, *network[name].shape)
        assert np.array_equal(counts[network.input.name][:, 0, 0], np.load(folder / "images.npz")["images"][:5])


def test_convert_passes_its_options_on(folder: Path) -> None:
    source = (folder / "net.py").read_text().replace("MaxPool2d", "AvgPool2d").replace("def model", "def other")
    (folder / "nets.py").write_text(source)
    target = folder / "other.psnn"
    arguments = ["convert", f"{folder / 'nets.py'}:other", "--images", str(folder / "images.npz"), "-o", str(target)]
    options = ["--timesteps", "3", "--bits", "8", "--mean", "0.25", "--std", "0.5", "--classes", "cat,dog,bird"]
    options += ["--no-per-channel", "--no-reconstruct", "--weight-bits", "4", "--layer", "0:weights=8,counts=8"]
    assert main([*arguments, *options, "--method", "max"]) == 0
    network = load(target)
    assert network.timesteps == 3
    assert network.classes == ("cat", "dog", "bird")
    assert network.input.mean == (0.25,)
    assert network.input.std == (0.5,)
    first = network.nodes[1]
    assert network.counts(first.name).bits == 8
    assert np.abs(first.synapses[0].weight).max() > 7 >= np.abs(network.output.synapses[0].weight).max()


def test_convert_keeps_budgets(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "small.psnn"
    arguments = ["convert", str(folder / "net.py"), "--weights", str(folder / "net.safetensors")]
    arguments += ["--images", str(folder / "images.npz"), "-o", str(target), "--config", "tiny"]
    # 72 and 384 weights: not all of them can have 8 bits, and not even the output's alone.
    assert main([*arguments, "--weight-bytes", "300", "--cycles", "1000000"]) == 0
    weights = [node.synapses[0].weight for node in load(target).nodes if isinstance(node, Layer)]
    assert sum(weight.size if np.abs(weight).max() > 7 else weight.size // 2 for weight in weights) <= 300
    assert np.abs(weights[1]).max() <= 7
    assert "(4 bit)" in capsys.readouterr().out
    assert "but only 1 are allowed" in error_of(capsys, *arguments, "--cycles", "1")
    for wrong in ("0", "0:weights", "0:thetas=4"):
        with pytest.raises(SystemExit):
            main([*arguments, "--layer", wrong])
        assert "NAME:weights=BITS,counts=BITS" in capsys.readouterr().err


def test_compile_prints_report_and_listing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target, text = folder / "again.pspk", folder / "listing.txt"
    arguments = ["compile", str(folder / "net.psnn"), "--config", "tiny", "-o", str(target), "--report"]
    assert main([*arguments, "--listing", str(text)]) == 0
    printed = capsys.readouterr().out
    assert "residency" in printed
    assert f"{target}: 3 layers for tiny" in printed
    assert "RUN" in text.read_text()
    assert target.read_bytes() == (folder / "net.pspk").read_bytes()


def test_info(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(folder / "net.psnn")]) == 0
    text = capsys.readouterr().out
    assert "conv 3x3" in text and "max 2x2" in text and "linear" in text
    assert "0..15 (4 bit)" in text and "membranes" in text
    assert main(["info", str(folder / "net.pspk")]) == 0
    text = capsys.readouterr().out
    assert "configuration 'tiny': 1 column of 8 lanes" in text and "conv 3x3" in text
    assert main(["info"]) == 0
    assert "weight_depth" in capsys.readouterr().out


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the one line that the command says when it fails."""
    assert main(arguments) == 1
    printed = capsys.readouterr().err
    assert printed.startswith("polyspike: error: ")
    assert printed.count("\n") == 1, printed
    return printed


def test_errors_are_one_line(folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    program, images = str(folder / "net.pspk"), str(folder / "images.npz")
    run = ("run", program, images, "--quiet")
    assert "missing.pspk: no such file" in error_of(capsys, "run", "missing.pspk", images)
    assert "missing.psnn: no such file" in error_of(capsys, "compile", "missing.psnn")
    assert "no such file" in error_of(capsys, "info", "missing.psnn")
    assert "unknown device 'bard'" in error_of(capsys, *run, "--device", "bard")
    assert "no such file or folder" in error_of(capsys, "run", program, "missing.npz")
    assert "polyspike network" in error_of(capsys, "run", str(folder / "net.psnn"), images)
    assert "plain tensors" in error_of(capsys, "info", str(folder / "net.safetensors"))
    np.save(tmp_path / "wide.npy", np.zeros((2, 9, 8), np.uint8))
    wrong = error_of(capsys, "run", program, str(tmp_path / "wide.npy"), "--device", "golden", "--quiet")
    assert "(2, 1, 9, 8)" in wrong and "[batch, 1, 8, 8]" in wrong
    np.save(tmp_path / "labels.npy", np.zeros(3, int))
    assert "3 labels for 12 images" in error_of(capsys, *run, "--labels", str(tmp_path / "labels.npy"))
    assert "directory" in error_of(capsys, *run, "--device", "golden", "--json", str(tmp_path / "no" / "x.json"))
    convert = ("convert", str(folder / "net.py"), "--images", images)
    assert "max pooling" in error_of(capsys, *convert, "--timesteps", "2")
    assert "not.safetensors: no such file" in error_of(capsys, *convert, "--weights", "not.safetensors")


def test_altered_and_truncated_programs_are_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    good = (folder / "net.pspk").read_bytes()
    altered = bytearray(good)
    altered[-20] ^= 1
    for data, message in ((bytes(altered), "does not match its digest"), (good[:-50], "truncated")):
        (tmp_path / "bad.pspk").write_bytes(data)
        assert message in error_of(capsys, "run", str(tmp_path / "bad.pspk"), str(folder / "images.npz"))


def test_wrong_usage_exits_with_two(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = ([], ["fly"], ["run", "x.pspk"], ["run", "x.pspk", "y", "--limit", "0"], ["compile", "--config", "?"])
    for arguments in wrong:
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2
    assert "usage: polyspike" in capsys.readouterr().err


@pytest.mark.parametrize("name", METHODS)
def test_convert_has_the_neurons_of_every_method(folder: Path, tmp_path: Path, name: str) -> None:
    target = tmp_path / "net.psnn"
    arguments = ["convert", str(folder / "net.py"), "--images", str(folder / "images.npz"), "-o", str(target)]
    assert main([*arguments, "--neuron", name]) == 0
    neuron = load(target).nodes[1].neuron
    assert neuron.counts == METHODS[name].options().relu_counts
    assert (neuron.theta_neg is not None) == (name == "ecl")
    assert (neuron.lfsr is not None) == (name == "tpp")
    program = tmp_path / "net.pspk"
    assert main(["compile", str(target), "--config", "tiny", "--neuron", name, "-o", str(program)]) == 0
    configuration = load_program(program).configuration
    assert {feature for feature in FEATURES if getattr(configuration, feature)} == set(NEURON_FEATURES[name])
    # For hardware without what its neurons need there is no program.
    assert main(["compile", str(target), "--config", "tiny", "-o", str(program)]) == bool(NEURON_FEATURES[name])


def test_every_method_says_what_its_neurons_need() -> None:
    assert set(NEURON_FEATURES) == set(METHODS)


def test_convert_says_the_scale_that_was_found(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["convert", str(folder / "net.py"), "--images", str(folder / "images.npz")]
    arguments += ["--weights", str(folder / "net.safetensors")]
    written = []
    for trials in ("0", "5", "5"):
        target = tmp_path / "net.psnn"
        assert main([*arguments, "-o", str(target), "--neuron", "sfn", "--trials", trials, "--seed", "2"]) == 0
        assert ("all ranges times" in capsys.readouterr().out) == (trials == "5")
        written.append(target.read_bytes())
    assert written[1] == written[2]


def test_entropy_of_a_network(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures, plot = tmp_path / "entropy.json", tmp_path / "entropy.svg"
    own = [str(folder / "net.py"), "--weights", str(folder / "net.safetensors"), "--images", str(folder / "images.npz")]
    assert main(["entropy", *own, "--json", str(figures), "--plot", str(plot)]) == 0
    printed = capsys.readouterr().out
    (layer,) = json.loads(figures.read_text())["layers"]
    assert f"{layer['before']:.2f}" in printed and f"{layer['chosen']['passed']:.2f}" in printed
    assert len(layer["sweep"]["shares"]) == len(layer["sweep"]["passed"]) > 50
    drawn = plot.read_text()
    assert "information passed" in drawn and layer["name"] in drawn
    assert main(["entropy", *own, "--plot", str(plot)]) == 0
    assert plot.read_text() == drawn
    assert "name MODEL.py" in error_of(capsys, "entropy", "--images", str(folder / "images.npz"))
    assert "needs --images" in error_of(capsys, "entropy", str(folder / "net.py"))
    assert ".svg" in error_of(capsys, "entropy", *own, "--plot", str(tmp_path / "entropy.bmp"))


@pytest.mark.parametrize("command", ["", "events", "convert", "compile", "run", "info", "demo", "entropy"])
def test_help_has_examples_and_needs_nothing_heavy(command: str) -> None:
    """In an own process, because this one has imported everything already."""
    code = (
        "import sys; from polyspike.cli.main import main\n"
        f"try: main({[*command.split(), '--help']!r})\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        "heavy = {'numpy', 'torch', 'amaranth', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment())
    assert done.returncode == 0, done.stderr
    assert f"polyspike {command}".strip() in done.stdout
    assert "examples:" in done.stdout


def environment() -> dict[str, str]:
    """The environment, with this process's import path."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
