"""The program that `aioca.testing.SoftIoc` runs in a process of its own; not for import.

It loads a database, starts the IOC, and then runs the lines that come on its standard input as
commands of the IOC shell. Each command's output goes to standard output and is followed by a
line with ``MARK``. When the standard input ends, as it does when the parent dies, so does this.

It loads the libraries itself: importing ``epicscorelibs.ioc`` takes longer than all the rest
(setuptools), and starts a PVA server besides.
"""

import os
import sys

MARK = "-- aioca --"


def main(database: str, macros: str, access_security: str) -> None:
    """Run until the standard input ends, or says ``exit``."""
    import ctypes

    from epicscorelibs.lib import Com_dsoinfo, ca_dsoinfo, dbCore_dsoinfo, dbRecStd_dsoinfo

    com, _, core, _ = (
        ctypes.CDLL(library.sofilename, ctypes.RTLD_GLOBAL)
        for library in (Com_dsoinfo, ca_dsoinfo, dbCore_dsoinfo, dbRecStd_dsoinfo)
    )
    core.registerAllRecordDeviceDrivers.argtypes = [ctypes.c_void_p]

    def run(command: bytes) -> None:
        com.iocshCmd(command)
        com.iocshCmd(f'echo "{MARK}"'.encode())
        com.fflush(None)

    def check(failed: int, what: str) -> None:
        if failed:
            com.errlogFlush()
            com.fflush(None)
            sys.stdout.buffer.write(what.encode("utf-8", "surrogateescape") + b"\n")
            sys.stdout.flush()
            os._exit(1)

    core.iocshRegisterCommon()
    dbd = os.path.join(os.path.dirname(os.path.dirname(Com_dsoinfo.__file__)), "dbd")
    check(core.dbLoadDatabase(b"base.dbd", dbd.encode(), None), f"base.dbd is not in {dbd}")
    base = ctypes.c_void_p.in_dll(core, "pdbbase")  # there from here on
    check(core.registerAllRecordDeviceDrivers(base), "the record types cannot be registered")
    if access_security:
        core.asSetFilename(os.fsencode(access_security))
    # The bytes that were given, whatever the locale
    loaded = core.dbLoadRecords(os.fsencode(database), os.fsencode(macros))
    check(loaded, f"cannot load {database}")
    check(core.iocInit(), "iocInit has failed")
    run(b"")
    for line in iter(sys.stdin.buffer.readline, b""):
        command = line.rstrip(b"\n")
        if command == b"exit":
            break
        run(command)
    # No further clean-up: what is left to do for a stopped IOC is only to be gone.
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
