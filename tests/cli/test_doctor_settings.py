"""``aioca doctor``: the settings as libca reads them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from aioca._cli.diagnosis.conversation import Conversation
from aioca._cli.diagnosis.diagnose import diagnose
from aioca._cli.diagnosis.examine import PlaceReport, Report
from aioca._cli.diagnosis.findings import Finding, all_is_well, sorted_findings
from aioca._cli.diagnosis.interfaces import Broadcast, broadcasts
from aioca._cli.diagnosis.settings import Settings, read_settings
from aioca._cli.wire.search import Target

UNIT = True

SETTINGS: list[dict[str, str]] = [
    {},
    *({"EPICS_CA_AUTO_ADDR_LIST": text} for text in (
        "YES", "NO", "no", "No", "nO", "nope", "know", "N", "0", "false", "", " NO", "off",
        "x" * 29 + "NO", "x" * 30 + "NO",
    )),
    *({"EPICS_CA_ADDR_LIST": text, "EPICS_CA_AUTO_ADDR_LIST": "NO"} for text in (
        "127.0.0.1", "127.0.0.1:6000", "127.0.0.2:6000 127.0.0.2:6000", "localhost", "127.1",
        "no-such-host.invalid 127.0.0.1", "127.0.0.1,127.0.0.2", "127.0.0.1;127.0.0.2",
        "127.0.0.1:70000", "127.0.0.1:abc", "300.1.1.1", "::1", "127.0.0.1:5000", "",
        "127.0.0.1\t127.0.0.3  127.0.0.2:7000", "127.0.0.1 25240", "25240:6000", "0177.0.0.1",
        "2130706433:6000", "0177", "0x7f000001", "1.2.3.4.5", "[::1]:5064", "fe80::1", "localhost:",
        ":5064", "127.0.0.1/24", "4294967296", "127.0.0.1\x1f127.0.0.2", "http://127.0.0.1",
    )),
    *({"EPICS_CA_SERVER_PORT": text, "EPICS_CA_ADDR_LIST": "127.0.0.9"} for text in (
        "5064", "5000", "5001", "0", "70000", "abc", "6070x", "", "0x1400", " 6070", "-1", "65535",
    )),
    *({"EPICS_CA_REPEATER_PORT": text} for text in ("6065", "5000", "abc", "6065 x", "")),
    *({"EPICS_CA_CONN_TMO": text} for text in (
        "30", "2.5", "0", "-1", "abc", "", "1e3", "nan", "inf", "0.01", "30s", " 7", "1_0",
    )),
]  # fmt: skip
# In a network namespace with nothing but loopback: what libca makes of each, in JSON.
LIBCA = r"""
import ctypes, json, os, re, subprocess, sys
from epicscorelibs.lib import Com_dsoinfo, ca_dsoinfo

subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
seen = []
for number, settings in enumerate(json.load(sys.stdin)):
    ours, theirs = os.pipe()
    if not os.fork():
        os.dup2(theirs, 1)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        os.environ.update(settings)
        com = ctypes.CDLL(Com_dsoinfo.sofilename, ctypes.RTLD_GLOBAL)
        ca = ctypes.CDLL(ca_dsoinfo.sofilename, ctypes.RTLD_GLOBAL)
        ca.ca_context_create(1)
        ca.ca_create_channel(b"NONE", None, None, 0, ctypes.byref(ctypes.c_void_p()))
        ca.ca_client_status(20)
        com.fflush(None)
        os._exit(0)
    os.close(theirs)
    with open(ours) as pipe:
        text = pipe.read()
    os.wait()
    seen.append([
        sorted(set(re.findall('UDP Search destination "(.*)"', text))),
        *(re.search(f"{what} (.*)", text)[1] for what in
          ("default server port", "repeater port", "watchdog period")),
    ])
json.dump(seen, sys.stdout)
"""


def _alone(program: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Run a program where there is no network but loopback."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("EPICS")}
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        ["unshare", "--map-root-user", "--net", sys.executable, "-c", program],
        capture_output=True, text=True, timeout=60, check=False, env=environment, **options,
    )  # fmt: skip


needs_namespace = pytest.mark.skipif(
    not shutil.which("unshare")
    or not shutil.which("ip")
    or _alone(
        "import subprocess; subprocess.check_call(['ip', 'link', 'set', 'lo', 'up'])"
    ).returncode
    != 0,
    reason="needs `ip`, and to be allowed a network namespace",
)


@pytest.mark.process
@needs_namespace
def test_settings_are_read_as_libca_reads_them() -> None:
    done = _alone(LIBCA, input=json.dumps(SETTINGS))
    assert done.returncode == 0, done.stderr
    for environment, (addresses, *rest) in zip(SETTINGS, json.loads(done.stdout), strict=True):
        settings = read_settings(environment, list)
        ours = [f"{p.target.host}:{p.target.port}" for p in settings.places]
        assert sorted(ours) == addresses, environment
        rows = {row.name: row.value for row in settings.rows}
        assert [rows["EPICS_CA_SERVER_PORT"], rows["EPICS_CA_REPEATER_PORT"]] == rest[:2]
        assert float(rows["EPICS_CA_CONN_TMO"]) == pytest.approx(float(rest[2]), nan_ok=True)


def _settings(**environment: str) -> Settings:
    def resolve(host: str) -> str:
        if host == "ioc":
            return "10.1.2.3"
        raise OSError(host)

    return read_settings(environment, lambda: [Broadcast("eth7", "10.1.255.255")], resolve)


@pytest.mark.parametrize(
    ("environment", "severity", "words"),
    [
        ({"EPICS_CA_AUTO_ADDR_LIST": "No"}, "error", "means YES"),
        ({"EPICS_CA_AUTO_ADDR_LIST": "none"}, "warning", "means NO"),
        ({"EPICS_CA_AUTO_ADDR_LIST": "NO"}, "error", "no address to search"),
        ({"EPICS_CA_ADDR_LIST": "gone"}, "error", "there is no host `gone`"),
        ({"EPICS_CA_ADDR_LIST": "x" * 300}, "error", "is not the name of a host"),
        ({"EPICS_CA_ADDR_LIST": "ioc,ioc"}, "error", "blanks go between hosts"),
        ({"EPICS_CA_ADDR_LIST": "ioc:0"}, "error", "no port from 1 to 65535"),
        ({"EPICS_CA_ADDR_LIST": "ioc 25240"}, "error", "takes it for the address 0.0.98.152"),
        ({"EPICS_CA_NAME_SERVERS": "::1"}, "error", "is an IPv6 address"),
        ({"EPICS_CA_ADDR_LIST": "[fe80::1]:5064"}, "error", "Channel Access has IPv4 only"),
        ({"EPICS_CA_ADDR_LIST": "ioc ioc"}, "note", "listed twice"),
        ({"EPICS_CA_NAME_SERVERS": "gone"}, "error", "EPICS_CA_NAME_SERVERS: there is no host"),
        ({"EPICS_CA_SERVER_PORT": "5000"}, "error", "libca uses 5064"),
        ({"EPICS_CA_SERVER_PORT": "http"}, "error", "is not a port"),
        ({"EPICS_CA_SERVER_PORT": "6064x"}, "warning", "is read as 6064"),
        ({"EPICS_CA_SERVER_PORT": ""}, "note", "empty"),
        ({"EPICS_CA_REPEATER_PORT": "99999"}, "error", "libca uses 5065"),
        ({"EPICS_CA_CONN_TMO": "30s"}, "warning", "not a number of seconds"),
        ({"EPICS_CA_CONN_TMO": "-1"}, "error", "not a usable time-out"),
        ({"EPICS_CA_CONN_TMO": "nan"}, "error", "not a usable time-out"),
        ({"EPICS_CA_CONN_TMO": "0.2"}, "warning", "counts as disconnected"),
        ({"EPICS_CA_CONN_TMO": "1e6"}, "warning", "noticed only after"),
        ({"EPICS_CA_MAX_ARRAY_BYTES": "lots"}, "warning", "not a number of bytes"),
        ({"EPICS_CA_MAX_ARRAY_BYTES": "-5"}, "warning", "not a number of bytes"),
        ({"EPICS_CA_MAX_ARRAY_BYTES": "20MB"}, "warning", "is read as 20"),
        ({"EPICS_CA_MAX_ARRAY_BYTES": "1e6"}, "warning", "is read as 1;"),
        ({"EPICS_CA_MAX_ARRAY_BYTES": "100"}, "note", "uses 16384"),
        ({"EPICS_CA_AUTO_ARRAY_BYTES": "true"}, "warning", "means NO"),
        ({"EPICS_CA_AUTO_ARRAY_BYTES": "NO"}, "note", "more than 16408 bytes"),
        ({"EPICS_CA_AUTO_ARRAY_BYTES": "NO"}, "note", "can be written, but not read"),
        ({"EPICS_CA_MAX_SEARCH_PERIOD": "5"}, "note", "60"),
        ({"EPICS_CA_MAX_SEARCH_PERIOD": "long"}, "warning", "not a number"),
        ({"EPICS_CA_MCAST_TTL": "0"}, "warning", "hops"),
        ({"EPICS_CA_ADRR_LIST": "ioc"}, "warning", "EPICS_CA_ADDR_LIST is one"),
    ],
)
def test_mistakes_in_settings(environment: dict[str, str], severity: str, words: str) -> None:
    findings = _settings(**environment).findings
    assert any(f.severity == severity and words in f.what for f in findings), findings
    assert all(f.advice and not f.advice.endswith(".") for f in findings)


def test_a_port_that_is_a_word_of_its_own_is_put_where_it_belongs() -> None:
    for text, advice in [
        ("ioc 25240", 'set EPICS_CA_ADDR_LIST="ioc:25240"'),
        ("ioc:6000 25240", "write host:port, with a colon and no blank"),
        ("25240", "write host:port, with a colon and no blank"),
    ]:
        settings = _settings(EPICS_CA_ADDR_LIST=text)
        assert [f.advice for f in settings.findings] == [advice]
        assert Target("0.0.98.152", 5064) in [p.target for p in settings.places]  # as libca does


@pytest.mark.parametrize(
    ("environment", "advice"),
    [
        (
            {"EPICS_CA_ADDR_LIST": "10.1.2.4:6064"},
            "in EPICS_CA_ADDR_LIST, write port 5064 for this host instead of 6064",
        ),
        (  # without its port, the word would still be searched at another one than 5064
            {"EPICS_CA_ADDR_LIST": "10.1.2.4:6064", "EPICS_CA_SERVER_PORT": "5070"},
            "in EPICS_CA_ADDR_LIST, write port 5064 for this host instead of 6064",
        ),
        (
            {"EPICS_CA_ADDR_LIST": "10.1.2.4", "EPICS_CA_SERVER_PORT": "6064"},
            "unset EPICS_CA_SERVER_PORT, which is the port of addresses without one",
        ),
    ],
    ids=["in the word", "in the word, and another default", "default"],
)
def test_a_wrong_port_is_corrected_where_it_is_set(
    environment: dict[str, str], advice: str
) -> None:
    settings = _settings(EPICS_CA_AUTO_ADDR_LIST="NO", **environment)
    (place,) = settings.places
    closed = PlaceReport(place, "refused", Conversation("refused"), on_default_port=True)
    report = Report(settings, places=[closed], repeater=True)
    (finding,) = [found for found in diagnose(report) if "port 5064" in found.what]
    assert finding.what.startswith("nothing listens at 10.1.2.4:6064")
    assert finding.advice == advice


def test_good_settings_have_no_findings() -> None:
    settings = _settings(
        EPICS_CA_ADDR_LIST="ioc 10.1.2.4:6064 10.9.255.255", EPICS_CA_SERVER_PORT="5070",
        EPICS_CA_NAME_SERVERS="ioc:7000", EPICS_CA_CONN_TMO="12.5", EPICS_CA_AUTO_ADDR_LIST="yes",
        EPICS_CA_MAX_ARRAY_BYTES="20000000", EPICS_CA_BEACON_PERIOD="15", OTHER="EPICS_CA_X",
    )  # fmt: skip
    assert settings.findings == []
    assert [(p.target, p.origin) for p in settings.places] == [
        (Target("10.1.255.255", 5070, True), "broadcast of eth7"),
        (Target("10.1.2.3", 5070), "EPICS_CA_ADDR_LIST"),
        (Target("10.1.2.4", 6064), "EPICS_CA_ADDR_LIST"),
        (Target("10.9.255.255", 5070, True), "EPICS_CA_ADDR_LIST"),
    ]
    assert [p.target for p in settings.name_servers] == [Target("10.1.2.3", 7000)]
    sources = {row.name: row.source for row in settings.rows}
    assert sources["EPICS_CA_SERVER_PORT"] == "environment"
    assert sources["EPICS_CA_REPEATER_PORT"] == "default"
    no = {row.name: row for row in _settings(EPICS_CA_AUTO_ADDR_LIST="No").rows}
    assert no["EPICS_CA_AUTO_ADDR_LIST"].value == "YES"
    assert no["EPICS_CA_AUTO_ADDR_LIST"].source == "environment: No"


@pytest.mark.process
@pytest.mark.skipif(not shutil.which("ip"), reason="needs `ip` to compare with")
def test_broadcast_addresses_are_those_of_the_system() -> None:
    listed = json.loads(subprocess.check_output(["ip", "-json", "-4", "address"], text=True))
    expected = {
        (interface["ifname"], address["broadcast"])
        for interface in listed
        for address in interface["addr_info"]
        if "broadcast" in address and "UP" in interface["flags"]
    }
    found = broadcasts()
    assert found is not None
    assert {(b.interface.partition(":")[0], b.address) for b in found} == expected


def test_findings_come_in_order_of_weight() -> None:
    some = [Finding(s, "x", s, "do", rank) for s, rank in
            [("note", 0), ("error", 3), ("warning", 0), ("error", 1)]]  # fmt: skip
    assert [(f.severity, f.rank) for f in sorted_findings(some)] == [
        ("error", 1), ("error", 3), ("warning", 0), ("note", 0),
    ]  # fmt: skip
    assert all_is_well(some[:1])
    assert not all_is_well(some)
