"""What the tests of ``aioca plot`` share."""

from __future__ import annotations

RECORDS = """
record(ao, "$(P)T") {
    field(VAL, "21.5") field(EGU, "degC") field(PREC, "2") field(PINI, "YES")
    field(HOPR, "50") field(LOPR, "0")
    field(HIGH, "30") field(HSV, "MINOR") field(HIHI, "40") field(HHSV, "MAJOR")
}
record(longout, "$(P)N") {
    field(VAL, "5") field(PINI, "YES") field(LOW, "3") field(LSV, "MINOR")
    field(LOLO, "1") field(LLSV, "MAJOR")
}
record(mbbo, "$(P)MODE") { field(ZRST, "Off") field(ONST, "On") field(VAL, "1") field(PINI, "YES") }
record(bo, "$(P)BARE") {}
record(stringout, "$(P)TEXT") { field(VAL, "hello") field(PINI, "YES") }
record(waveform, "$(P)WAVE") {
    field(FTVL, "DOUBLE") field(NELM, "8") field(INP, [0, 1, 4, 9, 4, 1, 0]) field(EGU, "V")
}
record(calc, "$(P)COUNT") { field(SCAN, ".1 second") field(INPA, "$(P)COUNT") field(CALC, "A+1") }
record(ai, "$(P)UNDEFINED") {}
"""
