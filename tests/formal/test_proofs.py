"""The proofs that are cheap, and that each kind of proof fails where the gateware is wrong."""

import dataclasses
import importlib
import importlib.util
import inspect
import json
import types
from pathlib import Path

import pytest
from amaranth.lib import wiring

from polyspike.formal.prove import Proof, ProofError, prove
from polyspike.formal.suite import proofs
from polyspike.gateware import arbiter, buffer, fire, link

ROOT = Path(__file__).resolve().parents[2]
PROOFS = list(proofs())
#: Yosys does not see /tmp.
BUILD = ROOT / "build/test-formal"


def title(proof: Proof) -> str:
    return f"{proof.block}: {proof.claim}"


def folder(request: pytest.FixtureRequest) -> Path:
    return BUILD / "".join(each if each.isalnum() else "-" for each in request.node.name)


def planted(module: types.ModuleType, right: str, wrong: str) -> types.ModuleType:
    """Return a module again, with something in its text replaced."""
    text = inspect.getsource(module)
    assert text.count(right) == 1, f"{right!r} stands {text.count(right)} times in {module.__name__}"
    spec = importlib.util.spec_from_loader(f"{module.__name__}_faulty", loader=None)
    assert spec is not None
    faulty = importlib.util.module_from_spec(spec)
    faulty.__package__ = module.__package__
    exec(compile(text.replace(right, wrong), str(module.__file__), "exec"), faulty.__dict__)
    return faulty


@pytest.mark.parametrize("proof", [proof for proof in PROOFS if proof.quick], ids=title)
def test_cheap_proofs_hold(proof: Proof, request: pytest.FixtureRequest) -> None:
    assert prove(proof, folder(request)).properties > 0


def test_stream_rules_are_proven_of_every_block_that_makes_streams() -> None:
    """But of those that hand on the streams of blocks inside them, and of `Engine`, whose response benches watch."""
    passing_on = {"Column", "CompactColumn", "Core", "UART", "Engine"}
    modules = [
        importlib.import_module(f"polyspike.gateware.{path.stem}")
        for path in sorted(Path(arbiter.__file__).parent.glob("*.py"))
        if path.stem != "__init__"
    ]
    making = {
        name
        for module in modules
        for name, each in vars(module).items()
        if inspect.isclass(each)
        and issubclass(each, wiring.Component)
        and "Out(stream.Signature" in inspect.getsource(each)
    }
    proven = {proof.block.split(",")[0] for proof in PROOFS if proof.claim == "stream rules"}
    assert len(making) > 15
    assert making - passing_on == proven | {"RoundRobin"}  # whose rules are part of its other proof


@pytest.mark.parametrize(
    ("block", "module", "name", "right", "wrong", "failing", "bounded"),
    [
        ("Threshold, 6", fire, "Threshold", "(difference >= 0)", "(difference > 0)", "search_takes_what_it_can", False),
        ("Buffer: loses", buffer, "Buffer", "spare.eq(self.i.p)", "spare.eq(self.o.p)", "buffer_holds_the_item", True),
        ("RoundRobin, 3", arbiter, "RoundRobin", "reversed(range(1", "list(range(1", "round_so_far", True),
        ("Buffer: stream", buffer, "Buffer", "sync += spared.eq(1)", "sync += self.o.p.eq(0)", "o_payload_holds", True),
        (
            *("FrameDecoder: acc", link, "FrameDecoder"),
            *("crc.valid.eq(byte & framed)", "crc.valid.eq(byte & fills)", "notices_a_wrong_byte", False),
        ),
    ],
    ids=["fire", "buffer", "arbiter", "stream", "link"],
)
def test_proofs_fail_on_faults(
    block: str,
    module: types.ModuleType,
    name: str,
    right: str,
    wrong: str,
    failing: str,
    bounded: bool,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    """From reset on where that is quick to find, otherwise in the step of the induction."""
    proof = next(each for each in PROOFS if title(each).startswith(block))
    if bounded:
        proof = dataclasses.replace(proof, bounded=True, cycles=6)
    monkeypatch.setattr(module, name, getattr(planted(module, right, wrong), name))
    with pytest.raises(ProofError, match=block.split(":")[0]) as caught:
        prove(proof, folder(request))
    assert failing in caught.value.properties
    assert caught.value.trace is not None and "$var" in caught.value.trace.read_text()


def test_valid_that_waits_for_ready_is_noticed(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    proof = next(each for each in PROOFS if title(each).startswith("RoundRobin, 2"))
    wrong = planted(arbiter, "self.o.valid.eq(each.valid)", "self.o.valid.eq(each.valid & self.o.ready)")
    monkeypatch.setattr(arbiter, "RoundRobin", wrong.RoundRobin)
    with pytest.raises(ProofError, match="o_valid_waits_for_no_ready"):
        prove(proof, folder(request))


def test_documents_are_of_these_proofs() -> None:
    written = json.loads((ROOT / "docs/verification/proofs.json").read_text())
    assert [(each["block"], each["claim"]) for each in written] == [(each.block, each.claim) for each in PROOFS]
    text = (ROOT / "docs/verification/proofs.md").read_text()
    assert all(f"| {each['block']} | {each['claim']} | {each['method']} |" in text for each in written)
