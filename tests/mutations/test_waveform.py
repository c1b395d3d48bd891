"""The picture in docs/verification.md is what the simulations give."""

from mutations.waveform import PICTURE, picture


def test_picture_is_current() -> None:
    assert PICTURE.read_text() == picture(), f"{PICTURE.name} is stale: run `make docs`"
