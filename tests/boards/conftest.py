import pytest

from boards.stub import StubCore, StubSerialCore


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Build boards around a core that is done quickly."""
    monkeypatch.setattr("polyspike.gateware.boards.board.SerialCore", StubSerialCore)
    monkeypatch.setattr("polyspike.gateware.boards.usb.Core", StubCore)
