"""What the tests with a hostile server share."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from aioca import DBR_DOUBLE, CAError
from tests.support.hostile import ERROR, HostileServer, Request, message, payload
from tests.support.programs import environment_for

SOON = 0.15  # the timeout of a call that is never answered
NOWHERE = 0xFFFFFF00  # the id of nothing; those of libca count up from 0


async def outcome(pv: str, call: Awaitable[Any], within: float = 5.0) -> Any:
    """What it brought, or the error; which is one of this package's and names the PV."""
    began = time.monotonic()
    try:
        found = await call
    except CAError as error:
        assert error.name == pv
        assert pv in str(error)
        assert [failure.name for failure in error.failures] == [pv]
        assert error
        found = error
    assert time.monotonic() - began < within
    return found


async def told(server: HostileServer, condition: Callable[[], Any]) -> Any:
    return await anyio.to_thread.run_sync(server.wait_for, condition)


def refusal(request: Request, command: int, status: int, context: bytes = b"", **of: int) -> bytes:
    """The message that reports an error with an earlier request: its header, and some words."""
    header = message(
        command, type=of.get("type", request.type), count=of.get("count", request.count),
        cid=of.get("cid", request.cid), available=of.get("available", request.available),
    )  # fmt: skip
    return message(ERROR, header + context, cid=request.cid, available=status)


GOOD = payload(DBR_DOUBLE, 2.5)


def start(ports: list[int], program: str, *arguments: object) -> subprocess.Popen[str]:
    """A client in a process of its own, which tells where it was if it crashes."""
    environment = environment_for(ports)
    return subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(program),
         *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


def finish(process: subprocess.Popen[str], timeout: float) -> tuple[int | None, str, str]:
    """How it ended, None if it did not, and what it printed."""
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        return None, *process.communicate()
    return process.returncode, out, err
