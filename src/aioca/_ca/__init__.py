"""libca through ctypes; only this package declares functions of libca."""

import importlib
import sys
from typing import Any

# Before any other module: tokens and addresses of libca are handled as integers of 64 bits, and the
# layouts of its structs are those of 64 bits.
if sys.maxsize < 2**63 - 1:
    raise ImportError("aioca needs a 64-bit Python, and this one has 32 bits")


def _is_main_interpreter() -> bool:
    for name in ("_interpreters", "_xxsubinterpreters"):  # the latter before Python 3.13
        try:
            interpreters: Any = importlib.import_module(name)
        except ImportError:
            continue
        return bool(interpreters.get_current() == interpreters.get_main())
    return True  # no CPython: it has no others


# ctypes runs a callback of libca's threads in the main interpreter, but with the objects of this
# one. From Python 3.12 on numpy cannot be loaded either; its error blames the installation.
if not _is_main_interpreter():
    raise ImportError(
        "aioca cannot be used in a subinterpreter (concurrent.interpreters, mod_wsgi...), because"
        " libca can call back into the main interpreter only; use a thread or a process instead"
    )
