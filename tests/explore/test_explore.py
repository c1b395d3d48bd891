"""The search for configurations: predictions against what was built, the search against a naive loop, the command."""

import collections
import itertools
import json
import re
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest

from polyspike import bitstreams
from polyspike.cli.main import main
from polyspike.compiler import compile, load_program
from polyspike.convert import Options, convert, demo
from polyspike.explore import Candidate, Resources, available, configurations, frontier, predict, predict_fmax, search
from polyspike.explore.resources import builds, columns, memory_blocks
from polyspike.gateware.boards import BOARDS
from polyspike.gateware.boards.usb import UsbBoard
from polyspike.network import save
from polyspike.spec import LARGE, LARGE_PAIRS, SMALL, BuildError, Configuration, PolyspikeError

BOARD = BOARDS["ulx3s-25f"]


@pytest.fixture(scope="module")
def network():
    return convert(demo.load_finetuned(Options()), name="demo")


def naive(network, board):
    """What a loop finds, the fastest first: (name, memories, cycles)."""
    found = []
    for configuration in configurations(board):
        try:
            program = compile(network, configuration)
        except PolyspikeError:
            continue
        cycles = program.setup_cycles() + sum(layer.cycles for layer in program.report)
        rate = predict_fmax(board, predict(configuration)) * 1e6 / cycles
        found.append((not program.resident, -rate, configuration))
    return sorted(found, key=lambda each: each[:2])


@pytest.mark.parametrize(("bytes_", "depth", "blocks"), [(16, 2048, 16), (8, 4096, 16), (8, 512, 2), (1, 4096, 2)])
def test_memories_take_the_fewest_blocks(bytes_, depth, blocks):
    # Of an ECP5: 512 words of 4 bytes, 1,024 of 2, or 2,048 of one.
    assert memory_blocks(bytes_, depth) == blocks


def test_predictions_are_near_what_was_routed():
    assert len(builds()) >= 5
    for kind, manifest in builds():
        used = predict(manifest.configuration)
        assert (used.dsp, used.bram) == (manifest.utilization.dsp, manifest.utilization.bram), kind.name
        # What LUNA's USB takes is not predicted.
        room = 0.15 if issubclass(kind, UsbBoard) else 0.02
        assert used.lut == pytest.approx(manifest.utilization.lut, rel=room), kind.name
        assert predict_fmax(kind, used) == pytest.approx(manifest.fmax_mhz, rel=0.12), kind.name


def test_pairs_are_predicted():
    """Look-up tables that nextpnr packed for a ULX3S-85F, firing one or two lanes; other cells are those of `large`."""
    used, alone = predict(LARGE_PAIRS), predict(LARGE)
    assert used.lut == pytest.approx(59809, rel=0.02)
    assert predict(LARGE_PAIRS.replace(fire_width=2)).lut == pytest.approx(67367, rel=0.02)
    assert (used.dsp, used.bram) == (alone.dsp, alone.bram)


def test_columns_are_predicted_as_they_were_synthesized():
    from polyspike.explore.resources import column_lut

    assert len(columns()) >= 6
    for configuration, lut in columns():
        assert column_lut(configuration) == pytest.approx(lut, rel=0.03), configuration


def test_all_that_is_searched_fits_and_wastes_no_memory():
    found = list(configurations(BOARD))
    assert len(found) > 10 and len({each.digest for each in found}) == len(found)
    shapes = collections.defaultdict(list)
    for each in found:
        assert predict(each).fit(available(BOARD))
        depths = (each.weight_depth, each.spike_depth, each.param_depth)
        shapes[each.columns, each.lanes, each.read_ports, each.fire_width, each.pairs].append(depths)
        for index, (name, most) in enumerate((("weight", 8192), ("spike", 16384), ("param", 2048))):
            if depths[index] < most:
                assert not predict(each.replace(**{f"{name}_depth": 2 * depths[index]})).fit(available(BOARD))
    for depths in shapes.values():
        for first, second in itertools.permutations(depths, 2):
            assert any(a > b for a, b in zip(first, second, strict=True))
    # Lanes of look-up tables make up for multipliers that the part does not have.
    two = [each for each in found if (each.columns, each.lanes) == (2, 16)]
    assert {(each.fabric_lanes, each.pairs) for each in two} == {(SMALL.fabric_lanes, 0)}
    assert {each.pairs for each in found if (each.columns, each.lanes) == (1, 16)} == {0, 1}
    assert all(each.probabilistic for each in configurations(BOARD, ("probabilistic",)))
    largest = [each for each in configurations(BOARDS["ulx3s-85f"]) if (each.columns, each.lanes) == (8, 16)]
    assert {each.pairs for each in largest} == {0, 1}
    assert predict(LARGE).fit(available(BOARDS["ulx3s-85f"])) and not predict(LARGE).fit(available(BOARD))


def test_the_search_finds_what_a_loop_does(network):
    steps = []
    with ThreadPoolExecutor(1) as executor:
        found = search(network, BOARD, executor, progress=lambda done, total: steps.append((done, total)))
    right = naive(network, BOARD)
    assert [(not each.resident, -each.images_per_second) for each in found] == [each[:2] for each in right]
    assert {each.configuration.digest for each in found} == {each[2].digest for each in right}
    assert steps[-1][0] == steps[-1][1] == len(list(configurations(BOARD)))
    # An empty network of events: what is never added takes no time, and what is left is the walk.
    with ProcessPoolExecutor(1) as executor:
        sparse = search(network, BOARD, executor, density=0.05)
    assert sparse[0].images_per_second > found[0].images_per_second


def test_a_dask_cluster_finds_the_same(network):
    distributed = pytest.importorskip("distributed")
    with ThreadPoolExecutor(1) as executor:
        right = search(network, BOARD, executor)
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster.scheduler_address) as client,
    ):
        assert search(network, BOARD, client.get_executor()) == right


def test_the_frontier_is_what_nothing_smaller_reaches():
    def candidate(lut, cycles, resident=True):
        return Candidate(LARGE, Resources(lut, 1, 1), 100.0, cycles, resident)

    every = [candidate(*each) for each in ((10, 900), (20, 400), (20, 500), (30, 450), (40, 100), (5, 50, False))]
    best = frontier(every)
    assert [(each.resources.lut, each.cycles) for each in best] == [(5, 50), (10, 900), (20, 400), (40, 100)]


def test_command(network, tmp_path, capsys):
    path = tmp_path / "net.psnn"
    save(network, path)
    command = ["explore", "--network", str(path), "--board", "ulx3s-25f", "--jobs", "1", "--output", str(tmp_path)]
    files = ["--json", str(tmp_path / "all.json"), "--picture", str(tmp_path / "all.svg")]
    assert main([*command, "--top", "3", *files]) == 0
    out = capsys.readouterr().out
    assert "columns x lanes" in out and "configurations fit ulx3s-25f" in out
    rows = json.loads((tmp_path / "all.json").read_text())
    assert rows[0]["images_per_s"] == max(row["images_per_s"] for row in rows if row["resident"] is rows[0]["resident"])
    fastest = json.loads((tmp_path / "fastest.json").read_text())
    assert fastest == rows[0]["configuration"]
    assert predict(Configuration.from_dict(fastest)).fit(available(BOARD))
    assert "<svg" in (tmp_path / "all.svg").read_text()
    # The file is what `compile` takes.
    compiled = ["compile", str(path), "--config-file", str(tmp_path / "fastest.json"), "-o", str(tmp_path / "n.pspk")]
    assert main(compiled) == 0
    said = re.search(r"about ([\d,]+) cycles", capsys.readouterr().out)
    program = load_program(tmp_path / "n.pspk")
    assert int(said[1].replace(",", "")) + program.setup_cycles() == rows[0]["cycles_per_image"]


def test_errors_are_clear(network, tmp_path, capsys):
    path = tmp_path / "net.psnn"
    save(network, path)
    command = ["explore", "--network", str(path), "--output", str(tmp_path)]
    assert main([*command, "--board", "icebreaker"]) == 1
    assert "icebreaker has iCE40UP5K-SG48, but predictions are for ECP5 parts only" in capsys.readouterr().err
    assert main([*command, "--board", "nothing"]) == 1
    assert "nothing" in capsys.readouterr().err
    assert main(["explore", "--network", str(tmp_path / "none.pspk"), "--board", "ulx3s-25f"]) == 1
    assert "none.pspk" in capsys.readouterr().err
    pytest.importorskip("distributed")
    assert main([*command, "--board", "ulx3s-25f", "--dask", "tcp://127.0.0.1:1"]) == 1
    assert "no Dask scheduler answers at tcp://127.0.0.1:1" in capsys.readouterr().err


def test_parts_are_those_of_the_boards():
    for kind, manifest in builds():
        assert manifest.utilization.dsp <= available(kind).dsp and manifest.utilization.bram <= available(kind).bram
    with pytest.raises(BuildError, match=r"boards with one: .*ulx3s-85f"):
        available(BOARDS["tangnano9k"])
    assert bitstreams.manifests()
