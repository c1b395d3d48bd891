"""Types of command-line arguments."""


def positive(text: str) -> int:
    """Turn an argument into an integer above zero."""
    value = int(text)
    if value < 1:
        raise ValueError
    return value


#: What argparse calls the type when it refuses a value.
positive.__name__ = "positive integer"
