"""Faults by the thousand: no wrong result, no hang. Each inference is exact, or raises a LinkError in its time."""

import collections
import dataclasses
import random
from collections.abc import Callable

import numpy as np
import pytest

from driver.fake import fake_program
from driver.faulty import FATAL, RECOVERABLE, FakePeer, FaultyTransport, Peer, SimulatedPeer
from driver.test_devices import small_network
from polyspike import compiler
from polyspike.compiler.program import Program
from polyspike.cosim.build import core, library
from polyspike.cosim.device import SimulatedTransport
from polyspike.driver import Connection, WordDevice, open_link
from polyspike.golden.device import GoldenDevice
from polyspike.spec import TINY, Configuration, LinkError

TIMEOUT, RUN_TIMEOUT, ATTEMPTS = 1.0, 8.0, 5

#: Seconds in which a request is answered or given up.
LIMIT = max(TIMEOUT * ATTEMPTS, RUN_TIMEOUT)

#: Tiny, with an unpacker and room for a whole image behind the result of the one before.
UNPACKING = TINY.replace(name="unpacking", unpacker=1, rx_bytes=2048)


@dataclasses.dataclass
class Campaign:
    """Inferences over a faulty line until so many faults have happened; opens the device again after each error."""

    peer: Peer
    program: Program
    seed: int

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.faults: collections.Counter[str] = collections.Counter()
        self.outcomes: collections.Counter[str] = collections.Counter()
        self.images = np.random.default_rng(0).integers(0, 256, (6, *self.program.network.input.image)).astype(np.uint8)
        golden = GoldenDevice()
        golden.load(self.program)
        self.expected = golden.infer(self.images).membranes
        # A result that belongs to another image must not look right.
        assert len(np.unique(self.expected, axis=0)) == len(self.images)
        self.transport: FaultyTransport | None = None
        self.device: WordDevice | None = None

    def run(self, faults: int, mean: int, kinds: tuple[str, ...]) -> None:
        goal = self.faults.total() + faults
        self.device = None
        while self.faults.total() < goal:
            if self.device is None or self.transport is None:
                self.transport = FaultyTransport(self.peer, self.rng, mean, kinds)
            before = collections.Counter(self.transport.faults)
            start, requests = self.transport.now(), self.transport.requests
            what = "opened" if self.device is None else "inferred"
            try:
                if self.device is None:
                    device = WordDevice(self.connect, "faulty", self.program.configuration)
                    device.load(self.program)
                    self.device = device
                else:
                    picked = np.array(self.rng.sample(range(len(self.images)), self.rng.randint(1, 4)))
                    trace = self.rng.random() < 0.1
                    result = self.device.infer(self.images[picked], trace=trace)
                    np.testing.assert_array_equal(result.membranes, self.expected[picked])
            except LinkError as error:
                assert len(str(error)) > 20
                self.device = None
                what = f"{what} not: LinkError"
            # Repetitions only make this larger than the bound in the docstring of `Link`, but not without end.
            assert self.transport.now() - start <= (self.transport.requests - requests + 1) * (LIMIT + TIMEOUT)
            happened = self.transport.faults - before
            self.faults += happened
            self.outcomes[f"{what}, {'with' if happened else 'without'} faults"] += 1

    def connect(self, configuration: Configuration) -> Connection:
        assert self.transport is not None
        link, found = open_link(
            self.transport,
            configuration,
            timeout=TIMEOUT,
            run_timeout=RUN_TIMEOUT,
            attempts=ATTEMPTS,
            session=self.rng.randint(1, 0xFFFF),
        )
        return Connection(link, found, "a faulty line", self.transport.close)

    def report(self, title: str) -> None:
        print(f"\n{title}: {self.faults.total()} faults")
        for kind, count in sorted(self.faults.items()):
            print(f"  {kind}: {count}")
        for outcome, count in sorted(self.outcomes.items()):
            print(f"  {outcome}: {count}")


def fake_campaign(streamed: bool) -> Campaign:
    network = small_network()
    return Campaign(FakePeer(network, UNPACKING), fake_program(network, UNPACKING, streamed=streamed), 1 + streamed)


def simulated_campaign() -> Campaign:
    configuration = TINY.replace(name="unpacking", unpacker=1)
    path = library(core(configuration))
    peer = SimulatedPeer(lambda: SimulatedTransport(path))
    return Campaign(peer, compiler.compile(small_network(), configuration), 3)


#: Campaigns: how they are made, how many faults they need, and the bytes from one fault to the next in their phases.
CAMPAIGNS: dict[str, tuple[Callable[[], Campaign], int, tuple[int, int, int]]] = {
    "fake device": (lambda: fake_campaign(False), 6000, (120, 400, 1500)),
    "fake device, streamed weights": (lambda: fake_campaign(True), 4000, (200, 500, 1500)),
    "simulated gateware": (simulated_campaign, 500, (250, 500, 1000)),
}


@pytest.mark.parametrize("name", CAMPAIGNS)
def test_no_wrong_result_and_no_hang(name: str) -> None:
    make, faults, (often, seldom, rarely) = CAMPAIGNS[name]
    campaign = make()
    for mean, share in ((often, 3), (seldom, 5)):
        campaign.run(faults * share // 10, mean, RECOVERABLE)
        campaign.report(f"{name}, what repetitions cure, a fault after {mean} bytes")
    outcomes = campaign.outcomes
    assert outcomes["inferred, with faults"] > 10 * outcomes["inferred not: LinkError, with faults"]
    assert outcomes["opened, with faults"] >= outcomes["opened not: LinkError, with faults"]
    assert not [outcome for outcome in outcomes if outcome.endswith("not: LinkError, without faults")]
    campaign.run(faults // 5, rarely, (*RECOVERABLE, *FATAL))
    campaign.report(f"{name}, everything")
    # Whatever happened before, a sound line is enough to open a device.
    assert outcomes["opened not: LinkError, without faults"] == 0
    assert set(campaign.faults) == {*RECOVERABLE, *FATAL}
    assert campaign.faults.total() >= faults
