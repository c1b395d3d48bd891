"""`make peers`: what others get of a network is the network, and its page and our rows follow from their figures."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from polyspike import bitstreams
from polyspike.convert.models import build
from polyspike.convert.tracing import trace
from polyspike.spec import ConversionError

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def networks(benchmark):
    return benchmark("peers_networks")


@pytest.fixture
def peers(benchmark):
    return benchmark("peers")


@pytest.mark.parametrize("name, shape", [("lenet-s", (1, 28, 28)), ("resnet8", (3, 32, 32)), ("demo", (1, 28, 28))])
def test_a_description_is_its_network(networks, name, shape):
    torch.manual_seed(0)
    model = build(name, shape)
    images = torch.rand(8, *shape)
    with torch.no_grad():
        model(images)
        expected = model.eval()(images).numpy()
    nodes, arrays = networks.describe(trace(model, shape))
    np.testing.assert_allclose(networks.evaluate(nodes, arrays, images.numpy()), expected, atol=1e-4)


def test_pooling_is_taken_out_of_linear_layers(networks):
    model = build("lenet-s", (1, 28, 28)).eval()
    nodes, arrays = networks.describe(trace(model, (1, 28, 28)))
    assert [node["op"] for node in nodes] == ["input", "conv", "average", "conv", "average", "linear", "linear"]
    assert arrays["n4.weight"].shape == (256, 32, 7, 7)
    macs = 9 * 32 * 28 * 28 + 9 * 32 * 32 * 14 * 14 + 32 * 7 * 7 * 256 + 256 * 10
    assert networks.multiplications(nodes, arrays, (1, 28, 28)) == macs
    assert networks.unpooled(np.arange(16.0).reshape(1, 1, 4, 4)) is None


def test_what_cannot_be_described_is_refused(networks):
    with pytest.raises(ConversionError, match="grouped"):
        networks.describe(trace(build("ds-cnn", (1, 28, 28)).eval(), (1, 28, 28)))


def test_multipliers_are_shared_and_memories_counted(networks, peers):
    nodes, arrays = networks.describe(trace(build("lenet-s", (1, 28, 28)).eval(), (1, 28, 28)))
    settings = {"par_ich": 2, "par_och": 1, "linear_ich": 16, "linear_och": 1}
    assert peers.multipliers(settings, nodes, arrays) == 18
    assert peers.multipliers(settings | {"linear_ich": 32}, nodes, arrays) == 32
    memories = "  reg [32-1:0] mem [0:1024-1];\n  reg [8-1:0] mem [0:512-1];\n  reg [137-1:0] mem [0:8-1];\n"
    assert peers.block_rams(memories) == 2 + 1


def test_every_port_is_in_the_harness(peers):
    ports = "input CLK,\n  input [8-1:0] a,\n  output reg b,\n  output [3:0] c"
    verilog = f"module other(input a);\nendmodule\nmodule x\n(\n  {ports}\n);"
    text = peers.harness(verilog, "x", "CLK")
    assert "x dut(.CLK(clk), .a(held[7:0]), .b(out[0:0]), .c(out[4:1]));" in text
    assert "reg [7:0] held" in text and "wire [4:0] out" in text


def test_logs_are_read(peers):
    assert peers.outcome("cycles      294993\nwrong           0\n") == {"cycles": 294993, "wrong": 0}
    assert "without a result" in peers.outcome("")["failed"]
    placed = "Info: Max frequency for clock '$glbnet$clk': 50.25 MHz (FAIL at 80.00 MHz)\n"
    routed = placed + "Warning: Max frequency for clock '$glbnet$clk': 41.50 MHz (FAIL at 80.00 MHz)\n"
    assert peers.clock_rate(routed, routed=True) == {"fmax_mhz": 41.5, "fmax": "routed"}
    assert peers.clock_rate(placed, routed=False) == {"fmax_mhz": 50.25, "fmax": "estimated"}
    assert "no clock rate" in peers.clock_rate("", routed=False)["failed"]


def test_a_missing_tool_says_what_to_run(peers, tmp_path):
    with pytest.raises(peers.PeerError, match="run make peers"):
        peers.run(("no-such-tool-at-all",), tmp_path, "log", 1)
    with pytest.raises(peers.PeerError, match="false failed"):
        peers.run(("false",), tmp_path, "log", 1)


def test_a_missing_environment_says_what_to_run(peers, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["peers.py", "--python", str(tmp_path / "python"), "--work", str(tmp_path)])
    assert peers.main() == 2
    assert "make peers" in capsys.readouterr().err


def test_the_best_configurations_are_synthesized(peers):
    def tried(cycles, multipliers, **more):
        return {"cycles": cycles, "multipliers": multipliers, "wrong": 0, **more}

    small, large = tried(1000, 9), tried(200, 144)
    others = [tried(100, 200), tried(100, 9, wrong=1), tried(100, 9, failed="does not fit"), tried(900, 36)]
    assert peers.best_of([large, *others, small]) == [small, large]


def test_the_committed_page_is_of_its_figures(peers):
    rows = json.loads((DOCS / "peers.json").read_text())
    assert peers.page(rows) == (DOCS / "peers.md").read_text()
    bench = {(each["network"], each["configuration"]): each for each in json.loads((DOCS / "bench.json").read_text())}
    manifests = bitstreams.manifests()
    for row in rows:
        if row["fmax_mhz"] is None:
            continue
        assert row["images_per_s"] == pytest.approx(row["fmax_mhz"] * 1e6 / row["cycles_per_image"], rel=1e-3)
        if row["dsp"]:
            assert row["images_per_s_per_dsp"] == pytest.approx(row["images_per_s"] / row["dsp"], rel=1e-3)
        entry = bench.get((row["network"], row["configuration"]))
        if row["peer"] == "polyspike" and entry:
            assert row == peers.ours(entry, manifests[row["board"]])


def test_versions_are_those_that_are_installed(peers):
    rows = json.loads((DOCS / "peers.json").read_text())
    pinned = dict(
        line.split("==") for line in peers.REQUIREMENTS.read_text().splitlines() if "==" in line and line[0] != "#"
    )
    for row in rows:
        if row["peer"] != "polyspike":
            package = {"NNgen": "nngen", "Spiker+": "spikerplus"}[row["peer"]]
            assert row["version"] == row["tools"][package] == pinned[package]
            assert row["version"] in (DOCS / "peers.md").read_text()
            assert not row["wrong"]
