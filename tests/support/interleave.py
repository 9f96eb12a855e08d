"""Runs two threads in every possible order of their steps, to test what they share without a lock.

A step is one operation on a shared object, which is atomic: `Steps.wrap` makes an object whose
operations each wait for their turn. `explore` runs a scenario again and again, each time with
another order of the steps, until all orders were tried.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

_TIMEOUT_SECONDS = 10.0


class Steps:
    """The order in which the threads of one run take their steps."""

    def __init__(self, order: list[int]) -> None:
        self.taken: list[tuple[int, int]] = []  # for each step: the choice, and how many there were
        self._order = order
        self._condition = threading.Condition()
        self._waiting: dict[int, bool] = {}  # by thread: whether it waits for its turn
        self._may_run: dict[int, Callable[[], bool]] = {}
        self._turn: int | None = None
        self._numbers: dict[int, int] = {}  # the number of each thread, by its ident
        self._alive: set[int] = set()

    def step(self, may_run: Callable[[], bool] = lambda: True) -> None:
        """Wait for the turn of this thread, which does not come while ``may_run`` is false.

        Does nothing in a thread that is not scheduled.
        """
        number = self._numbers.get(threading.get_ident())
        if number is None:
            return
        with self._condition:
            self._waiting[number] = True
            self._may_run[number] = may_run
            self._turn = None
            self._condition.notify_all()
            if not self._condition.wait_for(lambda: self._turn == number, _TIMEOUT_SECONDS):
                raise TimeoutError("a step was never scheduled")
            self._waiting[number] = False

    def run(self, *functions: Callable[[], object]) -> None:
        """Run the functions in threads, one step at a time, in the order of this run."""
        errors: list[BaseException] = []

        def body(number: int, function: Callable[[], object]) -> None:
            self._numbers[threading.get_ident()] = number
            try:
                self.step()
                function()
            except BaseException as error:
                errors.append(error)
            finally:
                with self._condition:
                    self._alive.discard(number)
                    self._waiting.pop(number, None)
                    self._turn = None
                    self._condition.notify_all()

        self._alive = set(range(len(functions)))
        threads = [
            threading.Thread(target=body, args=item, daemon=True) for item in enumerate(functions)
        ]
        for thread in threads:
            thread.start()
        with self._condition:
            while self._alive:
                if not self._condition.wait_for(self._all_wait, _TIMEOUT_SECONDS):
                    raise TimeoutError("a thread does not come to its next step")
                if self._alive:
                    able = [each for each in sorted(self._alive) if self._may_run[each]()]
                    assert able, "a deadlock"
                    self._turn = self._choose(able)
                    self._waiting[self._turn] = False
                    self._condition.notify_all()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]

    def _all_wait(self) -> bool:
        return self._turn is None and all(self._waiting.get(number) for number in self._alive)

    def _choose(self, able: list[int]) -> int:
        position = len(self.taken)
        choice = self._order[position] if position < len(self._order) else 0
        self.taken.append((choice, len(able)))
        return able[choice]

    def wrap(self, kind: type, *names: str) -> Any:
        """Return a subclass of which each of these methods is a step."""

        def stepping(name: str) -> Callable[..., Any]:
            method = getattr(kind, name)

            def step_and_call(instance: Any, *args: Any) -> Any:
                self.step()
                return method(instance, *args)

            return step_and_call

        return type(f"Stepping{kind.__name__}", (kind,), {name: stepping(name) for name in names})


class SteppingLock:
    """A lock of which each acquisition is a step."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._lock = threading.Lock()

    def acquire(self, blocking: bool = True) -> bool:
        if blocking:
            self._steps.step(lambda: not self._lock.locked())
        else:
            self._steps.step()
        return self._lock.acquire(blocking=False)

    def release(self) -> None:
        self._lock.release()

    def __enter__(self) -> None:
        assert self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


def explore(scenario: Callable[[Steps], None], limit: int = 100_000) -> int:
    """Run a scenario with each order of the steps; return the number of orders."""
    count = 0
    for order in _orders(scenario):
        count += 1
        assert count <= limit, f"more than {limit} orders, the last one {order}"
    return count


def _orders(scenario: Callable[[Steps], None]) -> Iterator[list[int]]:
    order: list[int] = []
    while True:
        steps = Steps(order)
        try:
            scenario(steps)
        except BaseException:
            print("the order of the steps:", [choice for choice, _ in steps.taken])
            raise
        yield order
        taken = steps.taken
        while taken and taken[-1][0] + 1 >= taken[-1][1]:
            taken.pop()
        if not taken:
            return
        order = [choice for choice, _ in taken[:-1]] + [taken[-1][0] + 1]
