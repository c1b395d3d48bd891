"""Payloads of streams as the flat vectors that they are in Verilog."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from amaranth.hdl import Shape
from amaranth.lib import data

from polyspike.spec import DeviceError

#: A payload in Python: an integer, of a structure its fields by name, of an array a list.
Item: TypeAlias = "int | Mapping[str, Item] | Sequence[Item]"


class Payload:
    """The fields of a shape, and where their bits are.

    Parameters
    ----------
    shape
        What Amaranth takes as a shape: a number of bits, a range, an enumeration, or a layout of any depth.
    """

    def __init__(self, shape: Any) -> None:
        self._fields: list[tuple[Any, int, Payload]] = []
        plain = Shape.cast(shape)
        try:
            layout = data.Layout.cast(shape)
        except TypeError:
            layout = ()
        for key, field in layout:
            self._fields.append((key, field.offset, Payload(field.shape)))
        self._is_array = isinstance(layout, data.ArrayLayout)
        #: Bits of the vector.
        self.width: int = plain.width
        self._signed = plain.signed
        self._range = range(-(1 << self.width - 1), 1 << self.width)

    def pack(self, item: Item) -> int:
        """Return the vector of an item. Fields of a structure that the item does not have are zero.

        A number may be given as it is with a sign or without, whatever the shape says: -1 and 255 are the same 8 bits.

        Raises
        ------
        DeviceError
            A field does not exist, or a number does not fit into its own.
        """
        if not self._fields:
            if not isinstance(item, int) or item not in self._range:
                raise DeviceError(f"{item!r} is not an integer from {self._range.start} to {self._range.stop - 1}")
            return int(item) & ((1 << self.width) - 1)
        given: dict[Any, Item] = dict(_parts(item))
        vector = 0
        for key, offset, part in self._fields:
            try:
                vector |= part.pack(given.pop(key, 0) if not part._fields else given.pop(key, {})) << offset
            except DeviceError as error:
                raise DeviceError(f"field {key}: {error}") from error
        if given:
            known = ", ".join(str(key) for key, _, _ in self._fields)
            raise DeviceError(f"there is no field {next(iter(given))!r}; there are {known}")
        return vector

    def unpack(self, vector: int) -> Any:
        """Return the item whose vector, in its lowest bits, is `vector`."""
        if self._fields:
            parts = {key: part.unpack(vector >> offset) for key, offset, part in self._fields}
            return list(parts.values()) if self._is_array else parts
        number = vector & ((1 << self.width) - 1)
        return number - (1 << self.width) if self._signed and number >> self.width - 1 else number


def _parts(item: Item) -> Iterable[tuple[Any, Item]]:
    """Return the fields of an item with their names or numbers."""
    if isinstance(item, Mapping):
        return item.items()
    if isinstance(item, Sequence):
        return enumerate(item)
    raise DeviceError(f"{item!r} has no fields")


def differences(got: Item, expected: Item, path: str = "") -> list[str]:
    """Return where two items differ, one text a field. Fields that the expected one leaves out do not count."""
    if isinstance(expected, int):
        return [] if got == expected else [f"{path + ' is ' if path else ''}{got}, not {expected}"]
    there = {} if isinstance(got, int) else dict(_parts(got))
    found = []
    for key, value in _parts(expected):
        name = f"{path}[{key}]" if isinstance(key, int) else f"{path}.{key}" if path else str(key)
        found += differences(there[key], value, name) if key in there else [f"{name} is missing"]
    return found
