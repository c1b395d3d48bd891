"""The planted faults still fit the gateware, and the committed table is about them."""

import ast
import json

import pytest

from mutations.catalogue import MUTATIONS
from mutations.mutation import GATEWARE, ROOT, MutationError
from mutations.report import DATA, PAGE, page
from polyspike.spec import PolyspikeError

#: Files without hardware: the package's own, and what writes Verilog.
WITHOUT = {"__init__.py", "verilog.py"}


def test_every_mutation_applies_and_is_valid_python() -> None:
    for mutation in MUTATIONS:
        assert mutation.find != mutation.replace
        ast.parse(mutation.apply((ROOT / mutation.path).read_text()), mutation.path)


def test_a_stale_mutation_is_named() -> None:
    (mutation, *_) = MUTATIONS
    for text in ("", 2 * mutation.find):
        with pytest.raises(MutationError, match=rf"{mutation.id} is stale: .* must be once") as raised:
            mutation.apply(text)
        assert isinstance(raised.value, PolyspikeError)


def test_names_are_unique_and_tests_exist() -> None:
    assert len({mutation.id for mutation in MUTATIONS}) == len(MUTATIONS)
    assert len({(mutation.block.file, mutation.find, mutation.replace) for mutation in MUTATIONS}) == len(MUTATIONS)
    for mutation in MUTATIONS:
        for test in mutation.tests:
            file, _, name = test.partition("::")
            assert name.partition("[")[0] in (ROOT / file).read_text(), f"{mutation.id}: no test {test}"


def test_every_file_of_the_gateware_has_mutations() -> None:
    files = {path.name for path in (ROOT / GATEWARE).glob("*.py")} - WITHOUT
    assert files - {mutation.block.file for mutation in MUTATIONS} == set()


def test_committed_table_is_about_these_mutations() -> None:
    rows = json.loads(DATA.read_text())
    committed = [(row["block"], row["name"], row["kind"], row["fault"]) for row in rows]
    known = [(each.block.name, each.name, each.kind.value, each.fault) for each in MUTATIONS]
    assert committed == known, "docs/verification/mutations.json is stale: run `make mutations`"
    assert PAGE.read_text() == page(rows)
    caught = [row for row in rows if row["caught_by"]]
    assert len(caught) >= 0.95 * len(rows)
    assert all(row["survives_because"] for row in rows if not row["caught_by"])
