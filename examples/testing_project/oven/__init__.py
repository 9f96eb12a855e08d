"""An oven: a setpoint that it follows, and a temperature that has alarm limits."""

from __future__ import annotations

from aioca import FORMAT_TIME, camonitor, caput, wait_for_value


class OvenLostError(Exception):
    """Nobody knows what the oven does now."""


class TooHotError(Exception):
    """The temperature has an alarm."""


class Oven:
    """An oven by the prefix of its PVs."""

    def __init__(self, prefix: str) -> None:
        self.setpoint = f"{prefix}SETPOINT"
        self.temperature = f"{prefix}TEMPERATURE"

    async def heat_to(self, target: float, timeout: float = 30.0) -> float:
        """Set it, wait until it is there within a degree, and return what it is."""
        await caput(self.setpoint, target, wait=True, timeout=timeout)

        def there(temperature: float) -> bool:
            return abs(temperature - target) < 1.0

        return float(+await wait_for_value(self.temperature, there, timeout))

    async def guard(self) -> None:
        """Watch it, and raise when it must not be left alone any more."""
        async with camonitor(
            self.temperature, format=FORMAT_TIME, all_updates=True, notify_disconnect=True
        ) as updates:
            async for temperature in updates:
                if not temperature.ok:
                    raise OvenLostError(str(temperature))
                if temperature.severity:
                    raise TooHotError(f"{temperature} degrees, {temperature.alarm}")
