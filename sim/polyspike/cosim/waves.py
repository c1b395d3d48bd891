"""Save files that make GTKWave show a bench's waves grouped by block."""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

from vcd.gtkw import GTKWSave

_MODULE = re.compile(r"^module (\w+) ?\(.*?^endmodule", re.MULTILINE | re.DOTALL)
_FUNCTION = re.compile(r"^ +function .*?endfunction$", re.MULTILINE | re.DOTALL)
_PORT = re.compile(r"^ +(?:input|output) (?:\[(\d+):0\] )?(\w+);", re.MULTILINE)
_REGISTER = re.compile(r"^ +reg (?:\[(\d+):0\] )?([a-zA-Z]\w*);", re.MULTILINE)
_WORD = re.compile(r"(\D+)(\d*)")
_BLOCK = re.compile(r"^ +(\w+) +(\w+) \($", re.MULTILINE)

#: The members of a stream, in the order to show them in.
_STREAM = ("valid", "ready", "payload")


@dataclasses.dataclass(frozen=True)
class _Signal:
    """A signal of a module, and its highest bit; None if it has but one."""

    name: str
    top: int | None

    @property
    def trace(self) -> str:
        return self.name if self.top is None else f"{self.name}[{self.top}:0]"


@dataclasses.dataclass(frozen=True)
class _Module:
    """What of a module there is to show."""

    ports: tuple[_Signal, ...]
    registers: tuple[_Signal, ...]
    #: Modules in it: name and module.
    blocks: tuple[tuple[str, str], ...]


def write_save_file(verilog: str, top: str, waves: Path, target: Path) -> None:
    """Write a GTKWave save file for the waves of a component.

    Each block of the component is a group with its ports, stream by stream, then its registers, then its own blocks.
    All groups but the component's own ports are closed at first.

    Parameters
    ----------
    verilog
        What `polyspike.gateware.verilog` has returned for the component.
    top
        The name of its module.
    waves
        The file with the waves.
    target
        The file to write.
    """
    modules = dict(_modules(verilog))
    with target.open("w") as file:
        save = GTKWSave(file)
        save.dumpfile(str(waves))
        save.savefile(str(target))
        save.treeopen(f"{top}.")
        save.sst_expanded(True)
        _group(save, modules, top, top, top)


def _modules(verilog: str) -> Iterator[tuple[str, _Module]]:
    texts = {found[1]: _FUNCTION.sub("", found[0]) for found in _MODULE.finditer(verilog)}
    for name, text in texts.items():
        ports = _signals(_PORT, text)
        registers = [signal for signal in _signals(_REGISTER, text) if signal not in ports]
        blocks = [(block, module) for module, block in _BLOCK.findall(text) if module in texts]
        yield name, _Module(tuple(ports), tuple(registers), tuple(blocks))


def _signals(pattern: re.Pattern[str], text: str) -> list[_Signal]:
    return [_Signal(name, int(high) if high else None) for high, name in pattern.findall(text)]


def _group(save: GTKWSave, modules: dict[str, _Module], title: str, name: str, path: str) -> None:
    """Write the group of a block."""
    module = modules[name]
    outermost = title == name

    def traces(signals: tuple[_Signal, ...]) -> None:
        for signal in sorted(signals, key=lambda each: _order(each.name)):
            save.trace(f"{path}.{signal.trace}", alias=signal.name)

    with save.group(title, closed=not outermost):
        traces(tuple(port for port in module.ports if outermost or port.name not in ("clk", "rst")))
        if module.registers:
            with save.group(f"{title}: registers", closed=True):
                traces(module.registers)
        for block, its_module in module.blocks:
            _group(save, modules, block, its_module, f"{path}.{block}")


def _order(name: str) -> tuple[bool, str, int, list[tuple[str, int]]]:
    """Return what to sort signals by: clock and reset first, of a stream valid, ready, payload, and 2 before 10."""
    stream, _, part = name.rpartition("__")
    if part in _STREAM:
        return True, stream, _STREAM.index(part), []
    return name not in ("clk", "rst"), stream, 0, [(text, int(number or 0)) for text, number in _WORD.findall(name)]
