#!/bin/bash
# The last sample of an archiver reply reads 5 where 16 was archived, and TIMEOUT instead of COMM.
#
# Versions: epicsarchiver-retrieval-client 1.0.1, protobuf 7.36.2.
# Expected: the Archiver Appliance escapes the bytes 0x1b, 0x0a and 0x0d within a sample, so that
#   lines end at 0x0a; a reader takes every other byte as it is.
# Found: the client strips white space from both ends of what it parts. A last sample whose last
#   byte is 0x20, 0x09, 0x0b or 0x0c loses that byte; the client takes it for one that was cut at a
#   line feed, and puts 0x0a there. A short of 16 (written 0x20) and the alarm status COMM (9) end
#   so. The client logs "Recovered truncated event", and hands out the wrong value.
. "$(dirname "$0")/common.bash"
install 'epicsarchiver-retrieval-client[sync,async]==1.0.1' protobuf==7.36.2

client <<'PYTHON'
from epicsarchiver.retrieval import EPICSEvent_pb2 as proto
from epicsarchiver.retrieval.pb import parse_pb_data

def reply(kind, samples):
    """What the appliance sends: a line for the header, then one for each sample."""
    messages = [proto.PayloadInfo(type=kind, pvname="PV", year=2026)] + samples
    lines = [m.SerializeToString() for m in messages]
    for plain, escaped in (b"\x1b", b"\x1b\1"), (b"\n", b"\x1b\2"), (b"\r", b"\x1b\3"):
        lines = [line.replace(plain, escaped) for line in lines]
    return b"\n".join(lines) + b"\n"

shorts = [proto.ScalarShort(secondsintoyear=s, nano=0, val=v) for s, v in ((1, 16), (2, 16))]
alarms = [proto.ScalarDouble(secondsintoyear=s, nano=0, val=1.5, severity=3, status=9) for s in (1, 2)]
values = [event.val for event in parse_pb_data(reply(proto.SCALAR_SHORT, shorts))[1]]
status = [event.status for event in parse_pb_data(reply(proto.SCALAR_DOUBLE, alarms))[1]]
print("versions: epicsarchiver-retrieval-client 1.0.1, protobuf 7.36.2")
print("expected: values [16, 16], alarm statuses [9, 9]")
print("seen:", values, status)
assert (values, status) == ([16, 5], [9, 10]), (values, status)
print("found: an archived 16 reads 5, and a COMM alarm TIMEOUT, if it is the reply's last sample")
PYTHON
