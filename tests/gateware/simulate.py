"""What the gateware tests share: running a component with testbenches and stream monitors, and describing layers."""

from typing import Any

from amaranth.lib import stream
from amaranth.sim import Simulator

from polyspike.cosim.streams import monitor
from polyspike.gateware import layouts


def run(component: Any, *testbenches: Any, background: tuple[Any, ...] = (), deadline: int = 200_000) -> None:
    """Simulate until all testbenches have ended, watching the rules of every stream of the component.

    Testbenches in `background` do not keep the simulation going. More than `deadline` cycles fail.
    """
    simulator = Simulator(component)
    simulator.add_clock(1e-6)
    for path, _, _ in component.signature.flatten(component):
        if path[-1] == "valid":
            port = component
            for name in path[:-1]:
                port = getattr(port, name)
            simulator.add_process(monitor(port, ".".join(map(str, path[:-1]))))
    for testbench in testbenches:
        simulator.add_testbench(testbench)
    for testbench in background:
        simulator.add_testbench(testbench, background=True)

    async def watchdog(ctx: Any) -> None:
        for _ in range(deadline):
            await ctx.tick()
        raise AssertionError(f"the simulation did not end within {deadline} cycles")

    simulator.add_testbench(watchdog, background=True)
    simulator.run()


def describe(ctx: Any, interface: Any, **registers: Any) -> None:
    """Set descriptor registers of an interface: `fire={"n_pos": 3}`, or, where it has an array of them, a list."""
    for register, values in registers.items():
        members = getattr(interface, register)
        pairs = (
            zip([members], [values], strict=True) if isinstance(values, dict) else zip(members, values, strict=False)
        )
        for member, fields in pairs:
            for name, value in fields.items():
                ctx.set(getattr(member, name), value)


def plain(payload: Any) -> dict[str, Any]:
    """Return the fields of a structure as a dictionary."""
    return {name: payload[name] for name in payload.shape().members}


__all__ = ["describe", "layouts", "plain", "run", "stream"]
