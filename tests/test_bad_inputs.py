"""What a user can get wrong, from the outside: the `polyspike` command says it in one line and ends with status 1.

The parts have tests of their own for these messages; here they come through from whichever part finds the mistake.
"""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from golden.networks import a_layer, an_input, dense
from polyspike.cli.main import main
from polyspike.driver import open_device
from polyspike.network import CountRange, MaxPool, Network, save
from polyspike.network.file import KIND, VERSION, to_header, write_tensors
from polyspike.spec import LARGE, TINY, DeviceError

BUILDER = """
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
sigmoid = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Sigmoid(), nn.Flatten(), nn.Linear(64, 3))
pooled = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 3))
"""

IMAGES = np.random.default_rng(0).integers(0, 256, (8, 1, 4, 4)).astype(np.uint8)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which everything is right: builder, images, network and a program for `large`."""
    folder = tmp_path_factory.mktemp("sound")
    (folder / "net.py").write_text(BUILDER)
    np.save(folder / "images.npy", IMAGES)
    assert main(["convert", str(folder / "net.py"), "--images", str(folder / "images.npy")]) == 0
    assert main(["compile", str(folder / "net.psnn"), "--config", "large"]) == 0
    return folder


@pytest.fixture
def refuse(capsys: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """Run a command that must fail, and compare what it says."""

    def run(message: str, *arguments: object) -> None:
        capsys.readouterr()
        status = main([str(each) for each in arguments])
        error = capsys.readouterr().err
        assert status == 1
        assert re.fullmatch(rf"polyspike: error: .*{message}.*\n", error), error

    return run


def test_what_is_right_runs(sound: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ["run", str(sound / "net.pspk"), str(sound / "images.npy"), "--device", "machine", "--verify", "--quiet"]
    assert main(run) == 0
    out = capsys.readouterr().out
    # Input, counts and membranes of eight images.
    assert f" 0 of {8 * (16 + 64 + 3)} integers differ" in out


@pytest.mark.parametrize("device", ["golden", "machine"])
@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES[:, :, 1:], r"images have shape \(8, 1, 3, 4\), but the network takes \[batch, 1, 4, 4\]"),
        (np.repeat(IMAGES, 3, 1), r"images have shape \(8, 3, 4, 4\), but the network takes \[batch, 1, 4, 4\]"),
        (IMAGES / np.float32(255), r"uint8.*float32"),
        (IMAGES.astype(np.int64), r"uint8.*int64"),
    ],
    ids=["rows", "channels", "float32", "int64"],
)
def test_wrong_images(sound: Path, tmp_path: Path, refuse, device: str, images: np.ndarray, message: str) -> None:
    np.save(tmp_path / "images.npy", images)
    refuse(message, "run", sound / "net.pspk", tmp_path / "images.npy", "--device", device, "--quiet")


@pytest.mark.parametrize("url", ["golden", "machine"])
def test_a_program_file_for_another_configuration(sound: Path, url: str) -> None:
    with open_device(url, "tiny") as device:
        message = rf"is for configuration 'large' \(digest {LARGE.digest}\).*'tiny' \(digest {TINY.digest}"
        with pytest.raises(DeviceError, match=message):
            device.load(sound / "net.pspk")


def test_damaged_program_files(sound: Path, tmp_path: Path, refuse) -> None:
    data = (sound / "net.pspk").read_bytes()
    bad = tmp_path / "bad.pspk"
    bad.write_bytes(data[:-100])
    for arguments in (["run", bad, sound / "images.npy", "--device", "golden"], ["info", bad]):
        refuse(r"bad\.pspk: not a readable safetensors file, or truncated", *arguments)
    # In the last array, and in the description.
    for old, new in ((data[-40:], bytes(40)), (b'\\"lanes\\": 16', b'\\"lanes\\":  8')):
        assert data.count(old) == 1
        bad.write_bytes(data.replace(old, new))
        refuse(r"bad\.pspk: .*the file was altered or damaged", "info", bad)


def test_files_of_another_kind(sound: Path, refuse) -> None:
    network, program, images = sound / "net.psnn", sound / "net.pspk", sound / "images.npy"
    refuse("holds 'polyspike network', but a 'polyspike program' file is needed", "run", network, images)
    refuse("holds 'polyspike program', but a 'polyspike network' file is needed", "compile", program)
    refuse("not a readable safetensors file", "compile", images)
    refuse(r"gone\.psnn: no such file", "compile", sound / "gone.psnn")


def test_an_unsupported_layer(sound: Path, refuse) -> None:
    message = r"'1'.*Sigmoid.*Conv2d.*Linear"
    refuse(message, "convert", f"{sound / 'net.py'}:sigmoid", "--images", sound / "images.npy")


def test_a_membrane_that_would_overflow(tmp_path: Path, refuse) -> None:
    weight = np.full((3, 400), 1)
    weight[1] = 127
    nodes = (
        an_input((400, 1, 1)),
        a_layer("deep", (3, 1, 1), (dense("input", weight),), CountRange(0, 15, 4)),
        a_layer("output", (1, 1, 1), (dense("deep", [[1, 1, 1]]),)),
    )
    save(Network("wide", 1, nodes), tmp_path / "wide.psnn")
    reach = 127 * 255 * 400
    assert reach.bit_length() == 24
    refuse(
        rf"layer 'deep', channel 1: the membrane can reach a magnitude of {reach}, which needs 25 bits; "
        r"configuration 'tiny' has 24\. Membranes of 25 bits would fit",
        "compile",
        tmp_path / "wide.psnn",
        "--config",
        "tiny",
    )


def test_max_pooling_over_timesteps(sound: Path, tmp_path: Path, refuse) -> None:
    message = r"max pooling.*exact at T = 1 only.*T = 2"
    refuse(message, "convert", f"{sound / 'net.py'}:pooled", "--images", sound / "images.npy", "--timesteps", "2")
    # No library call writes such a file, and none reads it.
    nodes = (
        an_input((1, 2, 2)),
        MaxPool("pool", (1, 1, 1), "input", (2, 2), (2, 2)),
        a_layer("output", (1, 1, 1), (dense("pool", [[1]]),)),
    )
    write_tensors(tmp_path / "pooled.psnn", KIND, VERSION, *to_header(Network("pooled", 2, nodes)))
    refuse(f"layer 'pool': {message}", "compile", tmp_path / "pooled.psnn")
