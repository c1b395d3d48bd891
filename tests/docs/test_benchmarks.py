"""`make bench`: its figures follow from what was measured and from the manifests, and its page from its figures."""

import json
from pathlib import Path

import pytest

from polyspike import bitstreams

DOCS = Path(__file__).parents[2] / "docs"


def layer(name, **counters):
    cycles = sum(counters.values()) / 8
    figures = {"stall_fetch": 0.0, "stall_port": 0.0, "stall_drain": 0.0, "stall_idle": 0.0, **counters}
    busy = figures["events"] / cycles / 8
    rest = {"density": 0.5, "utilization": busy, "setup": 50, "predicted": cycles, "lanes_used": 1.0}
    return {"name": name, "cycles": cycles, "words": 1.0, "zero_words": 0.0, **figures, **rest}


MEASURED = {
    "network": "small one",
    "data": "some",
    "weights": "random",
    "configuration": "large",
    "images": 1,
    "resident": True,
    "integers_compared": 10,
    "integers_differing": 0,
    "macs": 1000,
    "events": {"alone": 7200.0, "paired": 4800.0},
    "bytes_sent": 500,
    "bytes_received": 20,
    "simulated_cycles_per_second": 1,
    "golden_images_per_second": 1.0,
    "machine": "a machine",
    "wide_convolutions": ["conv"],
    "layers": [
        layer("conv", events=6400.0, stall_fetch=800.0, stall_drain=80.0, stall_idle=720.0),
        {**layer("linear", events=800.0, stall_port=1600.0), "lanes_used": 0.625},
    ],
}


def test_figures_follow_from_cycles_and_manifest(benchmark):
    bench = benchmark("bench")
    manifest = bitstreams.manifests()["ulx3s-85f"]
    row = bench.row(MEASURED, manifest)
    # (6400 + 800 + 80 + 720) / 8 + (800 + 1600) / 8 counted, and 50 before each layer.
    assert row["cycles_per_image"] == 1000 + 300 + 100
    rate = manifest.fmax_mhz * 1e6 / 1400
    assert row["images_per_s"] == pytest.approx(rate, rel=1e-3)
    assert row["images_per_s_per_dsp_mhz"] == pytest.approx(1e6 / 1400 / manifest.utilization.dsp, rel=1e-3)
    assert row["images_per_s_per_klut"] == pytest.approx(rate / manifest.utilization.lut * 1000, rel=1e-3)
    assert row["images_per_s_over_link"] == pytest.approx(3_000_000 / 10 / 500, rel=1e-3)
    assert row["utilization"] == pytest.approx(900 / 1400, rel=1e-3)
    assert row["utilization_of_wide_convolutions"] == pytest.approx(800 / 1050, rel=1e-3)
    lost = row["lost"]
    assert lost["idle_lanes"] == 37.5 and lost["arbitration"] == 200 and lost["word_fetch"] == 100
    assert lost["drain"] == 10 and lost["no_work"] == 90 and lost["setup"] == 100
    # What is not lost is what lanes with a channel did; the link is beside the core's cycles.
    assert sum(lost.values()) - lost["link"] == 1400 - 800 - 62.5
    assert lost["link"] == pytest.approx(manifest.fmax_mhz * 1e6 / 600 - 1400, rel=1e-3)


def test_without_a_routed_board_there_are_no_rates_but_what_a_multiplier_is_worth(benchmark):
    bench = benchmark("bench")
    row = bench.row({**MEASURED, "configuration": "large-pairs"}, None)
    assert row["images_per_s"] is row["fmax_mhz"] is row["board"] is row["lost"]["link"] is None
    assert row["dsp"] == 128 and row["images_per_s_per_dsp_mhz"] == pytest.approx(1e6 / 1400 / 128, rel=1e-3)
    assert "| `large-pairs` | not routed | 1,400 |  |  |  |" in bench.page([row], [])


def test_history_grows_where_cycles_change(benchmark):
    bench = benchmark("bench")
    row = bench.row(MEASURED, bitstreams.manifests()["ulx3s-85f"])
    first = bench.changes([row], [], "2026-01-01")
    assert bench.changes([row], first, "2026-01-02") == first
    slower = row | {"cycles_per_image": 1540.0}
    second = bench.changes([slower], first, "2026-01-03")
    assert [entry["date"] for entry in second] == ["2026-01-01", "2026-01-03"]
    assert "| 1,400 (+10.0%) |" in bench.page([slower], second)
    assert "| 1,400 |  |" in bench.page([row], first)
    # 6,400 of 8,000 column cycles: below what is wanted.
    assert "below 90 % of the counted cycles: conv 80.0 %." in bench.page([row], first)


def test_the_committed_page_is_of_its_figures_and_the_manifests(benchmark):
    bench = benchmark("bench")
    rows = json.loads((DOCS / "bench.json").read_text())
    history = json.loads((DOCS / "bench-history.json").read_text())
    assert bench.page(rows, history) == (DOCS / "benchmarks.md").read_text()
    manifests = bitstreams.manifests()
    for row in rows:
        manifest = None if row["board"] is None else manifests[row["board"]]
        assert row == bench.row({name: row[name] for name in MEASURED}, manifest)
        assert row["integers_differing"] == 0
