#!/bin/bash
# In a CALC expression 0xFFFFFFFF is -1, though numbers are doubles there and 4294967295 fits.
#
# Versions: EPICS base 7.0.10 (libCom of epicscorelibs 7.0.10.99.0.2).
# Expected: 0xFFFFFFFF and 4294967295 are the same number; A=0xFFFFFFFF is true where A holds it.
# Found: hexadecimal numbers have 32 bits and a sign: 0x80000000 is -2147483648, and 0x100000001
#   does not compile. A status word that was read as 4294967295 never equals 0xFFFFFFFF.
. "$(dirname "$0")/common.bash"
install epicscorelibs==7.0.10.99.0.2

client <<'PYTHON'
import ctypes
from epicscorelibs.lib import Com_dsoinfo

com = ctypes.CDLL(Com_dsoinfo.sofilename)

def calc(expression, a=0.0):
    compiled, problem = ctypes.create_string_buffer(1000), ctypes.c_short()
    if com.postfix(expression.encode(), compiled, ctypes.byref(problem)):
        return "refused"
    arguments, result = (ctypes.c_double * 21)(a), ctypes.c_double()
    com.calcPerform(arguments, ctypes.byref(result), compiled)
    return result.value

seen = {
    expression: calc(expression, 4294967295.0)
    for expression in ("A", "0xFFFFFFFF", "0x80000000", "A=0xFFFFFFFF", "0x100000001")
}
print("versions: epicscorelibs 7.0.10.99.0.2 (EPICS base 7.0.10)")
print("expected: 0xFFFFFFFF is 4294967295, A=0xFFFFFFFF is 1 where A is 4294967295")
for expression, value in seen.items():
    print(f"  {expression}: {value}")
assert list(seen.values()) == [4294967295.0, -1.0, -2147483648.0, 0.0, "refused"], seen
print("found: 0xFFFFFFFF in CALC is -1, and A=0xFFFFFFFF is false where A is 4294967295")
PYTHON
