#!/bin/bash
# To pause one monitor of epics-tca stops all monitors of that server.
#
# Versions: epics-tca 1.1.31; a soft IOC of EPICS base 7.0.10 (epicscorelibs 7.0.10.99.0.2).
# Expected: `monitor.pause()` stops the updates of this monitor, and others go on.
# Found: it sends EVENTS_OFF, which holds for the whole connection to the server. A counter that is
#   monitored beside the paused PV gets no update until the other monitor is resumed.
. "$(dirname "$0")/common.bash"
install epicscorelibs==7.0.10.99.0.2
install_node epics-tca@1.1.31

cat >"$work/pause.db" <<'DB'
record(calc, "pause:count") { field(CALC, "A+1") field(INPA, "pause:count.VAL") field(SCAN, ".1 second") }
record(ao,   "pause:other") { }
DB
soft_ioc "$work/pause.db"
cat >"$work/pause.js" <<'JS'
const { Context } = require("epics-tca");
const seconds = (s) => new Promise((done) => setTimeout(done, s * 1000));
(async () => {
    const context = new Context();
    await context.initialize();
    const monitor = async (name, listener) =>
        (await context.createChannel(name)).createMonitor(5, listener);
    let updates = 0;
    await monitor("pause:count", () => { updates += 1; });
    const other = await monitor("pause:other", () => {});
    const during = async (what) => {
        await seconds(0.5);
        updates = 0;
        await seconds(2);
        console.log("seen:", what, updates > 10 ? "updates of pause:count" : `${updates} updates`);
    };
    await during("at first");
    other.pause();
    await during("pause:other is paused");
    other.resume();
    await during("pause:other is resumed");
    process.exit(0);
})();
JS
seen=$(timeout 60 node "$work/pause.js" 2>"$work/node.log" | grep seen:) || { cat "$work/node.log" >&2; exit 1; }

echo "versions: epics-tca 1.1.31, epicscorelibs 7.0.10.99.0.2"
echo "expected: pause:count is updated while pause:other is paused"
echo "$seen"
[ "$seen" = "seen: at first updates of pause:count
seen: pause:other is paused 0 updates
seen: pause:other is resumed updates of pause:count" ]
echo "found: no update of pause:count while pause:other is paused"
