"""A pytest plugin that writes down what happens, line by line, so that the end of the process loses nothing.

Environment: POLYSPIKE_WITNESS, the file to append lines of JSON to; POLYSPIKE_MUTATED, the module that is mutated;
POLYSPIKE_PATIENCE, the seconds of processor time after which a test is killed, with all of pytest, because it hangs.
"""

import importlib.util
import json
import os
import resource
import sys
import time
from typing import Any


def _write(event: str, **values: Any) -> None:
    module = sys.modules.get(os.environ["POLYSPIKE_MUTATED"])
    line = {"event": event, "imported": getattr(module, "__file__", None), **values}
    with open(os.environ["POLYSPIKE_WITNESS"], "a") as file:
        file.write(json.dumps(line) + "\n")


def pytest_runtest_logstart(nodeid: str) -> None:
    """Say which test begins, and limit what it may use; the processes that it starts have the same limit.

    A test can hang before this process imports the module, so it also says which file that would be.
    """
    spec = importlib.util.find_spec(os.environ["POLYSPIKE_MUTATED"])
    _write("begins", test=nodeid, found=spec and spec.origin)
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    limit = int(time.process_time()) + int(os.environ["POLYSPIKE_PATIENCE"])
    resource.setrlimit(resource.RLIMIT_CPU, (limit, most))


def pytest_runtest_logreport(report: Any) -> None:
    """Say which test failed and why, and which ones did not run."""
    if report.failed:
        message = getattr(getattr(report.longrepr, "reprcrash", None), "message", str(report.longrepr))
        _write("failed", test=report.nodeid, message=message[:1000])
    elif report.skipped:
        _write("skipped", test=report.nodeid)


def pytest_collectreport(report: Any) -> None:
    """Say what could not even be collected."""
    if report.failed:
        _write("uncollected", test=report.nodeid, message=str(report.longrepr)[-1000:])


def pytest_sessionfinish(session: Any, exitstatus: int) -> None:
    """Say how it ended, and how many seconds of processor time it took, those of simulators and compilers included."""
    _write("ended", status=int(exitstatus), seconds=sum(os.times()[:4]))
