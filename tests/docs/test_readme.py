"""What the README says works as it stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from polyspike.cli.main import parser
from polyspike.convert.datasets import FASHION_MNIST_FOLDER

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    return found


@pytest.mark.skipif(not FASHION_MNIST_FOLDER.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
def test_first_network_runs(tmp_path: Path) -> None:
    """As a user would: in a folder of its own, with warnings as errors. On the simulated accelerator."""
    (tmp_path / "first.py").write_text(block("python"))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-W", "error", "first.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    (right,) = re.findall(r"^(\d+)% of 50 images are right; [\d,]+ cycles an image$", done.stdout, re.MULTILINE)
    assert int(right) >= 60


def test_commands_are_spelled_right() -> None:
    """Every `polyspike` line parses; files need not be there for that."""
    block_lines = block("sh").splitlines()
    indented = re.findall(r"^    (polyspike .*)$", README, re.MULTILINE)
    assert len(block_lines) == 4 and len(indented) >= 5
    for line in (text.split("#")[0].split() for text in (*block_lines, *indented)):
        assert line[0] == "polyspike"
        parser().parse_args(line[1:])


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda page: str(page.relative_to(ROOT))
)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith("https://"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}, which is not there"


def test_map_names_folders_that_exist() -> None:
    folders = re.findall(r"^\| `([^`]+)` \|", README.split("## Where what is")[1], re.MULTILINE)
    assert len(folders) >= 10
    assert [folder for folder in folders if not (ROOT / folder).is_dir()] == []
