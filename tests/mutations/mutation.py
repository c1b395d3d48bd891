"""What a planted fault is: one small change of one gateware file that no test should let pass."""

import contextlib
import dataclasses
import enum
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from polyspike.spec import PolyspikeError

ROOT = Path(__file__).resolve().parents[2]

#: Where the files of `Block.file` are, from the root of the repository or of a copy of it.
GATEWARE = Path("hw/polyspike/gateware")


class MutationError(PolyspikeError):
    """A planted fault does not fit the gateware any more, or the tests that should catch it cannot be used."""


class Kind(enum.Enum):
    """The kinds of faults, by what a designer would have done wrong."""

    OFF_BY_ONE = "off by one"
    DROPPED_CARRY = "dropped carry"
    DROPPED_CONDITION = "dropped condition"
    SWAPPED_OPERAND = "swapped operand"
    MISSED_STALL = "missed stall"
    POLARITY = "wrong polarity"
    SIGN = "wrong sign"
    LOST_RESET = "lost reset"
    STALE = "stale or early value"
    LOST_DATA = "lost data"


@dataclasses.dataclass(frozen=True)
class Block:
    """A component, its file in `GATEWARE`, and the tests that should notice a fault in it, quick ones first."""

    name: str
    file: str
    #: Files and test ids, as pytest takes them.
    tests: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Mutation:
    """A fault: `find`, which occurs exactly once in the block's file, becomes `replace`."""

    block: Block
    #: Unique within the block; `block/name` selects the mutation on the command line.
    name: str
    kind: Kind
    #: What is wrong then, for the table.
    fault: str
    find: str
    replace: str
    #: Tests after the block's own.
    more_tests: tuple[str, ...] = ()
    #: Why no test catches it, if none does.
    survives_because: str = ""

    @property
    def id(self) -> str:
        """Name the mutation."""
        return f"{self.block.name}/{self.name}"

    @property
    def tests(self) -> tuple[str, ...]:
        """Return what pytest is asked to run, in this order."""
        return self.block.tests + self.more_tests

    @property
    def path(self) -> Path:
        """Return the mutated file's path from the root."""
        return GATEWARE / self.block.file

    def apply(self, text: str) -> str:
        """Return the file's text with the fault in it.

        Raises
        ------
        MutationError
            `find` does not occur exactly once.
        """
        found = text.count(self.find)
        if found != 1:
            raise MutationError(
                f"mutation {self.id} is stale: in {self.path} its snippet occurs {found} times, must be once:\n"
                f"{self.find}"
            )
        return text.replace(self.find, self.replace)


@dataclasses.dataclass(frozen=True)
class Copy:
    """A temporary folder with a copy of hw/, and the environment in which Python imports the gateware from there."""

    folder: Path
    environment: dict[str, str]


@contextlib.contextmanager
def planted(mutation: Mutation | None) -> Iterator[Copy]:
    """Make a copy of hw/ with one fault or none in it, for as long as it is needed.

    Raises
    ------
    MutationError
        The mutation does not fit the gateware.
    """
    with tempfile.TemporaryDirectory(prefix="planted-") as name:
        folder = Path(name).resolve()
        shutil.copytree(ROOT / "hw", folder / "hw", ignore=shutil.ignore_patterns("__pycache__"))
        if mutation is not None:
            file = folder / mutation.path
            file.write_text(mutation.apply(file.read_text()))
        roots = [folder / "hw", *(ROOT / each for each in ("sw", "sim", "bitstreams", "tests"))]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(map(str, roots)),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": "1",
            "POLYSPIKE_CACHE": str(folder / "cache"),
        }
        yield Copy(folder, environment)
