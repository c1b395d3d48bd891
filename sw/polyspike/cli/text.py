"""Plain-text output: tables, and numbers as people read them."""

from collections.abc import Sequence


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Return a table with aligned columns: the first `left` columns to the left, the others to the right."""
    cells = [list(headings), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]

    def line(row: Sequence[str]) -> str:
        return "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()

    rule = "  ".join("-" * width for width in widths)
    return "\n".join([line(cells[0]), rule, *(line(row) for row in cells[1:])])


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Return a Markdown table, the first `left` columns to the left, the others to the right."""
    marks = ["---" if column < left else "---:" for column in range(len(headings))]
    return "\n".join("| " + " | ".join(row) + " |" for row in (headings, marks, *rows))


def number(value: int) -> str:
    """Return an integer with thousands separated by commas."""
    return f"{value:,}"


def percent(value: float, digits: int = 1) -> str:
    """Return a fraction as a percentage."""
    return f"{100 * value:.{digits}f} %"
