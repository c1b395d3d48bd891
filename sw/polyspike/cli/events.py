"""`polyspike events`: from recordings of event cameras to counts that networks take."""

import argparse
from pathlib import Path

from .arguments import positive

NAME = "events"
SUMMARY = "count the events of recordings in time bins (.npz), for `convert` and `run`"
DESCRIPTION = """\
Read recordings of event cameras (DVS sensors), count their events in time bins, as many as a network has timesteps, and
write the counts as images: uint8 [recordings, bins, 2, rows, pixels], OFF events before ON events.

recordings are .aedat4 (AEDAT 4), .aedat (AEDAT 3.1), .raw (Prophesee EVT 2.0, EVT 3.0), .dat (Prophesee DAT) or .bin
(N-MNIST). Each one is cut into bins of equal length, from its first event to its last unless --span says otherwise.
"""
EPILOG = """\
examples:
  polyspike events recording.aedat4 --bins 6 -o events.npz --picture events.png
  polyspike events Test/*/*.bin --bins 6 --size 34x34 --span 0:300000 --labels -o test.npz
  polyspike run net.pspk test.npz --device sim --verify
"""


def _pair(text: str, separator: str) -> tuple[int, int]:
    first, second = text.split(separator)
    return int(first), int(second)


def _size(text: str) -> tuple[int, int]:
    return _pair(text, "x")


def _span(text: str) -> tuple[int, int]:
    return _pair(text, ":")


_size.__name__ = "size"
_span.__name__ = "span"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("recordings", type=Path, nargs="+", metavar="RECORDING", help="files of the formats above")
    parser.add_argument("--bins", type=positive, required=True, metavar="T", help="bins, one for each timestep")
    parser.add_argument(
        "--size",
        type=_size,
        metavar="HxW",
        help="rows and pixels of the counts (default: the sensor's, if it is known)",
    )
    parser.add_argument("--span", type=_span, metavar="FROM:TO", help="microseconds that are counted")
    parser.add_argument(
        "--labels", action="store_true", help="the folders that recordings are in are their classes, in order of name"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.npz", help="where the counts go")
    parser.add_argument(
        "--picture", type=Path, metavar="FILE", help="draw the first recording's bins (.png, .svg, .pdf)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def execute(options: argparse.Namespace) -> int:
    """Run the command."""
    import numpy as np
    from tqdm import tqdm

    from polyspike.convert.events import bin_events
    from polyspike.convert.recordings import read_events
    from polyspike.spec import InputError

    from .text import number

    counts = []
    for path in tqdm(options.recordings, unit="recording", disable=options.quiet):
        try:
            counts.append(bin_events(read_events(path), options.bins, options.size, options.span))
        except InputError as error:
            text = str(error)
            raise InputError(text if text.startswith(str(path)) else f"{path}: {text}") from None
        if counts[-1].shape != counts[0].shape:
            raise InputError(
                f"{path}: has {counts[-1].shape[2]} x {counts[-1].shape[3]} pixels, but {options.recordings[0]} has "
                f"{counts[0].shape[2]} x {counts[0].shape[3]}; --size HxW makes them alike"
            )
    arrays = {"images": np.stack(counts)}
    folders = sorted({path.resolve().parent.name for path in options.recordings})
    if options.labels:
        arrays["labels"] = np.array([folders.index(path.resolve().parent.name) for path in options.recordings])
    np.savez_compressed(options.output, allow_pickle=False, **arrays)
    bins, _, height, width = counts[0].shape
    print(
        f"{options.output}: {number(len(counts))} recordings, {bins} bins of {height} x {width} pixels, "
        f"{number(round(float(np.mean([each.sum() for each in counts]))))} events a recording"
        + (f", classes {', '.join(folders)}" if options.labels else "")
    )
    if options.picture is not None:
        from .plots import draw_bins, save_figure

        save_figure(draw_bins(counts[:1], [options.recordings[0].name]), options.picture)
        print(f"{options.picture}: the bins of {options.recordings[0].name}")
    return 0
