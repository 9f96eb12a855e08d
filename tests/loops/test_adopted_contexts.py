"""A context of libca that exists already."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

from tests.support.loops import both_backends, finish

ADOPTED = """
    import ctypes, sys
    import anyio
    from epicscorelibs.ca import cadef
    libca = ctypes.CDLL(cadef.libca._name)  # the same library, without the prototypes of cadef
    libca.ca_current_context.restype = ctypes.c_void_p
    libca.ca_pend_io.argtypes = [ctypes.c_double]
    backend, preemptive = sys.argv[1], int(sys.argv[2])
    assert libca.ca_context_create(preemptive) == 1
    mine = libca.ca_current_context()
    assert mine

    def use_mine():
        assert libca.ca_current_context() == mine
        chid, value = ctypes.c_void_p(), ctypes.c_double()
        assert libca.ca_create_channel(b"PV2", None, None, 0, ctypes.byref(chid)) == 1
        assert libca.ca_pend_io(5.0) == 1
        assert libca.ca_array_get(6, 1, chid, ctypes.byref(value)) == 1
        assert libca.ca_pend_io(5.0) == 1
        assert value.value == 5.0
        assert libca.ca_clear_channel(chid) == 1

    libca.ca_create_channel.argtypes = [
        ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_void_p]
    libca.ca_array_get.argtypes = [
        ctypes.c_long, ctypes.c_ulong, ctypes.c_void_p, ctypes.c_void_p]
    libca.ca_clear_channel.argtypes = [ctypes.c_void_p]
    use_mine()
    from aioca import caget, camonitor, caput, configure

    async def main():
        with anyio.fail_after(10):
            await caput("PV1", 3, wait=True)
            assert await caget("PV1") == 3
            async with camonitor("TICK") as updates:
                await anext(updates)
                await anext(updates)
            use_mine()
            camonitor("TICK", lambda value: None)

    if preemptive:
        for _ in range(2):
            anyio.run(main, backend=backend)
            use_mine()
        libca.ca_context_destroy()
        anyio.run(lambda: caget("PV2"), backend=backend)  # a context of our own, then
        print("done")
    else:
        try:
            anyio.run(main, backend=backend)
        except RuntimeError as error:
            print(error)
        use_mine()
        # libca has read nothing on our behalf, so there is still something to set
        configure(conn_tmo=20)
"""


@both_backends
def test_adopted_context(start: Callable[..., subprocess.Popen[str]], backend: str) -> None:
    """aioca shares a context of the thread. It stays current and usable, and its owner's."""
    assert finish(start(ADOPTED, backend, 1)) == ("done\n", "")


@both_backends
def test_context_without_preemption(
    start: Callable[..., subprocess.Popen[str]], backend: str
) -> None:
    out, err = finish(start(ADOPTED, backend, 0))
    assert "without preemptive callbacks" in out
    assert err == ""
