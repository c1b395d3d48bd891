"""A network as NNgen makes it: the Verilog of its accelerator, and of a testbench around it. Runs in the peers' venv.

    python peers_nngen.py NETWORK.npz FOLDER '{"par_ich": 4, "par_och": 4, "maxi_datawidth": 128}'

Writes design.v, bench.v, memory.hex and report.json to the folder. The testbench is of NNgen's and Veriloggen's own
parts: their memory behind AXI, their controller behind AXI Lite. It prints the cycles from start to done, and whether
what lies in the memory then is what NNgen's software reference says.
"""

import argparse
import importlib.metadata
import json
import math
import os
import sys
from pathlib import Path

import nngen as ng
import numpy as np
import veriloggen as vg
import veriloggen.thread as vthread
import veriloggen.types.axi as axi

#: Bytes that addresses in memory are aligned to.
CHUNK = 64
#: Bits of a number in the image of the memory.
WORD = 32
#: Bytes of the simulated memory.
MEMORY = 1 << 21

#: Of a configuration; `delay` (cycles before a burst) and `sleep` (every how many cycles the memory pauses, 0 for
#: never) are the simulated memory's, None for what Veriloggen has by itself.
DEFAULTS = {
    "par_ich": 1,
    "par_och": 1,
    "par_col": 1,
    "par_row": 1,
    "linear_ich": None,
    "linear_och": None,
    "pool": 1,
    "add": 1,
    "stationary": "filter",
    "concur_och": None,
    "maxi_datawidth": 32,
    "ram_style": None,
    "delay": None,
    "sleep": None,
}


def graph(nodes, arrays, settings):
    """Return NNgen's placeholder, output operator and sums for a description; see benchmarks/peers_networks.py."""
    made, totals = {}, []
    for node in nodes:
        name = node["name"]
        source = made.get(node.get("source"))
        if node["op"] == "input":
            channels, height, width = node["shape"]
            made[name] = ng.placeholder(ng.int8, shape=(1, height, width, channels), name=name)
        elif node["op"] == "average":
            window, stride = node["window"], node["stride"]
            # One window in parallel where it is small, as NNgen has a RAM for each of its pixels.
            kind = ng.avg_pool if window * window <= 4 else ng.avg_pool_serial
            made[name] = kind(
                source,
                ksize=(1, window, window, 1),
                strides=(1, stride, stride, 1),
                padding="VALID",
                sum_dtype=ng.int32,
                name=name,
            )
            made[name].attribute(par=settings["pool"])
        elif node["op"] == "add":
            a, b = (made[each] for each in node["sources"])
            # The quantizer sets the scales and the shift.
            total = ng.scaled_add(a, b, 1, 1, 0, dtype=ng.int8, sum_dtype=ng.int32, name=f"{name}.sum")
            total.attribute(par=settings["add"])
            totals.append(total)
            made[name] = ng.relu(total, name=name) if node["relu"] else total
            made[name].attribute(par=settings["add"])
        else:
            made[name] = weighted(node, source, arrays, settings)
    return made[nodes[0]["name"]], made[nodes[-1]["name"]], totals


def narrow(total):
    """Halve the two scales of a sum until they fit the 8 bits that NNgen's hardware keeps of them.

    Its quantizer chooses them for 32 bits, so that without this the hardware's results are not its reference's.
    """
    while max(total.a_scale, total.b_scale) > 127:
        total.a_scale, total.b_scale = round(total.a_scale / 2), round(total.b_scale / 2)
        total.shamt -= 1


def weighted(node, source, arrays, settings):
    """Return the operator of a convolution or a linear layer."""
    name = node["name"]
    # Ours are [out, channel, y, x]; NNgen has the channel last.
    values = arrays[f"{name}.weight"].transpose(0, 2, 3, 1)
    linear = node["op"] == "linear"
    if linear:
        values = values.reshape(len(values), -1)
    weight = ng.variable(ng.int8, shape=values.shape, name=f"{name}.weight")
    weight.set_value(values.astype(np.float64))
    bias = ng.variable(ng.int32, shape=(len(values),), name=f"{name}.bias")
    bias.set_value(arrays[f"{name}.bias"].astype(np.float64))
    common = {
        "bias": bias,
        "act_func": ng.relu if node["relu"] else None,
        "dtype": ng.int8,
        "sum_dtype": ng.int32,
        "name": name,
    }
    if linear:
        if len(source.shape) > 2:
            source = ng.reshape(source, [1, -1])
        made = ng.matmul(source, weight, transposed_b=True, **common)
        made.attribute(
            par_ich=settings["linear_ich"] or settings["par_ich"],
            par_och=settings["linear_och"] or settings["par_och"],
            stationary=settings["stationary"],
            concur_och=settings["concur_och"],
        )
        return made
    stride = node["stride"]
    padding = node["padding"]
    made = ng.conv2d(
        source, weight, strides=(1, stride, stride, 1), padding=(padding, padding, padding, padding), **common
    )
    made.attribute(
        **{each: settings[each] for each in ("par_ich", "par_och", "par_col", "par_row")},
        stationary=settings["stationary"],
        concur_och=settings["concur_och"],
    )
    return made


def testbench(target, image, output, expected, parameters, settings):
    """Return a module that runs the accelerator once on a memory with the image and the parameters."""
    width = settings["maxi_datawidth"]
    words = math.ceil(width / 8)

    def after(address, size):
        return math.ceil((address + size) / CHUNK) * CHUNK

    variables = after(image.addr, image.memory_size)
    check = after(variables, len(parameters))
    scratch = after(check, output.memory_size)
    memory = np.zeros(MEMORY * 8 // WORD, dtype=np.int64)
    axi.set_memory(memory, image.pixels, WORD, 8, image.addr, max(words, image.word_alignment))
    axi.set_memory(memory, parameters, WORD, 8, variables)
    axi.set_memory(memory, expected, WORD, 8, check, max(words, output.word_alignment))

    m = vg.Module("bench")
    m.copy_params(target)
    ports = m.copy_sim_ports(target)
    clk, resetn = ports["CLK"], ports["RESETN"]
    rst = m.Wire("RST")
    rst.assign(vg.Not(resetn))
    speed = {}
    if settings["delay"] is not None:
        speed |= {"write_delay": settings["delay"], "read_delay": settings["delay"]}
    if settings["sleep"] is not None:
        speed |= {"sleep_interval": settings["sleep"]}
    model = axi.AxiMemoryModel(
        m,
        "memory",
        clk,
        rst,
        datawidth=width,
        memimg=memory,
        memimg_name="memory.hex",
        memimg_datawidth=WORD,
        mem_addrwidth=MEMORY.bit_length() - 1,
        **speed,
    )
    model.connect(ports, "maxi")
    control = vthread.AXIMLite(m, "_saxi", clk, rst, noio=True)
    control.connect(ports, "saxi")
    timer = m.Reg("timer", 32, initval=0)
    vg.Seq(m, "count", clk, rst)(timer.inc())
    results = output.shape[-1]

    def run():
        for _ in range(100):
            pass
        ng.sim.set_global_addrs(control, scratch)
        begin = timer.value
        ng.sim.start(control)
        ng.sim.wait(control)
        end = timer.value
        print("cycles %d" % (end - begin))  # noqa: UP031 - becomes $display
        wrong = 0
        for index in range(results):
            found = model.read_word(index, output.addr, 8)
            wanted = model.read_word(index, check, 8)
            if vthread.verilog.NotEql(found, wanted):
                wrong += 1
        print("wrong %d" % wrong)  # noqa: UP031
        vthread.finish()

    vthread.Thread(m, "th_run", clk, rst, run).start()
    m.Instance(target, "uut", params=m.connect_params(target), ports=m.connect_ports(target))
    vg.simulation.setup_clock(m, clk, hperiod=5)
    vg.simulation.setup_reset(m, resetn, m.make_reset(), period=100, polarity="low")
    return m


def main():
    """Make the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("settings", type=json.loads)
    options = parser.parse_args()
    settings = DEFAULTS | options.settings
    if unknown := set(settings) - set(DEFAULTS):
        sys.exit(f"no such settings: {', '.join(sorted(unknown))}; there are {', '.join(DEFAULTS)}")
    arrays = dict(np.load(options.network))
    nodes = json.loads(str(arrays["nodes"]))
    images = arrays["images"].transpose(0, 2, 3, 1)
    options.folder.mkdir(parents=True, exist_ok=True)
    os.chdir(options.folder)

    image, output, totals = graph(nodes, arrays, settings)
    scale = 127 / np.abs(images).max()
    pixels = np.round(images * scale).astype(np.int64)
    ng.quantize(
        [output], input_scale_factors={image.name: scale}, input_generators={image.name: lambda node, number: pixels}
    )
    for total in totals:
        narrow(total)
    classes = ng.eval([output], **{image.name: pixels})[0].argmax(-1)
    image.pixels = pixels[:1]
    expected = ng.eval([output], **{image.name: image.pixels})[0]

    config = {"maxi_datawidth": settings["maxi_datawidth"], "interrupt_enable": False}
    if settings["ram_style"]:
        config["onchip_ram_style"] = f'(* ram_style = "{settings["ram_style"]}" *)'
    target = ng.to_veriloggen([output], "nngen", silent=False, config=config)
    target.to_verilog("design.v")
    parameters = ng.export_ndarray([output], CHUNK)
    testbench(target, image, output, expected, parameters, settings).to_verilog("bench.v")
    report = {
        "versions": {each: importlib.metadata.version(each) for each in ("nngen", "veriloggen", "pyverilog", "numpy")},
        "parameter_bytes": len(parameters),
        "images": len(images),
        "classes": [int(each) for each in classes],
        "expected": [int(each) for each in expected.reshape(-1)],
    }
    Path("report.json").write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
