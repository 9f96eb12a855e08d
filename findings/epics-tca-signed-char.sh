#!/bin/bash
# The JavaScript client epics-tca reads the bytes of an image as signed numbers: 255 is -1.
#
# Versions: epics-tca 1.1.31; a soft IOC of EPICS base 7.0.10 (epicscorelibs 7.0.10.99.0.2).
# Expected: a waveform of UCHAR with 1, 127, 128 and 255 reads as these numbers. DBR_CHAR is unsigned
#   in Channel Access (epicsUInt8), and USHORT and ULONG arrays do read right.
# Found: 128 reads as -128 and 255 as -1, so the light half of an 8-bit picture is below zero.
. "$(dirname "$0")/common.bash"
install epicscorelibs==7.0.10.99.0.2
install_node epics-tca@1.1.31

cat >"$work/bytes.db" <<'DB'
record(waveform, "bytes:char")  { field(FTVL, "UCHAR")  field(NELM, "4") field(INP, [1, 127, 128, 255]) }
record(waveform, "bytes:short") { field(FTVL, "USHORT") field(NELM, "2") field(INP, [1, 65535]) }
DB
soft_ioc "$work/bytes.db"
cat >"$work/read.js" <<'JS'
const { Context } = require("epics-tca");
(async () => {
    const context = new Context();
    await context.initialize();
    for (const name of ["bytes:char", "bytes:short"]) {
        const channel = await context.createChannel(name);
        console.log("seen:", name, ...(await channel.get(5)).value);
    }
    process.exit(0);
})();
JS
seen=$(timeout 60 node "$work/read.js" 2>"$work/node.log" | grep seen:) || { cat "$work/node.log" >&2; exit 1; }

echo "versions: epics-tca 1.1.31, epicscorelibs 7.0.10.99.0.2"
echo "expected: bytes:char is 1 127 128 255, bytes:short is 1 65535"
echo "$seen"
[ "$seen" = "seen: bytes:char 1 127 -128 -1
seen: bytes:short 1 65535" ]
echo "found: the elements 128 and 255 of a UCHAR waveform read as -128 and -1"
