"""The `polyspike` command: convert, compile, run, info, demo."""
