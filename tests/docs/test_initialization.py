"""docs/initialization.md is what its JSON says, and the benchmark that writes both can be run."""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from polyspike.convert.datasets import Dataset
from polyspike.convert.float_training import Trained

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "initialization.md"


def test_the_page_is_of_its_json(benchmark):
    script = benchmark("initialization")
    data = json.loads(PAGE.with_suffix(".json").read_text())
    assert PAGE.read_text() == script.page(data)
    for row in data["rows"]:
        assert all(0 < row[key] <= 1 for key in ("float", "before", "after") if "seed" in row)
    assert {row["method"] for row in data["rows"]} == set(script.METHODS)


def test_a_run_is_kept_and_gives_the_same_page_again(benchmark, monkeypatch, tmp_path):
    script = benchmark("initialization")
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)).eval()
    images = np.random.default_rng(0).integers(0, 256, (160, 1, 6, 6), np.uint8)
    with torch.no_grad():
        labels = model(torch.from_numpy(images) / 255).argmax(1).numpy()
    data = Dataset(images, labels, ("a", "b", "c"), "made up")
    trained = Trained(model, {"mean": [0.0], "std": [1.0]})
    monkeypatch.setattr(script, "subjects", lambda names: [script.Subject("tiny", trained, data, data)])
    monkeypatch.setattr(script, "FACTORS", (0.5, 1.0))
    sizes = ["--levels", "7", "--seeds", "1", "--images", "40", "--finetune-images", "128"]
    folders = ["--work", str(tmp_path / "work"), "--output", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["initialization.py", *sizes, *folders])
    script.main()
    page, times = (tmp_path / "initialization.md").read_text(), {}
    for path in (tmp_path / "work").iterdir():
        times[path] = path.stat().st_mtime_ns
    assert len(times) == 8 and "tiny, counts 0..7" in page and "100.0 %" in page
    assert (tmp_path / "initialization.svg").stat().st_size > 10_000
    script.main()
    assert (tmp_path / "initialization.md").read_text() == page
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())
