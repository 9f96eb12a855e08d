#!/bin/bash
# p4p refuses an integer that does not fit in an array, and cuts it in a scalar.
#
# Versions: p4p 4.3.0, numpy 2.4.6, QSRV of epicscorelibs 7.0.10.99.0.2.
# Expected: a put of 2**40 to a longout raises OverflowError, as that of [2**40] to a LONG array.
# Found: the scalar is cut to its low 32 bits without a word: the record holds 0, and for
#   2**32 + 5 it holds 5. So is -1 for an unsigned field (4294967295). Only the array raises.
. "$(dirname "$0")/common.bash"
install p4p==4.3.0 epicscorelibs==7.0.10.99.0.2 numpy==2.4.6

cat >"$work/int.db" <<'DB'
record(longout, "int:scalar") { field(VAL, "1") }
record(waveform, "int:array") { field(NELM, "3") field(FTVL, "LONG") field(INP, [1]) }
DB
soft_ioc "$work/int.db"
client <<'PYTHON'
from p4p import Type, Value
from p4p.client.thread import Context

context = Context("pva")

def put(pv, value):
    try:
        context.put(pv, value, timeout=10)
    except OverflowError:
        return "OverflowError"
    return int(context.get(pv, timeout=10))

unsigned = Value(Type([("x", "I")]))
unsigned.x = -1
seen = put("int:scalar", 2**40), put("int:scalar", 2**32 + 5), unsigned.x, put("int:array", [2**40])
print("versions: p4p 4.3.0, numpy 2.4.6, epicscorelibs 7.0.10.99.0.2")
print("expected: OverflowError four times (2**40, 2**32 + 5, -1 as unsigned, [2**40])")
print("seen:", *seen)
assert seen == (0, 5, 4294967295, "OverflowError"), seen
print("found: p4p puts 2**40 to a longout as 0 and 2**32 + 5 as 5; only an array raises")
PYTHON
