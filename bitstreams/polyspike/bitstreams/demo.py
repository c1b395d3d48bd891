"""What the demo network takes on each configuration: measured on the simulated gateware, kept as a file."""

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from polyspike.spec import FileFormatError

#: Where the figures are; `benchmarks/demo_cycles.py` writes them.
FILE = Path(__file__).parent / "demo.json"


@dataclasses.dataclass(frozen=True)
class DemoFigures:
    """What one image of the demo network takes."""

    configuration: str
    #: The configuration's digest.
    digest: str
    #: Images over which the figures were averaged.
    images: int
    cycles_per_image: float
    #: Bytes over the link, in each direction.
    sent_per_image: float
    received_per_image: float

    @classmethod
    def from_dict(cls, fields: object, where: str) -> Self:
        """Read what `dataclasses.asdict` gave. `where` names it in errors."""
        names = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(fields, dict) or sorted(fields) != sorted(names):
            raise FileFormatError(f"{where}: an entry must have the fields {', '.join(names)}")
        return cls(**fields)


def demo_figures(file: Path = FILE) -> dict[str, DemoFigures]:
    """Return the figures by configuration digest; nothing where none were measured."""
    if not file.is_file():
        return {}
    found = [DemoFigures.from_dict(each, str(file)) for each in json.loads(file.read_text())]
    return {each.digest: each for each in found}


def save_demo_figures(figures: Iterable[DemoFigures], file: Path = FILE) -> None:
    """Write the figures."""
    file.write_text(json.dumps([dataclasses.asdict(each) for each in figures], indent=2) + "\n")
