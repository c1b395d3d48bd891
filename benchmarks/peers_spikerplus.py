"""A fully connected spiking network as Spiker+ makes it: VHDL. Runs in the peers' venv.

    python peers_spikerplus.py FOLDER '{"inputs": 784, "hidden": 128, "outputs": 10, "timesteps": 25}'

Writes *.vhd and report.json to the folder. The weights are random; Spiker+ takes as many cycles for any.
"""

import argparse
import importlib.metadata
import json
import os
from pathlib import Path

import torch
from spikerplus import NetBuilder, VhdlGenerator
from spikerplus.vhdl.vhdl import write_file_all


def layer(neurons, reset):
    """Return a layer of leaky neurons, as in Spiker+'s own example."""
    return {
        "neuron_model": "lif",
        "n_neurons": neurons,
        "beta": 0.9375,
        "learn_beta": False,
        "threshold": 1.0,
        "learn_threshold": False,
        "reset_mechanism": reset,
    }


def main():
    """Make the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("settings", type=json.loads)
    options = parser.parse_args()
    settings = options.settings
    options.folder.mkdir(parents=True, exist_ok=True)
    os.chdir(options.folder)
    torch.manual_seed(0)
    network = NetBuilder(
        {
            "n_cycles": settings["timesteps"],
            "n_inputs": settings["inputs"],
            "layer_0": layer(settings["hidden"], "subtract"),
            "layer_1": layer(settings["outputs"], "none"),
        }
    ).build()
    # 6-bit weights and 8-bit neurons: between the least and the most that its optimizer looks at.
    generator = VhdlGenerator(network, {"weights_bw": 6, "neurons_bw": 8, "fp_dec": 4})
    write_file_all(generator.generate(functional=True), output_dir=".")
    versions = {each: importlib.metadata.version(each) for each in ("spikerplus", "snntorch", "torch")}
    Path("report.json").write_text(json.dumps({"versions": versions}, indent=2) + "\n")


if __name__ == "__main__":
    main()
