#!/bin/bash
# A row of an NTTable that lacks a cell gets the cell of the next row in p4p, and the last row is lost.
#
# Versions: p4p 4.3.0, numpy 2.4.6.
# Expected: `NTTable.wrap` of rows, one of which has no "name", raises an error, as it does for a row
#   that is no dictionary; or the cell is empty.
# Found: the cell is left out of its column, so the later ones move up: the first row has the name of
#   the second. The columns differ in length then; `unwrap` ends with the shortest and drops a row.
#   A server posts such a table, and a client reads it, without an error.
. "$(dirname "$0")/common.bash"
install p4p==4.3.0 numpy==2.4.6

client <<'PYTHON'
from p4p.client.thread import Context
from p4p.nt import NTTable
from p4p.server import Server, StaticProvider
from p4p.server.thread import SharedPV

table = NTTable([("number", "i"), ("name", "s")])
pv = SharedPV(nt=table, initial=[{"number": 0, "name": "none"}])
provider = StaticProvider("findings")
provider.add("table", pv)

rows = [{"number": 1}, {"number": 2, "name": "shutter"}, {"number": 3, "name": "mirror"}]
with Server(providers=[provider]), Context("pva") as context:
    pv.post(rows)
    value = context.get("table", timeout=10)
    columns = value.value.number.tolist(), list(value.value.name)
    read = [dict(row) for row in NTTable.unwrap(value)]
print("versions: p4p 4.3.0, numpy 2.4.6")
print("posted:  ", rows)
print("expected: an error, or row 2 is the shutter and row 3 is the mirror")
print("columns: ", *columns)
print("read:    ", read)
assert columns == ([1, 2, 3], ["shutter", "mirror"]), columns
assert read == [{"number": 1, "name": "shutter"}, {"number": 2, "name": "mirror"}], read
print("found: where row 1 of a table has no name, p4p gives it the name of row 2, and loses a row")
PYTHON
