"""`polyspike events`, and the counts it writes on their way through `convert`, `compile` and `run`."""

from pathlib import Path

import numpy as np
import pytest

from convert import recordings as writers
from convert.test_recordings import recording
from polyspike.cli.main import main
from polyspike.convert.events import bin_events
from polyspike.convert.recordings import read_events
from polyspike.network import load

BUILDER = """
from torch import nn

model = nn.Sequential(nn.Conv2d(2, 8, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 7 * 9, 2))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with recordings in two folders, their counts, and a network for them."""
    folder = tmp_path_factory.mktemp("events")
    for index in range(6):
        place = folder / ("left" if index % 2 else "right")
        place.mkdir(exist_ok=True)
        (place / f"{index}.dat").write_bytes(writers.dat(recording(seed=index)))
    (folder / "net.py").write_text(BUILDER)
    return folder


def events(folder: Path, *arguments: object, recordings: tuple[Path, ...] = ()) -> int:
    paths = recordings or tuple(sorted(folder.glob("*/*.dat")))
    return main(["events", *map(str, paths), "--quiet", *map(str, arguments)])


def test_from_recordings_to_predictions(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = folder / "events.npz"
    picture = folder / "events.png"
    assert events(folder, "--bins", 3, "--size", "16x20", "--labels", "-o", made, "--picture", picture) == 0
    assert "6 recordings, 3 bins of 16 x 20 pixels" in capsys.readouterr().out
    with np.load(made) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    assert labels.tolist() == [0, 0, 0, 1, 1, 1]
    first = read_events(folder / "left" / "1.dat")
    assert np.array_equal(images[0], bin_events(first, 3, (16, 20)))
    assert picture.read_bytes().startswith(b"\x89PNG")

    assert main(["convert", str(folder / "net.py"), "--images", str(made), "--timesteps", "3"]) == 0
    assert "events 3x2x16x20" in capsys.readouterr().out
    assert load(folder / "net.psnn").input.bins == 3
    assert main(["compile", str(folder / "net.psnn"), "--config", "tiny"]) == 0
    assert main(["run", str(folder / "net.pspk"), str(made), "--device", "machine", "--verify", "--quiet"]) == 0
    assert " 0 of " in capsys.readouterr().out

    np.savez(folder / "fewer.npz", images=images[:, :2])
    assert main(["run", str(folder / "net.pspk"), str(folder / "fewer.npz"), "--device", "machine", "--quiet"]) == 1
    message = "event counts have shape (6, 2, 2, 16, 20), but the network takes [batch, 3, 2, 16, 20]"
    assert capsys.readouterr().err == f"polyspike: error: {message}\n"


def test_span_and_size_of_the_sensor(folder: Path) -> None:
    made = folder / "spanned.npz"
    assert events(folder, "--bins", 2, "--span", "10000:90000", "-o", made) == 0
    with np.load(made) as arrays:
        assert set(arrays) == {"images"}
        assert np.array_equal(
            arrays["images"][1], bin_events(read_events(folder / "left" / "3.dat"), 2, span=(10_000, 90_000))
        )


def test_errors_are_one_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = tmp_path / "a.npz"
    sizeless = tmp_path / "a.bin"
    sizeless.write_bytes(writers.nmnist([(5, 30, 30, 1)]))
    np.savez(tmp_path / "images.npz", images=np.zeros((2, 3, 2, 16, 20), np.uint8))
    binning = ["events", "--bins", "2", "--quiet", "-o", str(made)]
    for arguments, message in (
        ([*binning, str(sizeless)], "a.bin: the recording does not say how large"),
        ([*binning, "--size", "9x9", str(sizeless)], "9 x 9 pixels"),
        ([*binning, str(folder / "net.py")], "not a format"),
        ([*binning, str(folder / "left" / "1.dat"), str(tmp_path / "none.raw")], "none.raw: no such file"),
        (
            [*binning, str(folder / "left" / "1.dat"), "--picture", str(tmp_path / "a.bmp")],
            "a.bmp: a figure's file name",
        ),
        (["convert", str(folder / "net.py"), "--images", str(tmp_path / "images.npz")], "make it 3, or bin the events"),
    ):
        assert main(arguments) == 1
        error = capsys.readouterr().err
        assert error.startswith("polyspike: error: ") and error.count("\n") == 1
        assert message in error, error


def test_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["events", "a.raw", "--bins", "2", "-o", "a.npz", "--size", "34"])
    assert "invalid size value: '34'" in capsys.readouterr().err
