"""The program that `aioca.testing.SoftIoc` runs in a process of its own; not for import.

It loads a database, starts the IOC, and then runs each line of its standard input as a command of
the IOC shell. The output of a command goes to standard output, followed by a line with ``MARK``.
The program ends when its standard input ends, which also happens when the parent process ends.

It loads the libraries of EPICS itself. To import ``epicscorelibs.ioc`` would take longer than
everything else (it imports setuptools), and would also start a PVA server.
"""

import os
import sys
from typing import Any

MARK = "-- aioca --"


def main(database: str, macros: str, access_security: str) -> None:
    """Run the IOC until the standard input ends or has the line ``exit``; does not return."""
    import ctypes

    from epicscorelibs.lib import Com_dsoinfo, ca_dsoinfo, dbCore_dsoinfo, dbRecStd_dsoinfo

    com, _, core, _ = (
        ctypes.CDLL(library.sofilename, ctypes.RTLD_GLOBAL)
        for library in (Com_dsoinfo, ca_dsoinfo, dbCore_dsoinfo, dbRecStd_dsoinfo)
    )
    core.registerAllRecordDeviceDrivers.argtypes = [ctypes.c_void_p]
    # Where fflush() is: Windows does not look for it in the libraries that libCom is linked to
    c_library = com if os.name == "posix" else ctypes.CDLL("ucrtbase")

    def run(command: bytes) -> None:
        com.iocshCmd(command)
        com.iocshCmd(f'echo "{MARK}"'.encode())
        c_library.fflush(None)

    def check(failed: int, what: str) -> None:
        if failed:
            com.errlogFlush()
            c_library.fflush(None)
            sys.stdout.buffer.write(what.encode("utf-8", "surrogateescape") + b"\n")
            sys.stdout.flush()
            os._exit(1)

    core.iocshRegisterCommon()
    dbd = os.path.join(os.path.dirname(os.path.dirname(Com_dsoinfo.__file__)), "dbd")
    check(core.dbLoadDatabase(b"base.dbd", dbd.encode(), None), f"base.dbd is not in {dbd}")
    base = ctypes.c_void_p.in_dll(core, "pdbbase")  # set from here on
    check(core.registerAllRecordDeviceDrivers(base), "the record types cannot be registered")
    if access_security:
        core.asSetFilename(os.fsencode(access_security))
    # Pass on the bytes of the arguments, whatever the locale
    loaded = core.dbLoadRecords(os.fsencode(database), os.fsencode(macros))
    check(loaded, f"cannot load {database}")
    _lock_no_memory(core)
    check(core.iocInit(), "iocInit has failed")
    run(b"")
    for line in iter(sys.stdin.buffer.readline, b""):
        command = line.rstrip(b"\r\n")
        if command == b"exit":
            break
        run(command)
    # Exit without any clean-up: a stopped IOC needs none.
    os._exit(0)


def _lock_no_memory(core: Any) -> None:
    """Keep iocInit from locking all memory of the process, where that is allowed.

    It would lock 40 MB, or 1 GB on free-threaded Python, whose allocator reserves that much.
    """
    import ctypes

    try:
        ctypes.c_int.in_dll(core, "dbThreadRealtimeLock").value = 0
    except ValueError:  # another version of EPICS base
        pass


if __name__ == "__main__":
    main(*sys.argv[1:])
