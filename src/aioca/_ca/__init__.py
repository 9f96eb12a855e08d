"""libca through ctypes; only this package declares functions of libca."""

import sys

# Before any other module: tokens and addresses of libca are handled as integers of 64 bits, and the
# layouts of its structs are those of 64 bits.
if sys.maxsize < 2**63 - 1:
    raise ImportError("aioca needs a 64-bit Python, and this one has 32 bits")
