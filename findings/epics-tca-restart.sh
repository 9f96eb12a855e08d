#!/bin/bash
# After a restart of the IOC the monitors of epics-tca stay silent, though it resubscribes by itself.
#
# Versions: epics-tca 1.1.31; a soft IOC of EPICS base 7.0.10 (epicscorelibs 7.0.10.99.0.2).
# Expected: the client searches again when the connection is lost, finds the restarted IOC within a
#   few seconds, and its monitors go on. Its sources say so ("auto re-subscribing").
# Found: 40 s after the IOC is back, no update of a counter of 10 Hz has come. The channel says
#   RECREATING, and the listener was told nothing. A new program gets updates at once.
. "$(dirname "$0")/common.bash"
install epicscorelibs==7.0.10.99.0.2
install_node epics-tca@1.1.31

cat >"$work/restart.db" <<'DB'
record(calc, "restart:count") { field(CALC, "A+1") field(INPA, "restart:count.VAL") field(SCAN, ".1 second") }
DB
cat >"$work/watch.js" <<'JS'
// Prints "up" at the first update, and at the first one after the line "again"; ends at "state".
const { Context } = require("epics-tca");
(async () => {
    const context = new Context();
    await context.initialize();
    const channel = await context.createChannel("restart:count");
    let told = false;
    await channel.createMonitor(5, () => { if (!told) console.log("up"); told = true; });
    process.stdin.on("data", (line) => {
        told = false;
        if (String(line).includes("state")) { console.log(channel.getStateStr()); process.exit(0); }
    });
})();
JS
soft_ioc "$work/restart.db"
mkfifo "$work/lines"
node "$work/watch.js" <"$work/lines" >"$work/watch.log" 2>"$work/node.log" &
watcher=$!
exec 8>"$work/lines"
sleep 3
kill -9 "${started[0]}"
wait "${started[0]}" 2>/dev/null || true
started=()
sleep 1
echo again >&8
soft_ioc "$work/restart.db"
sleep 40
echo state >&8
wait "$watcher"
second=$(node "$work/watch.js" 2>>"$work/node.log" < <(sleep 4; echo state))

echo "versions: epics-tca 1.1.31, epicscorelibs 7.0.10.99.0.2"
echo "expected: the monitor has an update before the restart, and another one after it"
echo "seen: the first program:" $(grep -E '^(up|[A-Z]+)$' "$work/watch.log")
echo "seen: a new program:" $(grep -E '^(up|[A-Z]+)$' <<<"$second")
[ "$(grep -cx up "$work/watch.log")" = 1 ]
grep -qx RECREATING "$work/watch.log"
grep -qx up <<<"$second"
echo "found: no update within 40 s after the restart; the channel is still RECREATING"
