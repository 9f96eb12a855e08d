#!/bin/bash
# For epicsmacrolib a macro that is named without a value is empty; for an IOC it is undefined.
#
# Versions: epicsmacrolib 0.6.1; EPICS base 7.0.10 (libCom of epicscorelibs 7.0.10.99.0.2).
# Expected: epicsmacrolib expands as an IOC does, because it contains the sources of EPICS' macLib.
# Found: with the definitions "P=X:,DEBUG" an IOC expands $(DEBUG=off) to "off": a bare name removes
#   a definition, so "P=X:,P" leaves no P either. epicsmacrolib expands $(DEBUG=off) to an empty text.
. "$(dirname "$0")/common.bash"
install epicsmacrolib==0.6.1 epicscorelibs==7.0.10.99.0.2

client <<'PYTHON'
import ctypes
from epicscorelibs.lib import Com_dsoinfo
from epicsmacrolib import MacroContext

com = ctypes.CDLL(Com_dsoinfo.sofilename)

def ioc(definitions, text):
    """What libCom makes of a text, as dbLoadRecords would."""
    handle, pairs = ctypes.c_void_p(), ctypes.c_void_p()
    com.macCreateHandle(ctypes.byref(handle), None)
    com.macParseDefns(handle, definitions.encode(), ctypes.byref(pairs))
    com.macInstallMacros(handle, pairs)
    expanded = ctypes.create_string_buffer(1000)
    com.macExpandString(handle, text.encode(), expanded, 1000)
    return expanded.value.decode()

def package(definitions, text):
    context = MacroContext(use_environment=False)
    context.define_from_string(definitions)
    return context.expand(text)

cases = [("P=X:,DEBUG=", "$(DEBUG=off)"), ("P=X:,DEBUG", "$(DEBUG=off)"), ("P=X:,P", "$(P=none)")]
seen = [(ioc(*case), package(*case)) for case in cases]
print("versions: epicsmacrolib 0.6.1, epicscorelibs 7.0.10.99.0.2")
print("expected: both expand alike")
for case, (by_ioc, by_package) in zip(cases, seen):
    print(f"  {case}: IOC {by_ioc!r}, epicsmacrolib {by_package!r}")
assert seen == [("", ""), ("off", ""), ("none", "")], seen
print("found: a bare name undefines a macro for an IOC, and makes it empty for epicsmacrolib")
PYTHON
