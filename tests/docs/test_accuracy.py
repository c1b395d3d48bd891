"""docs/accuracy and docs/latency: tables that are what their JSON says, and what they promise."""

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

FIELDS = {
    "method",
    "network",
    "dataset",
    "timesteps",
    "float_accuracy",
    "calibrated_accuracy",
    "finetuned_accuracy",
    "spikes_per_neuron",
    "synops_per_image",
    "seed",
    "images",
}


def test_the_accuracy_page_is_of_its_json(benchmark):
    rows = json.loads((DOCS / "accuracy.json").read_text())
    assert rows and all(set(row) >= FIELDS for row in rows)
    assert len({(row["network"], row["method"], row["timesteps"]) for row in rows}) == len(rows)
    assert (DOCS / "accuracy.md").read_text() == benchmark("accuracy").page(rows)


def test_the_latency_page_is_of_its_json(benchmark):
    if not (DOCS / "latency.json").is_file():
        pytest.skip("docs/latency.json is not there; `make accuracy` writes it")
    rows = json.loads((DOCS / "latency.json").read_text())
    for row in rows:
        row["accuracy"] = {int(step): value for step, value in row["accuracy"].items()}
        reached = [step for step, value in row["accuracy"].items() if value >= row["float_accuracy"] - 0.01]
        assert row["timesteps"] == (min(reached) if reached else None)
    assert (DOCS / "latency.md").read_text() == benchmark("latency").page(rows)


def test_exactness_page_is_of_its_json(benchmark):
    rows = json.loads((DOCS / "verification" / "networks.json").read_text())
    assert all(row["integers_differing"] == 0 and row["integers_compared"] > 0 for row in rows)
    assert (DOCS / "verification" / "networks.md").read_text() == benchmark("exactness").page(rows)


def test_a_measurement_from_end_to_end(benchmark, tmp_path, monkeypatch):
    """The whole of accuracy.py on few images."""
    accuracy = benchmark("accuracy")
    monkeypatch.setattr(accuracy, "ACTIVITY_IMAGES", 20)
    arguments = "--networks demo --methods pmsm qcfs --timesteps 1 2 --images 100 --finetune-images 256"
    folders = ["--work", str(tmp_path / "work"), "--output", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["accuracy.py", *arguments.split(), *folders])
    accuracy.main()
    rows = json.loads((tmp_path / "accuracy.json").read_text())
    assert [(row["method"], row["timesteps"]) for row in rows] == [("pmsm", 1), ("pmsm", 2), ("qcfs", 1), ("qcfs", 2)]
    by_case = {(row["method"], row["timesteps"]): row for row in rows}
    assert all(set(row) >= FIELDS and 0.85 < row["float_accuracy"] < 1 for row in rows)
    assert by_case["pmsm", 1]["calibrated_accuracy"] > 0.85 > 0.5 > by_case["qcfs", 1]["calibrated_accuracy"]
    # Twice the timesteps spike about twice as much.
    ratio = by_case["pmsm", 2]["synops_per_image"] / by_case["pmsm", 1]["synops_per_image"]
    assert 1.4 < ratio < 2.6
    # Finished cases are not measured again.
    monkeypatch.setattr(accuracy, "calibrate", None)
    accuracy.main()
    assert json.loads((tmp_path / "accuracy.json").read_text()) == rows
