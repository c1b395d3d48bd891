"""Options of the test suite."""

import os

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--waves",
        action="store_true",
        help="record the waves of cocotb benches: build/waves/<test>/top.gtkw opens in GTKWave (--basetemp: elsewhere)",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--waves"):
        os.environ["WAVES"] = "1"
        config.option.basetemp = config.option.basetemp or str(config.rootpath / "build" / "waves")
