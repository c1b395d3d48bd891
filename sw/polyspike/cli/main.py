"""The `polyspike` command. Heavy libraries are imported by the commands that need them, so that `--help` is quick."""

import argparse
import os
import sys
from collections.abc import Sequence

from polyspike.spec import PolyspikeError

from . import (
    boards,
    build,
    compile,
    convert,
    demo,
    entropy,
    events,
    explore,
    info,
    program,
    rtl,
    run,
    serve,
    simulate_board,
    train,
)

_DESCRIPTION = """\
Run trained PyTorch networks as polarity multi-spike networks on an FPGA, bit for bit.

The usual way:
  convert   a trained network becomes an integer network      (.psnn)
  compile   an integer network becomes a program for hardware (.pspk)
  run       a program is executed on a device, real or simulated

For a chip of your own, `rtl` writes the accelerator as Verilog.
"""

_EPILOG = """\
examples:
  polyspike demo
  polyspike convert net.py --weights net.safetensors --images calibration.npz -o net.psnn
  polyspike compile net.psnn --config large -o net.pspk --report
  polyspike run net.pspk test.npz --device sim
  polyspike info net.pspk

exit status: 0 when all went well, 1 for an error in what was given, 2 for wrong usage.
"""


def parser() -> argparse.ArgumentParser:
    """Return the command's argument parser."""
    top = argparse.ArgumentParser(
        prog="polyspike",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in (
        train,
        events,
        convert,
        compile,
        run,
        info,
        demo,
        entropy,
        explore,
        build,
        boards,
        program,
        rtl,
        serve,
        simulate_board,
    ):
        sub = commands.add_parser(
            module.NAME,
            help=module.SUMMARY,
            description=module.DESCRIPTION,
            epilog=module.EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(sub)
        sub.set_defaults(execute=module.execute)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    Everything a user can cause ends in one line on the standard error output and status 1, without a traceback.
    """
    options = parser().parse_args(arguments)
    try:
        status: int = options.execute(options)
        # Where the output is piped into a program that has gone, this raises here and not at exit.
        sys.stdout.flush()
    except PolyspikeError as error:
        print(f"polyspike: error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"polyspike: error: {where}{error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("polyspike: interrupted", file=sys.stderr)
        return 130
    return status


if __name__ == "__main__":
    sys.exit(main())
