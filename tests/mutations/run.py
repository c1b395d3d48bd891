"""Plant every fault of the catalogue in a copy of the gateware, one at a time, and see which test notices.

`make mutations`, or `PYTHONPATH=tests python -m mutations.run --help`. What was found before is not run again: a
result counts as long as the gateware, the mutation and the files of its tests stay what they were. Once there is a
result for every mutation, docs/verification/mutations.json and mutations.md are written.

Nothing in the working tree is changed: each mutation has a copy of hw/ in a temporary folder, which comes first on the
path of its tests, and a plugin of pytest confirms that the mutated module is the one that was imported. The test that
catches a fault has to pass on a copy without one. A fault can also keep a simulation from ending: a test that takes
`_PATIENCE` seconds of processor time, and `_FACTOR` times what it takes without a fault, counts as hung.
"""

import argparse
import contextlib
import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from polyspike.spec import PolyspikeError

from .catalogue import MUTATIONS
from .mutation import GATEWARE, ROOT, Mutation, MutationError, planted
from .report import write_report

#: What is known from earlier runs.
_KEPT = ROOT / "build" / "mutations" / "results.json"

#: Seconds of processor time, and times what a test takes without a fault: who takes longer hangs.
_PATIENCE, _FACTOR = 12, 4

#: The same for tests without a fault.
_SLOWEST = 1800

#: Seconds of real time in which a run of tests has to end, even if it does nothing.
_WAITING = 3 * 3600


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What tests made of a copy of the gateware."""

    #: The test that failed or hung, none if all passed.
    caught_by: str | None
    #: "failed", "hung", or "passed".
    how: str
    message: str
    #: Processor time in all.
    seconds: float


def run_tests(mutation: Mutation | None, test: str, module: str, patience: int) -> Outcome:
    """Run tests on a copy of the gateware, with a fault or without, until the first one fails.

    Parameters
    ----------
    mutation
        The fault, or None.
    test
        A file or a test id, as pytest takes it.
    module
        The module that must have been imported from the copy.
    patience
        Seconds of processor time for each test.

    Raises
    ------
    MutationError
        The module was not imported, or not from the copy; tests were skipped or not found.
    """
    with planted(mutation) as copy:
        witness, log = copy.folder / "witness.jsonl", copy.folder / "pytest.log"
        environment = copy.environment | {"POLYSPIKE_WITNESS": str(witness), "POLYSPIKE_MUTATED": module}
        environment["POLYSPIKE_PATIENCE"] = str(patience)
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "mutations.witness", "-p", "no:cacheprovider"]
        command += ["-o", "pythonpath=", "--basetemp", str(copy.folder / "tmp"), test]
        with log.open("w") as output:
            process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=output, stderr=output, process_group=0
            )
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_WAITING)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        lines = [json.loads(line) for line in witness.read_text().splitlines()] if witness.exists() else []
        text = log.read_text()[-3000:]

    events = {line["event"]: line for line in lines}
    if not lines or "uncollected" in events or "skipped" in events:
        raise MutationError(f"{test} did not run:\n{text}")
    imported = lines[-1]["imported"] or (None if "ended" in events else events["begins"]["found"])
    if imported is None or not Path(imported).is_relative_to(copy.folder):
        raise MutationError(f"{test} has imported {module} from {imported}, not from {copy.folder}")
    if "ended" not in events:
        return Outcome(events["begins"]["test"], "hung", f"no end after {patience} s", patience)
    seconds = events["ended"]["seconds"]
    if "failed" in events:
        return Outcome(events["failed"]["test"], "failed", events["failed"]["message"], seconds)
    if events["ended"]["status"] != 0:
        raise MutationError(f"{test} ended oddly:\n{text}")
    return Outcome(None, "passed", "", seconds)


def module_of(mutation: Mutation) -> str:
    """Return the name of the module that is mutated."""
    return f"polyspike.gateware.{Path(mutation.block.file).stem}"


def gateware_digest() -> str:
    """Return a digest of what a fault can be in, and of what it is made of; boards have tests of their own."""
    digest = hashlib.sha256()
    for folder in (GATEWARE, Path("hw/polyspike/spec")):
        for file in sorted((ROOT / folder).glob("*.py")):
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def key_of(test: str, gateware: str, mutation: Mutation | None = None) -> str:
    """Return what a result depends on: gateware, the test with what is beside it for it, and the fault."""
    digest = hashlib.sha256(gateware.encode())
    file = ROOT / test.partition("::")[0]
    helpers = [each for each in sorted(file.parent.rglob("*.py")) if not each.name.startswith("test_")]
    for each in (file, *helpers):
        digest.update(each.read_bytes() + b"\0")
    if mutation is not None:
        digest.update(mutation.find.encode() + b"\0" + mutation.replace.encode())
    return digest.hexdigest()[:16]


def name_of(mutation: Mutation | None, test: str) -> str:
    """Return the name of the result of a test."""
    return f"{test} with {mutation.id if mutation else 'no fault'}"


class Results:
    """Outcomes by name, on disk, each with the key of what it depends on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.kept: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}

    def get(self, name: str, key: str) -> Outcome | None:
        """Return an outcome that still counts."""
        entry = self.kept.get(name)
        if entry is None or entry["key"] != key:
            return None
        return Outcome(**entry["outcome"])

    def put(self, name: str, key: str, outcome: Outcome) -> None:
        """Keep an outcome."""
        self.kept[name] = {"key": key, "outcome": dataclasses.asdict(outcome)}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(self.kept, indent=1) + "\n")
        new.replace(self.path)


def baseline(test: str, module: str, results: Results, gateware: str) -> Outcome:
    """Return what a test does without a fault, which is to pass.

    Raises
    ------
    MutationError
        It fails.
    """
    name, key = name_of(None, test), key_of(test, gateware)
    outcome = results.get(name, key)
    if outcome is None:
        outcome = run_tests(None, test, module, _SLOWEST)
        if outcome.caught_by is not None:
            raise MutationError(f"{outcome.caught_by} fails without any fault: {outcome.message}")
        results.put(name, key, outcome)
        print(f"{test} passes without a fault ({outcome.seconds:.1f} s)", flush=True)
    return outcome


def kept(mutation: Mutation, results: Results, gateware: str) -> Outcome | None:
    """Return what is known of a mutation: the outcome of the first test that catches it, or of the last one."""
    outcome = None
    for test in mutation.tests:
        outcome = results.get(name_of(mutation, test), key_of(test, gateware, mutation))
        if outcome is None or outcome.caught_by:
            break
    return outcome


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is wanted; return 0 if every fault was caught or its survival is explained."""
    parser = argparse.ArgumentParser(prog="mutations", description="Plant faults in the gateware; see what notices.")
    parser.add_argument("--only", metavar="TEXT", default="", help="mutations with TEXT in their name, block/fault")
    parser.add_argument("--jobs", metavar="N", type=int, default=1, help="mutations at the same time (default: 1)")
    parser.add_argument("--again", action="store_true", help="run even what has a result already")
    parser.add_argument("--list", action="store_true", help="only say what there is")
    options = parser.parse_args(arguments)
    chosen = [each for each in MUTATIONS if options.only in each.id]
    if options.list:
        for each in chosen:
            print(f"{each.id}: {each.fault}")
        return 0
    results, gateware = Results(_KEPT), gateware_digest()
    todo = [each for each in chosen if options.again or kept(each, results, gateware) is None]
    print(f"{len(chosen)} mutations, {len(todo)} to run", flush=True)

    lock = threading.Lock()

    def enough(test: str, module: str) -> int:
        with lock:
            return max(_PATIENCE, int(_FACTOR * baseline(test, module, results, gateware).seconds))

    def run_test(mutation: Mutation, test: str) -> Outcome:
        module = module_of(mutation)
        # A test that is named by itself takes long, and so do the simulators that it starts.
        patience = enough(test, module) if "::" in test else _PATIENCE
        while True:
            outcome = run_tests(mutation, test, module, patience)
            needed = 0 if outcome.caught_by is None else enough(outcome.caught_by, module)
            if outcome.how != "hung" or needed <= patience:
                return outcome
            patience = needed

    def run_one(mutation: Mutation) -> tuple[Mutation, Outcome]:
        for test in mutation.tests:
            name, key = name_of(mutation, test), key_of(test, gateware, mutation)
            outcome = None if options.again else results.get(name, key)
            if outcome is None:
                outcome = run_test(mutation, test)
                with lock:
                    results.put(name, key, outcome)
            if outcome.caught_by:
                break
        return mutation, outcome

    with ThreadPoolExecutor(options.jobs) as pool:
        try:
            for mutation, outcome in pool.map(run_one, todo):
                print(
                    f"{mutation.id}: {outcome.caught_by or 'SURVIVED'} ({outcome.how}, {outcome.seconds:.1f} s)",
                    flush=True,
                )
        finally:
            # After an error, or Ctrl-C, nothing new is begun.
            pool.shutdown(cancel_futures=True)

    outcomes = {each: kept(each, results, gateware) for each in MUTATIONS}
    known = {each: outcome.caught_by for each, outcome in outcomes.items() if outcome is not None}
    if len(known) == len(MUTATIONS):
        write_report(known, {each for each, outcome in outcomes.items() if outcome and outcome.how == "hung"})
    else:
        print(f"{len(MUTATIONS) - len(known)} mutations have no result yet, so no table is written")
    unexplained = [each for each in chosen if known.get(each) is None and not each.survives_because]
    for each in unexplained:
        print(f"{each.id} survived: {each.fault} ({GATEWARE / each.block.file})")
    return 1 if unexplained else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except PolyspikeError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; what was found so far is kept")
