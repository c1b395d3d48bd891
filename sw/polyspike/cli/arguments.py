"""Types of command-line arguments."""


def whole(text: str) -> int:
    """Turn an argument into an integer that is not negative."""
    value = int(text)
    if value < 0:
        raise ValueError
    return value


def positive(text: str) -> int:
    """Turn an argument into an integer above zero."""
    value = int(text)
    if value < 1:
        raise ValueError
    return value


#: What argparse calls the types when it refuses a value.
whole.__name__ = "whole number"
positive.__name__ = "positive integer"


def fractions(text: str) -> tuple[float, ...]:
    """Turn an argument into numbers, commas between them."""
    return tuple(float(part) for part in text.split(","))


fractions.__name__ = "list of numbers"
