"""A real soft IOC for tests (`SoftIoc`), and a pytest plugin (`aioca.testing.pytest_plugin`).

Nothing but this package is needed. `SoftIoc` runs the IOC of the ``epicscorelibs`` wheel in its own
process, which uses 127.0.0.1 only::

    import os
    from aioca.testing import SoftIoc, free_port, loopback_environment

    port = free_port()
    os.environ.update(loopback_environment(port))     # before Channel Access is first used
    with SoftIoc('record(ai, "$(P)X") { field(VAL, "1") }', macros={"P": "TEST:"}, port=port):
        ...
"""

from .._publish import publish as _publish
from ._ports import free_port, loopback_environment
from ._soft_ioc import SoftIoc, SoftIocError

__all__ = ["SoftIoc", "SoftIocError", "free_port", "loopback_environment"]

_publish(__name__, globals(), __all__)
