"""Instantiated cells beside the generic form of a component, in Icarus."""

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from amaranth.back import verilog


def compare(
    folder: Path, component: Callable[[], Any], device: str, models: Path, bench: str, options: Sequence[str] = ()
) -> None:
    """Run a Verilog bench over modules `generic` and `cells` of a component; it prints "done" and nothing else.

    `device` is what a platform says of its FPGA, `models` the file with the simulation models of its cells.
    """
    platform = type("Platform", (), {"device": device})()
    for name, of in (("generic", None), ("cells", platform)):
        text = verilog.convert(component(), name=name, platform=of, emit_src=False)
        (folder / f"{name}.v").write_text(text)
    (folder / "bench.v").write_text(bench)
    sources = [str(folder / f"{name}.v") for name in ("bench", "generic", "cells")]
    program = str(folder / "bench.vvp")
    subprocess.run(["iverilog", "-g2012", *options, "-s", "bench", "-o", program, *sources, str(models)], check=True)
    result = subprocess.run(["vvp", "-n", program], check=True, capture_output=True, text=True)
    assert result.stdout.split() == ["done"]
