"""Ctrl-C, for commands that go on until it comes."""

import signal


def heed_interrupts() -> None:
    """Let SIGINT raise KeyboardInterrupt, even where a shell ignores it for what runs in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
