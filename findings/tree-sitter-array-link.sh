#!/bin/bash
# The grammar for database files takes a JSON object as a link, and not a JSON array.
#
# Versions: tree-sitter-epics-db 0.2.0, tree-sitter 0.26.1, EPICS base 7.0.10
#   (epicscorelibs 7.0.10.99.0.2), pyepics 3.5.10 as client.
# Expected: the grammar and base's own parser agree on what a database file is, at least on
#   field(INP, [1, 2, 3]), the constant of a waveform in the manual.
# Found: the grammar parses {const: [1, 2, 3]} and marks [1, 2, 3] as an error; base loads both.
. "$(dirname "$0")/common.bash"
install tree-sitter-epics-db==0.2.0 tree-sitter==0.26.1 pyepics==3.5.10 epicscorelibs==7.0.10.99.0.2 numpy==2.4.6

cat >"$work/links.db" <<'DB'
record(waveform, "json:array") { field(NELM, 3) field(FTVL, LONG) field(INP, [1, 2, 3]) }
record(waveform, "json:object") { field(NELM, 3) field(FTVL, LONG) field(INP, {const: [1, 2, 3]}) }
DB
soft_ioc "$work/links.db"
DATABASE="$work/links.db" client <<'PYTHON'
import os
import tree_sitter, tree_sitter_epics_db
from epics import caget

parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_epics_db.language()))
with open(os.environ["DATABASE"], "rb") as database:
    seen = ["an error" if parser.parse(line).root_node.has_error else "parsed" for line in database]
loaded = [caget(name).tolist() for name in ("json:array", "json:object")]
print("versions: tree-sitter-epics-db 0.2.0, tree-sitter 0.26.1, epicscorelibs 7.0.10.99.0.2")
print("expected: both are parsed, as the IOC loads both:", *loaded)
print("seen: [1, 2, 3] is", seen[0], "and {const: [1, 2, 3]} is", seen[1])
assert loaded == [[1, 2, 3]] * 2 and seen == ["an error", "parsed"], (loaded, seen)
print("found: field(INP, [1, 2, 3]) is an error to tree-sitter-epics-db, and base loads it")
PYTHON
