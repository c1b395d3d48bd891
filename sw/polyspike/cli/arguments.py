"""Types of command-line arguments."""


def positive(text: str) -> int:
    """Turn an argument into an integer above zero."""
    value = int(text)
    if value < 1:
        raise ValueError
    return value


#: What argparse calls the type when it refuses a value.
positive.__name__ = "positive integer"


def fractions(text: str) -> tuple[float, ...]:
    """Turn an argument into numbers, commas between them."""
    return tuple(float(part) for part in text.split(","))


fractions.__name__ = "list of numbers"
