"""Save the values of many PVs to a file, compare them, and write them back.

::

    from aioca import snapshot

    taken = await snapshot.take(["SETPOINT", "MODE"])      # read the PVs
    snapshot.save(taken, "shift.json")                     # write the file

    saved = snapshot.load("shift.json")                    # also .sav and .snap files
    for difference in await snapshot.diff(saved):
        print(difference)
    for outcome in await snapshot.restore(saved):
        print(outcome)

`take`, `diff` and `restore` run under asyncio and trio. `save`, `load` and `read_names` use files
only, and block: for a file of many megabytes call them with ``anyio.to_thread.run_sync``.

The modules, from the lowest:

    `_model`        the dataclasses, and the error for files
    `_macros`       the macros of EPICS: ``$(P)``
    `_names`        lists of PVs, and the request files of autosave
    `_json`         JSON that is not trusted
    `_json_format`  the file format of this package
    `_autosave`, `_burt`, `_psi`  the formats of other programs
    `_files`        `load` and `save`: which format a file has, and how it is replaced
    `_text`         entries for a person
    `_read`         read PVs into entries
    `_resolve`      the value to write, from an entry and the type of the PV
    `_compare`      saved values against the PVs
    `_restore`      write, and read back
"""

from .._publish import publish as _publish
from ._compare import diff
from ._files import load, save
from ._macros import parse_macros
from ._model import Difference, Entry, Outcome, Snapshot, SnapshotError, State
from ._names import read_names
from ._read import take
from ._restore import restore

__all__ = [
    "Difference",
    "Entry",
    "Outcome",
    "Snapshot",
    "SnapshotError",
    "State",
    "diff",
    "load",
    "parse_macros",
    "read_names",
    "restore",
    "save",
    "take",
]

_publish(__name__, globals(), __all__)
