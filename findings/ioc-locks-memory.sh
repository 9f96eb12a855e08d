#!/bin/bash
# A soft IOC locks all memory of its process if its user may lock memory, as root in a container may.
#
# Versions: EPICS base 7.0.10 (epicscorelibs 7.0.10.99.0.2), Linux.
# Expected: an IOC without real-time threads locks no memory: VmLck in /proc is 0, and
#   the memory that it has is the memory that it uses.
# Found: iocInit calls mlockall() for the present and all later memory, unless the variable
#   dbThreadRealtimeLock is 0. So each mapping becomes resident, used or not. On free-threaded
#   CPython 3.14, whose allocator reserves 1 GB, an IOC of one record has 1.1 GB of resident memory,
#   and some twenty of them made the kernel kill processes on a machine with 24 GB.
# Seen: softIoc: VmLck 1039132 kB; with dbThreadRealtimeLock 0: VmLck 0 kB
# Where the user may not lock memory, this shows nothing, and says so.
. "$(dirname "$0")/common.bash"
install epicscorelibs==7.0.10.99.0.2

if ! python -c 'import ctypes, sys; sys.exit(ctypes.CDLL(None).mlockall(3) != 0)' 2>/dev/null; then
    echo "not shown: this user may not lock memory (ulimit -l $(ulimit -l))"
    exit 0
fi
echo 'record(ao, "lock:X") {}' >"$work/x.db"
cat >"$work/ioc.py" <<'PYTHON'
import ctypes
import sys

from epicscorelibs.ioc import main  # loads the libraries

if sys.argv.pop(1) == "unlocked":
    from epicscorelibs.lib import dbCore_dsoinfo

    core = ctypes.CDLL(dbCore_dsoinfo.sofilename)
    ctypes.c_int.in_dll(core, "dbThreadRealtimeLock").value = 0
main()
PYTHON
locked() { sed -n 's/^VmLck:[^0-9]*\([0-9]*\) kB/\1/p' "/proc/${started[-1]}/status"; }
soft_ioc "$work/x.db" python "$work/ioc.py" locked -d "$work/x.db"
default=$(locked)
stop_all
soft_ioc "$work/x.db" python "$work/ioc.py" unlocked -d "$work/x.db"
without=$(locked)
echo "versions: epicscorelibs 7.0.10.99.0.2"
echo "expected: VmLck 0 kB for an IOC of one record"
echo "softIoc: VmLck $default kB; with dbThreadRealtimeLock 0: VmLck $without kB"
[ "$default" -gt 100000 ] && [ "$without" -eq 0 ]
echo "found: iocInit has locked all memory of the process"
