"""Comparing what a design puts out with what a model says, in order."""

from collections import deque
from collections.abc import Iterable

from .payload import Item, differences


class Scoreboard:
    """Compares items with the expected ones in order, and says what differs, where and when.

    An expected structure may leave out fields: those are not compared.

    Parameters
    ----------
    block
        What the items come from; for messages.
    expected
        The items to come; `expect` adds more.
    """

    def __init__(self, block: str, expected: Iterable[Item] = ()) -> None:
        self.block = block
        self._expected: deque[Item] = deque(expected)
        self._received = 0

    @property
    def missing(self) -> int:
        """Items that are still to come."""
        return len(self._expected)

    def expect(self, items: Iterable[Item]) -> None:
        """Expect more items behind those that are still to come."""
        self._expected.extend(items)

    def receive(self, item: Item, cycle: int) -> None:
        """Compare the next item.

        Raises
        ------
        AssertionError
            It is not the expected one, or none was expected. The message names block, index, fields with both values,
            and the cycle.
        """
        index, self._received = self._received, self._received + 1
        where = f"{self.block}: item {index} in cycle {cycle}"
        if not self._expected:
            raise AssertionError(f"{where} comes after the last one that was expected: {item}")
        if found := differences(item, self._expected.popleft()):
            raise AssertionError(f"{where}: {'; '.join(found)} (the whole item: {item})")
