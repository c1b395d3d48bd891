"""The table of planted faults, for machines and for people."""

import json
from collections.abc import Collection, Mapping

from .mutation import ROOT, Mutation

FOLDER = ROOT / "docs" / "verification"
DATA, PAGE = FOLDER / "mutations.json", FOLDER / "mutations.md"

_HEAD = """# Planted faults

Written by `make mutations`, which plants each of these faults in a copy of the gateware and runs the tests of the block
until one fails; see [verification](../verification.md#mutations). {caught} of {all} faults are caught.

"""


def entries(caught_by: Mapping[Mutation, str | None], hung: Collection[Mutation]) -> list[dict[str, str | None]]:
    """Return a row for each mutation.

    Parameters
    ----------
    caught_by
        The test that caught each mutation, or None.
    hung
        Mutations that were caught because that test did not end.
    """
    return [
        {
            "block": each.block.name,
            "name": each.name,
            "file": each.path.as_posix(),
            "kind": each.kind.value,
            "fault": each.fault,
            "caught_by": test,
            "how": None if test is None else "hung" if each in hung else "failed",
            "survives_because": each.survives_because if test is None else None,
        }
        for each, test in caught_by.items()
    ]


def page(rows: list[dict[str, str | None]]) -> str:
    """Return the page for people."""
    caught = sum(row["caught_by"] is not None for row in rows)
    lines = [_HEAD.format(caught=caught, all=len(rows))]
    lines.append("| block | kind | fault | caught by |\n| --- | --- | --- | --- |\n")
    for row in rows:
        if row["caught_by"] is None:
            found = f"**survives**: {row['survives_because']}"
        else:
            found = f"`{row['caught_by']}`" + (" (never ends)" if row["how"] == "hung" else "")
        lines.append(f"| `{row['block']}` | {row['kind']} | {row['fault']} | {found.replace('|', '&#124;')} |\n")
    return "".join(lines)


def write_report(caught_by: Mapping[Mutation, str | None], hung: Collection[Mutation]) -> None:
    """Write both forms of the table and say what they amount to."""
    rows = entries(caught_by, hung)
    FOLDER.mkdir(parents=True, exist_ok=True)
    DATA.write_text(json.dumps(rows, indent=2) + "\n")
    PAGE.write_text(page(rows))
    caught = sum(test is not None for test in caught_by.values())
    print(f"{caught} of {len(rows)} faults caught ({caught / len(rows):.1%}); see {PAGE.relative_to(ROOT)}")
