"""`polyspike train`: a network of the papers, in floating point."""

import argparse
from pathlib import Path

from .arguments import add_normalization, positive

NAME = "train"
SUMMARY = "train one of the networks of the papers"
DESCRIPTION = """\
Train a network in floating point with one thread. The checkpoint and its manifest go to the output folder;
interrupted, the same command continues after the last finished epoch.
"""
EPILOG = """\
examples:
  polyspike train --network lenet-s --dataset fashion-mnist
  polyspike train --network resnet8 --dataset cifar10 --data cifar-10-batches-py
  polyspike train --network resnet20 --dataset cifar10 --data cifar --start resnet20.safetensors --epochs 2 \\
    --rate 0.01 --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225
  polyspike train --network resnet8 --dataset cifar10 --data cifar --epochs 45 \\
    --start build/networks/resnet8-cifar-10.safetensors --teacher build/networks/resnet20-cifar-10.safetensors
  polyspike train --list
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("--network", metavar="NAME", help="see --list")
    parser.add_argument("--dataset", metavar="NAME", help="fashion-mnist or cifar10")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="where the data set's files are")
    parser.add_argument("--epochs", type=positive, metavar="N", help="(default: the network's own number)")
    parser.add_argument("--rate", type=float, metavar="R", help="largest learning rate (default: 0.1)")
    parser.add_argument("--seed", type=int, default=0, help="of weights, order and augmentation (default: 0)")
    parser.add_argument("--images", type=positive, metavar="N", help="train on the first N images only")
    parser.add_argument("--start", type=Path, metavar="FILE", help="state dict to start from, safetensors")
    parser.add_argument("--teacher", type=Path, metavar="FILE", help="checkpoint of this command to distil from")
    parser.add_argument(
        "--temperature", type=float, default=4.0, metavar="T", help="of distillation (default: %(default)s)"
    )
    parser.add_argument(
        "--sparsity",
        type=float,
        default=0.0,
        metavar="S",
        help="weight of the loss for few spikes, which are events on the hardware (default: %(default)s)",
    )
    add_normalization(parser)
    parser.add_argument(
        "--output", type=Path, default=Path("build/networks"), metavar="DIR", help="(default: %(default)s)"
    )
    parser.add_argument("--list", action="store_true", help="list the networks and data sets")


def execute(options: argparse.Namespace) -> int:
    """Run the command."""
    import dataclasses

    import torch

    from polyspike.convert.datasets import DATASETS, load
    from polyspike.convert.float_training import save_trained, schedule_of, stem, train_network
    from polyspike.convert.models import NETWORKS
    from polyspike.spec import InputError

    if options.list:
        for name, network in NETWORKS.items():
            print(f"{name:14}{(network.__doc__ or '').splitlines()[0]}")
        print(f"\ndata sets: {', '.join(DATASETS)}")
        return 0
    if options.network is None or options.dataset is None:
        raise InputError("--network and --dataset are needed; `polyspike train --list` shows what there is")
    torch.set_num_threads(1)
    training, test = (load(options.dataset, split, options.data) for split in ("train", "test"))
    if options.images is not None:
        training = training.first(options.images)
    schedule = schedule_of(options.network, training, options.epochs, options.seed)
    if options.rate is not None:
        schedule = dataclasses.replace(schedule, rate=options.rate)
    schedule = dataclasses.replace(schedule, sparsity=options.sparsity)
    if options.teacher is not None:
        schedule = dataclasses.replace(schedule, temperature=options.temperature)
    trained = train_network(
        options.network,
        training,
        test,
        schedule,
        start=options.start,
        teacher=options.teacher,
        mean=options.mean,
        std=options.std,
        work=options.output / "work",
    )
    path = save_trained(trained, options.output, stem(options.network, training))
    print(f"{options.network}: {trained.manifest['accuracy']:.2%} of {len(test)} test images of {test.name}")
    print(f"{path}: written")
    return 0
