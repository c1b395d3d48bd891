"""`polyspike boards`: what is listed, and the arithmetic of the rates."""

import dataclasses

import pytest

from bitstreams.test_archive import example
from polyspike import bitstreams
from polyspike.bitstreams.demo import DemoFigures, demo_figures, save_demo_figures
from polyspike.cli import board_tables
from polyspike.cli.main import main
from polyspike.gateware.boards import BOARDS
from polyspike.spec import SMALL, FileFormatError


@pytest.fixture
def one_manifest(monkeypatch: pytest.MonkeyPatch) -> bitstreams.Manifest:
    manifest = example().manifest
    monkeypatch.setattr(bitstreams, "manifests", lambda: {manifest.board: manifest})
    return manifest


def test_every_board_is_listed(one_manifest: bitstreams.Manifest, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["boards"]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()[2:]}
    assert set(rows) == set(BOARDS)
    for figure in ("LFE5U-25F-6BG381", "3 Mbaud", "small", "100.0", "101.2", one_manifest.sha256[:12]):
        assert figure in rows["ulx3s-25f"]
    assert rows["icebreaker"].split()[-6:] == ["-"] * 6


def measured(monkeypatch: pytest.MonkeyPatch, figures: DemoFigures) -> list[str]:
    monkeypatch.setattr(board_tables, "demo_figures", lambda: {figures.digest: figures})
    (row,) = board_tables.measured().splitlines()[2:]
    return [cell.strip() for cell in row.strip("|").split("|")]


@pytest.mark.usefixtures("one_manifest")
def test_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """101.25 MHz and 50,000 cycles are 2,025 images a second; 3 Mbaud are 300,000 bytes a second."""
    figures = DemoFigures("small", SMALL.digest, 10, 50_000.0, 400.0, 50.0)
    row = measured(monkeypatch, figures)
    assert row[:4] == ["ulx3s-25f", "small", "DSP", "2 x 16"]
    assert row[-3:] == ["50,000", "2,025", "750"]
    row = measured(monkeypatch, dataclasses.replace(figures, sent_per_image=100.0, received_per_image=120.0))
    assert row[-1] == "2,025", "the core is the slower one"
    row = measured(monkeypatch, dataclasses.replace(figures, digest="0" * 16))
    assert row[-3:] == ["", "", ""], "measured on other hardware"


def test_demo_figures_come_back(tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("figures") / "demo.json"
    assert demo_figures(file) == {}
    figures = DemoFigures("small", SMALL.digest, 10, 50_000.0, 400.0, 50.0)
    save_demo_figures([figures], file)
    assert demo_figures(file) == {SMALL.digest: figures}
    file.write_text('[{"configuration": "small"}]')
    with pytest.raises(FileFormatError, match="an entry must have the fields configuration, digest"):
        demo_figures(file)
