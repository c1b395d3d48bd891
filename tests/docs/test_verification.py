"""What docs/verification.md shows is what there is."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "verification.md").read_text()


def test_the_bench_that_is_shown_is_the_real_one() -> None:
    (shown,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert shown == (ROOT / "tests" / "cosim" / "benches" / "bench_gather.py").read_text()
    (line,) = re.findall(r'^    ("gather": .*,)$', PAGE, re.MULTILINE)
    assert line in (ROOT / "tests" / "cosim" / "test_blocks.py").read_text()


def test_make_targets_and_files_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"(?:`|^    )make ([a-z-]+)", PAGE, re.MULTILINE)):
        assert f"\n{target}:" in makefile, f"no target {target}"
    for name in set(re.findall(r"\b((?:tests|hw|sim)/[\w/.]+\w)", PAGE)):
        assert (ROOT / name).exists(), f"no file {name}"
