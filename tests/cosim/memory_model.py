"""What a spike memory must hold: every write with its cycle, and what a read may see."""

from polyspike.spec.configuration import WORD_BITS

#: The bits of a word that each half of a mask enables.
_HALVES = (0xFFFFFFFF, 0xFFFFFFFF << 32)


class MemoryModel:
    """Words by address, as of any cycle. What a word is before its first write is not known."""

    def __init__(self) -> None:
        self._writes: dict[int, list[tuple[int, int, int]]] = {}
        #: Reads that were compared, and those that could not be: of a word that was written in the same cycle.
        self.compared = self.skipped = 0

    def write(self, write: dict[str, int], cycle: int) -> None:
        """Take note of a write."""
        enabled = sum(half for index, half in enumerate(_HALVES) if write["mask"] >> index & 1)
        self._writes.setdefault(write["address"], []).append((cycle, write["data"], enabled))

    def compare(self, reader: str, address: int, cycle: int, word: int) -> None:
        """Compare a word that was read in a cycle: it has all writes of the cycles before, and is undefined if there
        is one in the same cycle."""
        writes = self._writes.get(address, [])
        if any(at == cycle for at, _, _ in writes):
            self.skipped += 1
            return
        expected = known = 0
        for at, data, enabled in writes:
            if at < cycle:
                expected, known = expected & ~enabled | data & enabled, known | enabled
        assert known == (1 << WORD_BITS) - 1, f"{reader}: word {address} was never written as a whole"
        assert word == expected, f"{reader}: word {address}, read in cycle {cycle}, is {word:#x}, not {expected:#x}"
        self.compared += 1
