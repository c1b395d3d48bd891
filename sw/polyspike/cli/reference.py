"""Reference pages generated from `polyspike.spec`, so that documentation cannot drift from what is built.

`python -m polyspike.cli.reference` writes them; a test fails when the committed pages are stale.
"""

import argparse
import dataclasses
import inspect
from pathlib import Path
from types import ModuleType

from polyspike.spec import NAMED, Configuration, axi, configuration, instructions, link, memory, registers

from .text import markdown

#: Where the pages lie in the repository.
FOLDER = Path(__file__).resolve().parents[3] / "docs" / "reference"

_MARK = (
    "<!-- Generated from polyspike.spec by `make docs`. Do not edit: change hw/polyspike/spec/ and generate again. -->"
)


def _page(title: str, *parts: str) -> str:
    return "\n\n".join([_MARK, f"# {title}", *parts]) + "\n"


def _docstring(module: ModuleType) -> str:
    """Return a module's docstring as Markdown: its `::` blocks and tables laid out with spaces become code blocks."""
    out: list[str] = []
    for block in (inspect.getdoc(module) or "").split("\n\n"):
        lines = block.splitlines()
        # A definition list is set with runs of spaces that only a fixed-width block keeps.
        laid_out = any("    " in line.strip() for line in lines) or any(line.startswith("  ") for line in lines)
        if laid_out and not block.startswith("    "):
            out.append("```text\n" + block.replace("`", "") + "\n```")
        elif block.endswith("::"):
            out.append(block[:-1])
        else:
            out.append(block)
    return "\n\n".join(out)


def instruction_set() -> str:
    """Return the page on the instruction set."""
    formats = instructions.FORMATS.values()
    overview = markdown(
        ("instruction", "opcode", "what it does"),
        [(f"[`{each.name}`](#{each.name.lower()})", str(each.opcode), each.doc) for each in formats],
        left=3,
    )
    parts = [_docstring(instructions), "## Instructions", overview]
    for each in formats:
        rows = [("`opcode`", f"{instructions.OPCODE_BITS - 1}..0", str(instructions.OPCODE_BITS), str(each.opcode), "")]
        for at, field in each.placed():
            top = at + field.width - 1
            bits = str(at) if top == at else f"{top}..{at}"
            values = f"{field.range.start}..{field.range.stop - 1}"
            rows.append((f"`{field.name}`", bits, str(field.width), values, field.doc))
        headings = ("field", "bits", "width", "values", "meaning")
        parts += [f"### {each.name}", each.doc, markdown(headings, rows, left=5)]
    for name, enumeration in (
        ("Pass modes", instructions.PassMode),
        ("Fire kinds", instructions.FireKind),
        ("Random values", instructions.RandomValue),
    ):
        members = [(f"`{member.name}`", str(member.value)) for member in enumeration]
        parts += [f"## {name}", markdown(("name", "value"), members)]
    parts.append(
        f"A layer adds up at most {instructions.PASS_SLOTS} passes before it fires; bits above the last field of an "
        "instruction are zero."
    )
    return _page("Instruction set", *parts)


def register_map() -> str:
    """Return the page on the registers."""
    rows = [
        (str(each.address), f"`{each.name}`", "write" if each.writable else "read", each.doc)
        for each in registers.REGISTERS
    ]
    return _page(
        "Register map",
        "64-bit registers in the address space `REGISTERS`. Counters add up over runs until `COUNTERS_CLEAR` is "
        f"written. `MAGIC` reads {registers.MAGIC:#018x}.",
        markdown(("address", "register", "access", "meaning"), rows, left=4),
    )


def axi_registers() -> str:
    """Return the table of the AXI4-Lite registers, and one of their fields."""
    rows = [(f"`{each.offset:#05x}`", f"`{each.name}`", each.access.value, each.doc) for each in axi.REGISTERS]
    fields = []
    for register in axi.REGISTERS:
        for each in register.fields:
            top = each.low + each.width - 1
            bits = str(top) if each.width == 1 else f"{top}..{each.low}"
            fields.append((f"`{register.name}`", bits, f"`{each.name}`", each.doc))
    return "\n\n".join(
        [
            markdown(("offset", "register", "access", "meaning"), rows, left=4),
            markdown(("register", "bits", "field", "meaning"), fields, left=4),
        ]
    )


def axi_map() -> str:
    """Return the page on the accelerator behind AXI."""
    return _page("Registers behind AXI", axi_rules(), axi_registers())


def axi_rules() -> str:
    """Return how the accelerator behind AXI is driven."""
    return _docstring(axi)


def memory_words() -> str:
    """Return how data lies in memory."""
    return _docstring(memory)


def spaces(each: Configuration) -> str:
    """Return the table of a configuration's address spaces."""
    rows = [(f"`{space.name}`", str(space.value), f"{memory.depth(each, space):,}") for space in memory.Space]
    return markdown(("space", "number", "words"), rows)


def memory_map() -> str:
    """Return the page on the address spaces."""
    rows = []
    for space in memory.Space:
        access = "read, write" if space in memory.READABLE else "write"
        if space is memory.Space.REGISTERS:
            access = "see the [register map](registers.md)"
        depths = [f"{memory.depth(each, space):,}" for each in NAMED.values()]
        rows.append((f"`{space.name}`", str(space.value), access, *depths))
    return _page(
        "Memory map",
        "Words of 64 bits in each address space, of one column for `WEIGHTS` and `PARAMS`:",
        markdown(("space", "number", "access", *(f"`{name}`" for name in NAMED)), rows, left=3),
        "## How data lies in memory",
        memory_words(),
    )


def link_frames() -> str:
    """Return the page on the link's frames."""
    commands = markdown(("command", "value"), [(f"`{each.name}`", str(each.value)) for each in link.Command])
    status = markdown(("status", "value"), [(f"`{each.name}`", str(each.value)) for each in link.Status])
    sizes = (
        f"A request starts with the byte {link.SYNC_REQUEST:#04x}, a response with {link.SYNC_RESPONSE:#04x}. After it "
        f"come {link.REQUEST_HEADER.size} bytes of header in a request and {link.RESPONSE_HEADER.size} in a response; "
        f"the CRC has {link.CRC.size}."
    )
    return _page("Link frames", _docstring(link), sizes, commands, status)


def configurations() -> str:
    """Return the page on the hardware configurations."""
    comments = _field_comments(Configuration)
    rows = [
        (f"`{field.name}`", comments[field.name], *(f"{getattr(each, field.name):,}" for each in NAMED.values()))
        for field in dataclasses.fields(Configuration)
        if field.name != "name"
    ]
    rows.append(("digest", "names this hardware", *(f"`{each.digest}`" for each in NAMED.values())))
    fixed = (
        f"Fixed in all of them: weights of {configuration.WEIGHT_BITS} bits, memory words of {configuration.WORD_BITS} "
        f"bits, addresses of {configuration.ADDRESS_BITS} bits. The architecture version, part of every digest, is "
        f"{configuration.ARCHITECTURE_VERSION}."
    )
    return _page(
        "Configurations",
        "A configuration says how much hardware there is, never what it computes. These have a name; "
        "`Configuration.replace()` makes others.",
        markdown(("field", "meaning", *(f"`{name}`" for name in NAMED)), rows, left=2),
        fixed,
    )


def _field_comments(cls: type) -> dict[str, str]:
    """Return the `#:` comment above each field of a class."""
    comments: dict[str, str] = {}
    pending: list[str] = []
    for line in inspect.getsource(cls).splitlines():
        text = line.strip()
        if text.startswith("#: "):
            pending.append(text[3:])
        elif pending:
            comments[text.split(":")[0]] = " ".join(pending)
            pending = []
    return comments


def pages() -> dict[str, str]:
    """Return every page's text by file name."""
    return {
        "axi.md": axi_map(),
        "configurations.md": configurations(),
        "instructions.md": instruction_set(),
        "link.md": link_frames(),
        "memory.md": memory_map(),
        "registers.md": register_map(),
    }


def main() -> None:
    """Write the pages."""
    parser = argparse.ArgumentParser(prog="python -m polyspike.cli.reference", description="Write docs/reference/.")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where to write (default: docs/reference)")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text)
        print(folder / name)


if __name__ == "__main__":
    main()
