"""The user guide's Python blocks run, in their order, as one script."""

import re
import sys
from pathlib import Path

import pytest

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "user-guide.md"


def blocks() -> list[tuple[int, str]]:
    """Return (line in the guide, code) of every Python block."""
    text = GUIDE.read_text()
    found = re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return [(text.count("\n", 0, match.start(1)), match[1]) for match in found]


def test_blocks_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    script: dict[str, object] = {"__name__": "user_guide"}
    try:
        for line, code in blocks():
            file = re.match(r"# (\w+\.py)\n", code)
            if file:
                Path(file[1]).write_text(code)
            else:
                # Blank lines first, so that a traceback has the guide's line numbers.
                exec(compile("\n" * line + code, str(GUIDE), "exec"), script)
    finally:
        sys.modules.pop("net", None)
    assert {path.name for path in tmp_path.iterdir()} >= {"net.psnn", "net.pspk", "core.v"}
