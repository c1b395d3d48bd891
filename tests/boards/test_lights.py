"""Which lights are lit in which state."""

from typing import Any

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import io
from amaranth.sim import Simulator

from polyspike.gateware.boards import BOARDS, Leds
from polyspike.gateware.boards.board import light


class FakePlatform:
    """Hands out ports that a simulation can look at, the second one inverted."""

    def __init__(self) -> None:
        self.ports: dict[str, io.SimulationPort] = {}

    def request(self, name: str, number: int, *, dir: str) -> io.SimulationPort:
        assert dir == "-"
        assert f"{name} {number}" not in self.ports, "a resource can be requested once"
        port = io.SimulationPort("o", 1, invert=len(self.ports) == 1)
        self.ports[f"{name} {number}"] = port
        return port


#: What shows in (idle, running, error), which are exclusive to an onlooker.
STATES = {
    (1, 0, 0): "idle",
    (0, 1, 0): "running",
    (1, 0, 1): "error",
    (0, 1, 1): "error",
    (0, 0, 0): "none",
}


@pytest.mark.parametrize(
    "leds",
    [
        Leds(idle=("led 0",), running=("led 1",), error=("led 2",)),
        Leds(idle=("led_g 0",), running=("led_g 0", "led_r 0"), error=("led_r 0",)),
        Leds(),
    ],
    ids=["three", "two", "none"],
)
def test_lights_show_the_state(leds: Leds) -> None:
    m = Module()
    idle, running, error = Signal(), Signal(), Signal()
    platform = FakePlatform()
    light(m, platform, leds, idle=idle, running=running, error=error)
    names = {*leds.idle, *leds.running, *leds.error}
    assert set(platform.ports) == names

    async def look(ctx: Any) -> None:
        for (is_idle, is_running, is_error), state in STATES.items():
            ctx.set(idle, is_idle)
            ctx.set(running, is_running)
            ctx.set(error, is_error)
            await ctx.delay(1e-6)
            wanted = set(getattr(leds, state, ()))
            lit = {name for name, port in platform.ports.items() if ctx.get(port.o) != any(port.invert)}
            assert lit == wanted, state

    simulator = Simulator(m)
    simulator.add_testbench(look)
    simulator.run()


@pytest.mark.parametrize("name", BOARDS)
def test_states_look_different(name: str) -> None:
    leds = BOARDS[name].leds
    if leds != Leds():
        assert len({leds.idle, leds.running, leds.error, ()}) == 4
