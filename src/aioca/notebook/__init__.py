"""Values in Jupyter: lists of them as tables, and tables that show updates live.

A single value needs nothing: Jupyter shows it with its units, alarm and time. For lists of values,
such as `aioca.caget` returns for several PVs, ``%load_ext aioca.notebook`` has Jupyter show tables.

    `_table`      a list of values as a table
    `_live`       the updates of a monitor as a table that changes
    `_view`       what a live table shows, and when
    `_extension`  what %load_ext calls
"""

from .._publish import publish as _publish
from ._extension import load_ipython_extension, unload_ipython_extension
from ._live import BlockingLive, Live, live
from ._table import Table, table

__all__ = [
    "table",
    "live",
    "Table",
    "Live",
    "BlockingLive",
    "load_ipython_extension",
    "unload_ipython_extension",
]

_publish(__name__, globals(), __all__)
