#!/bin/bash
# In a database file "\002" is no STX: \0 alone is the escape, so the text ends there.
#
# Versions: EPICS base 7.0.10 (epicscorelibs 7.0.10.99.0.2) and 7.0.4 (epicscorelibs 7.0.4.99.1.2).
# Expected: values in a database file have the escapes of C, so "\002GO\003" is STX, G, O, ETX; or else
#   it is an error, as "\101" is.
# Found: "\002GO\003" loads without an error and is an empty text, as it begins with a NUL.
#   Hexadecimal escapes work: "\x02GO\x03".
. "$(dirname "$0")/common.bash"
install epicscorelibs==7.0.10.99.0.2
python -m pip install --quiet --disable-pip-version-check --no-deps --target "$work/older" \
    epicscorelibs==7.0.4.99.1.2 2>"$work/pip.log" || { cat "$work/pip.log" >&2; exit 1; }

cat >"$work/escapes.db" <<'DB'
record(stringin, "esc:octal") { field(VAL, "\002GO\003") }
record(stringin, "esc:hex")   { field(VAL, "\x02GO\x03") }
DB
# Loads the file into a process with the libraries of the IOC, and prints the bytes of each value.
cat >"$work/load.py" <<'PYTHON'
import ctypes, os, sys
from epicscorelibs.lib import Com_dsoinfo, ca_dsoinfo, dbCore_dsoinfo, dbRecStd_dsoinfo

for library in (Com_dsoinfo, ca_dsoinfo, dbCore_dsoinfo, dbRecStd_dsoinfo):
    loaded = ctypes.CDLL(library.sofilename, ctypes.RTLD_GLOBAL)
    if library is dbCore_dsoinfo:
        db = loaded
dbd = os.path.join(os.path.dirname(os.path.dirname(Com_dsoinfo.__file__)), "dbd")
assert db.dbLoadDatabase(b"base.dbd", dbd.encode(), None) == 0
db.registerAllRecordDeviceDrivers.argtypes = [ctypes.c_void_p]
db.registerAllRecordDeviceDrivers(ctypes.c_void_p.in_dll(db, "pdbbase"))
assert db.dbLoadRecords(os.fsencode(sys.argv[1]), b"") == 0
for name in ("octal", "hex"):
    address = ctypes.create_string_buffer(4096)
    assert db.dbNameToAddr(f"esc:{name}.VAL".encode(), address) == 0
    field = ctypes.cast(address, ctypes.POINTER(ctypes.c_void_p))[1]  # DBADDR: precord, pfield
    print(name, ctypes.string_at(field))
PYTHON
new=$(python "$work/load.py" "$work/escapes.db")
old=$(PYTHONPATH="$work/older" python "$work/load.py" "$work/escapes.db")

echo "versions: epicscorelibs 7.0.10.99.0.2 and 7.0.4.99.1.2"
echo 'expected: "\002GO\003" and "\x02GO\x03" are the same four characters'
printf '7.0.10:\n%s\n7.0.4:\n%s\n' "$new" "$old"
[ "$new" = "octal b''
hex b'\\x02GO\\x03'" ]
[ "$old" = "$new" ]
echo 'found: "\002GO\003" is an empty text'
