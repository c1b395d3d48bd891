"""Types of command-line arguments, and arguments that several commands have."""

import argparse

#: Ways to choose ranges, `polyspike.convert.Method`, whose import takes a while.
METHODS = ("entropy", "mse", "percentile", "max")


def whole(text: str) -> int:
    """Turn an argument into an integer that is not negative."""
    value = int(text)
    if value < 0:
        raise ValueError
    return value


def positive(text: str) -> int:
    """Turn an argument into an integer above zero."""
    value = int(text)
    if value < 1:
        raise ValueError
    return value


#: What argparse calls the types when it refuses a value.
whole.__name__ = "whole number"
positive.__name__ = "positive integer"


def layer_widths(text: str) -> tuple[str, dict[str, int]]:
    """Turn an argument such as "conv3:weights=4,counts=8" into a layer's name and its widths in bits."""
    name, _, widths = text.rpartition(":")
    pairs = [part.split("=") for part in widths.split(",")]
    if not name or any(len(pair) != 2 or pair[0] not in ("weights", "counts") for pair in pairs):
        raise ValueError
    return name, {what: int(bits) for what, bits in pairs}


layer_widths.__name__ = "NAME:weights=BITS,counts=BITS"


def fractions(text: str) -> tuple[float, ...]:
    """Turn an argument into numbers, commas between them."""
    return tuple(float(part) for part in text.split(","))


fractions.__name__ = "list of numbers"


def add_normalization(parser: argparse.ArgumentParser) -> None:
    """Declare the normalization of images that a network was, or is to be, trained with."""
    parser.add_argument(
        "--mean", type=fractions, default=(0.0,), metavar="M[,M...]", help="the network sees (pixel / 255 - mean) / std"
    )
    parser.add_argument("--std", type=fractions, default=(1.0,), metavar="S[,S...]", help="one, or one a channel")
