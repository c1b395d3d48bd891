"""Finished cases of a benchmark: each is kept in a file, so that an interrupted run goes on where it was."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from subjects import ROOT


def add_arguments(parser: argparse.ArgumentParser, name: str, output: Path = ROOT / "docs") -> None:
    """Declare where cases are kept, whether they are measured, and where the pages go."""
    parser.add_argument("--work", type=Path, default=ROOT / "build" / name, help="folder of finished cases")
    parser.add_argument("--finished", action="store_true", help="measure nothing: write what is finished")
    parser.add_argument("--again", action="store_true", help="measure finished cases again")
    parser.add_argument("--output", type=Path, default=output, help="where to write (default: %(default)s)")


def kept(options: argparse.Namespace, name: str, measure: Callable[[], Any]) -> Any:
    """Return what `measure` returns, as JSON has it: from the case's file where it is finished.

    None stands for a case that is not finished and not to be measured, or that `measure` returned it for.
    """
    path: Path = options.work / f"{name}.json"
    if options.again or not path.is_file():
        result = None if options.finished else measure()
        if result is None:
            return None
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=2) + "\n")
    return json.loads(path.read_text())
