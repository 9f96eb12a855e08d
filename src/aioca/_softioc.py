"""The program that `aioca.testing.SoftIoc` runs in a process of its own; not for import.

It loads a database, starts the IOC, and then runs the lines that come on its standard input as
commands of the IOC shell. Each command's output goes to standard output and is followed by a
line with ``MARK``. When the standard input ends, as it does when the parent dies, so does this.
"""

import os
import sys

MARK = "-- aioca --"


def main(database: str, macros: str, access_security: str) -> None:
    """Run until the standard input ends, or says ``exit``."""
    from epicscorelibs import ioc

    def run(command: str) -> None:
        ioc.iocshCmd(command.encode())
        ioc.iocshCmd(f'echo "{MARK}"'.encode())
        ioc.Com.fflush(None)

    if access_security:
        ioc.dbCore.asSetFilename(access_security.encode())
    try:
        ioc.start_ioc(database, macros)
    except RuntimeError as error:
        print(error, flush=True)
        os._exit(1)
    run("")
    for line in iter(sys.stdin.readline, ""):
        command = line.rstrip("\n")
        if command == "exit":
            break
        run(command)
    # No further clean-up: what is left to do for a stopped IOC is only to be gone.
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
