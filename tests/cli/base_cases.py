"""The commands that are run through the tools of EPICS base and through ours.

A PV is written without its prefix, as ``@ai``. caget and cainfo only read; the commands of caput
are run in this order, each of both tools on records of its own.
"""

from __future__ import annotations

import shlex
from typing import NamedTuple

SCALARS = [
    "ai", "never", "nan", "minusnan", "inf", "minusinf", "low", "high", "huge", "tiny", "half",
    "minushalf", "almosthalf", "minuszero", "int32max", "int32over", "int32min", "int64", "longin",
    "longout", "longmin", "longmax", "int64out", "bi", "bo", "bo:nolabels", "mbbi", "mbbi:over",
    "mbbi:far", "mbbi:farther", "mbbo:digits", "mbbo:nolabels", "string", "string:empty",
    "string:escapes", "string:utf8", "string:full", "lso", "ai.UDF", "ai.PREC", "ai.SCAN",
    "a:name:so:long:that:no:column:would:hold:it", "readonly",
]  # fmt: skip
ARRAYS = [
    "wf:STRING", "wf:CHAR", "wf:UCHAR", "wf:CHAR:full", "wf:CHAR:empty", "wf:CHAR:one", "wf:SHORT",
    "wf:USHORT", "wf:LONG", "wf:ULONG", "wf:INT64", "wf:FLOAT", "wf:DOUBLE", "wf:empty", "wf:one",
    "wf:full", "lso.VAL$", "string.DESC$", "wf:DOUBLE.[1:2]",
]  # fmt: skip
# Of each kind one, for what is tried with many options
SOME = ["ai", "longin", "mbbi:far", "wf:STRING", "wf:DOUBLE", "wf:empty"]

STYLES = [
    "", "-a", "-t", "-c", "-c -a", "-n", "-n -a", "-S", "-S -c", "-s", "-s -a", "-e3", "-f 2",
    "-g10", "-lx", "-lo", "-lb", "-0x", "-0o", "-0b", "-n -0x", "-n -0b", "-F,", "-F, -a",
    "-# 2", "-#1 -a", "-c -#9", "-S -#3", "-f2 -lx -0o",
]  # fmt: skip
ODD_OPTIONS = [
    "-e 0", "-f 0", "-g 0", "-g 17", "-f18", "-f19", "-g 20", "-e -1", "-f x", "-g ''", "-e 3.7",
    "-f3x", "-f3 -e2", "-lx -f3", "-lxx", "-lq", "-0X", "-0x -0o", "-# 0", "-# -1", "-# x", "-# 2x",
    "-#99", "-c -# -1", "-F ''", "-Fab", "-F '\\t'", "-w x", "-w 1x", "-w 5", "-w 0", "-w 1e0",
    "-w ' 2'", "-p 5", "-p x", "-p 100", "-p -1", "-p5x", "-t -a", "-a -t", "-a -a", "-t -t", "-ta",
    "-taw 2", "-d 99", "-d 99 -a", "-d 99 -t", "-a -d 99 -t", "-d -1", "-d 35", "-d DBR_NOSUCH",
    "-d DBR_", "-d double", "-d INT", "-d DBR_TIME", "-d0x6", "-d 6 -d 5", "-d 0 -d 99", "-d6 -t",
    "-d6 -a", "-t -d6", "-a -d6", "-d33 -0x", "-0x -d3", "-d 0 -n -0x", "-s -f3", "-n -S -s -c -t",
]  # fmt: skip
NAMED_TYPES = ["STRING", "DBR_STS_SHORT", "TIME_FLOAT", "DBR_GR_ENUM", "CTRL_CHAR", "DBR_LONG",
               "CTRL_DOUBLE", "STSACK_STRING", "DBR_CLASS_NAME"]  # fmt: skip
TYPES = [*range(35), 37, 38]
STRINGS_ONLY = {0, 7, 14, 21, 28, 37, 38}  # the types that a string can be read as

CAGET_ALONE = [
    "", "-q @ai", "-w", "-d", "-F", "-#", "-l", "-# @ai", "-f @ai @longin", "-w.2 @none",
    "-w 0.2 @none @ai", "-w.2 -c @none @ai", "-w.2 -d6 @none", "-w.2 -a @none", "-w -1 @ai", "''",
    "@ai @ai @bi", "@ai -a", "@ai -F, @longin -t", "-- @ai", "-w .2 -", "-n -q @ai", "-t @hidden",
    "@hidden @ai", "-d6 @hidden", "-d38 @hidden @ai", "-c @wf:ENUM", "-c -d6 @string @ai",
    "-n @wf:ENUM", "-n -0x @wf:ENUM", "-n -c -a @wf:ENUM", "-d24 @wf:ENUM", "-d3 @wf:ENUM",
    "-n -d31 @mbbi @mbbi:far", "-S -d4 @wf:CHAR", "-S -d18 @wf:UCHAR", "-S -d6 @wf:CHAR @ai",
    "-S -#1 @wf:CHAR:one", "-S @wf:CHAR:one", "-S -F, -a @wf:UCHAR", "-d34 -f1 -#2 @wf:DOUBLE",
    "-d34 -lx @ai", "-F, -d20 @wf:full", "-c -d6 @wf:empty", "-c -d20 @wf:empty",
    "-c -d0 @wf:empty", "-c -d37 @wf:empty", "-c -d38 @wf:empty", "-c -d34 @wf:empty",
    "-d34 -e3 @ai", "-d34 -s @ai", "-S -d0 @wf:CHAR", "-d37 @wf:STRING", "-t -d20 @ai @wf:full",
]  # fmt: skip

CAINFO = [
    "", "@ai", "@wf:DOUBLE", "@bi", "@string", "@wf:CHAR", "@wf:FLOAT @wf:SHORT @longin @wf:ENUM",
    "@hidden", "@readonly", "@lso.VAL$", "@ai @ai", "-w .2 @none", "-w .2 @none @ai", "-q @ai",
    "-w", "-s", "-s 0 @ai", "-s x @ai", "-p 300 @ai", "-p x @ai", "-w x @ai", "-s0", "@ai -w 2",
    "''", "-- @ai",
]  # fmt: skip

# -t -c -l change what is shown only; all are applied to what is written here in turn
CAPUT = [
    "", "@ai", "-a @ai", "-q @ai 1", "-w", "-w .2 @none 1", "-c -w .2 @none 1", "-d @ai 1", "'' 1",
    "@half 1", "@half -2", "-t @half 3", "-l @half 4", "-c @half 5", "-c -t @half 5.5", "@half 1 2",
    "@half -6.5", "-w 1 @half -6.5", "-- @half -4", "@half 1 -t", "@half nan", "@half -inf",
    "@half 0x10", "@half ''", "@half ' 5 '", "@half 5x", "@half '1.5\n'", "@half 1e400",
    "@half abc", "-c @half abc", "-t @half abc", "@half 1,2", "-n @half 7", "-s @half 8.5",
    "-w x @half 9", "-p 4 -w 2 -t -c @half 4", "-F, @half 3", "-F, -l @half 3", "-t -l @half 2",
    "-l -t @half 2", "-S @half 1", "-S @half abc", "-a @half 1 5", "-a @half 5 7",
    "-a @half 2 5 6", "-a @half x 6", "-a @half 3 7", "-a -w 2 -- @half 1 -4",
    "@readonly 1", "-c @readonly 1", "-t @readonly 1", "@hidden 1", "@disabled 1", "-c @disabled 1",
    "-c -w 1.5 @slow.A 3", "@never 1", "@nan 5", "@inf nan",
    # Enums
    "@mbbi one", "@mbbi 2", "@mbbi nosuch", "-n @mbbi 1", "-n @mbbi one", "-s @mbbi 1",
    "-s @mbbi zero", "-c @mbbi nosuch", "-c @mbbi one", "@mbbi 20", "@mbbi 70000", "@mbbi -1",
    "@mbbi 1.5", "-l @mbbi one", "-n @mbbi 2 -t", "@mbbi 0x1", "@mbbi 1x", "-n @mbbi 1x",
    "-n @mbbi 1.7", "-a @mbbi 1 zero", "-a @mbbi 1 1", "-S @mbbi one", "-n @mbbi -1",
    "-n @mbbi 70000", "-n @mbbi 20", "@mbbi 'zwei µ'", "@mbbi zwei µ", "-n -t @mbbi 1e1",
    "-t @mbbi 1e0", "-t @mbbi 010", "-t @mbbi ' 1'", "-t @mbbi ''", "-n @mbbi ''",
    "-t @mbbi 5000000000", "-t @mbbi 4294967297", "-t @mbbi +1", "-t @mbbi inf", "-t @mbbi nan",
    "-t @mbbi 0b1", "-t @mbbi zer", "-t @mbbi ZERO", "-t @mbbi ' zero'", "-t @mbbi -0",
    "-t @mbbi -2", "-n -t @mbbi -2", "-t @mbbi '- 1'", "-t @mbbi 0x1p1", "-t @mbbi .5e1",
    "@mbbo:digits 5", "-n @mbbo:digits 5", "@mbbo:digits 4", "-s @mbbo:digits 4",
    "-n @mbbo:digits 4", "@mbbo:digits 3", "@mbbo:digits 2", "-s @mbbo:digits 2",
    "@mbbo:digits 'a b'", "-s @mbbo:digits a b", "@mbbo:digits 17", "@mbbo:digits -1",
    "-n -s -t @mbbi one", "-s -n -t @mbbi 1", "-a -n -t @mbbi 2 1 0", "-t @bo:nolabels ''",
    "@bo On", "@bo on", "-c @bo Off", "-t @mbbo:nolabels 3", "-n -a @wf:ENUM 2 1 2",
    # Strings and long strings
    "@string a b c", "@string 'a b  c'",
    "@string 12345678901234567890123456789012345678901234567890",
    "@string 'a\\nb'", "-S @string abc", "@string ''", "-n @string 5", "@string µ",
    "-a @string 1 abc", "-a @string 2 abc def", "-t @string 'tab\\tnl\\n\\x41\\101\\\\'",
    "-t @string 'a\\0b'", "-t @string '\\q\\?\\'", "-t @string '\\xzz\\x4\\x412'",
    "@wf:CHAR abc", "-c @wf:CHAR abc", "@wf:CHAR 65", "-S @wf:CHAR 'Hello W' x",
    "-S @wf:CHAR:full 'Hello W'", "-S @wf:CHAR:full Hello", "-S @wf:CHAR:full Hell",
    "-S @wf:CHAR:full ''", "-a @wf:CHAR 3 65 66 67", "-S -a @wf:CHAR 3 6 7",
    "-a -S -t @wf:CHAR 3 b c",
    "-l -S @wf:CHAR abc", "-c -S @wf:CHAR abc", "-S -F, @wf:CHAR abc def",
    "-S -t @wf:CHAR '\\a\\b\\f\\r\\v\\e'", "-S @wf:CHAR 'a\\0b'", "@wf:CHAR 7",
    "-t -S @wf:CHAR '\\'",
    "-S -t @wf:UCHAR '\\012\\777\\u0041%s'", "-t -S @wf:CHAR 'µ\\xff'",
    "@long:text.VAL$ abc", "-S @long:text.VAL$ abcdef", "-S @string.DESC$ abcdef",
    "@long:text abcdef", "-S @long:text abc",
    # Arrays and integers
    "@wf:DOUBLE 5", "-a @wf:DOUBLE 3 1 2 3", "-a @wf:DOUBLE 2 4 5 6", "-a @wf:DOUBLE 9 1 2 3",
    "-a @wf:DOUBLE 9 1 2 3 4 5 6", "-a @wf:DOUBLE x 7 8", "-a @wf:DOUBLE 0 7 8",
    "-a @wf:DOUBLE -1 7 8", "-a @wf:DOUBLE 7", "-a -c @wf:DOUBLE 2", "-a @wf:DOUBLE 2 a 2",
    "-a @wf:DOUBLE 3 nan inf -5", "-a -c @wf:DOUBLE 3 1 2 3", "-a -t @wf:DOUBLE 3 1 2 3",
    "-a -l @wf:DOUBLE 3 1 2 3", "-a @wf:STRING 3 a 'b c' d",
    "-a @wf:STRING 2 a 12345678901234567890123456789012345678901234567890", "@wf:STRING 'x y'",
    "-a @wf:STRING 2 'a\\tb' c", "-a @wf:FLOAT 2 1.5 1e39", "-a @wf:SHORT 2 40000 -5",
    "@longin 1.7", "@longin 5000000000", "@longin 0x1F", "@longin abc", "@longin -n 5",
    "-t @longin ''", "-t @longin 1e2", "@longin -7", "@int64out 9007199254740993",
]  # fmt: skip


def arguments(text: str) -> list[str]:
    """The words of a command."""
    return shlex.split(text)


def caget_cases() -> list[str]:
    """All commands of caget."""
    everything = " ".join(f"@{pv}" for pv in SCALARS + ARRAYS)
    cases = [f"{style} @{pv}" for style in ("", "-a", "-c -a") for pv in SCALARS + ARRAYS]
    cases += [f"{style} @{pv}" for style in STYLES for pv in SOME]
    cases += [f"{style} {everything}" for style in STYLES]
    cases += [f"{style} @ai @longin @mbbi @wf:DOUBLE @wf:CHAR" for style in ODD_OPTIONS]
    cases += [f"-d {code} @ai @longin @mbbi @high @wf:DOUBLE @wf:CHAR @low" for code in TYPES]
    cases += [f"-c -d {code} @wf:LONG @mbbi:over @wf:CHAR:one" for code in TYPES]
    cases += [f"-d {code} @string:utf8 @wf:STRING" for code in TYPES if code in STRINGS_ONLY]
    cases += [f"-d {name} @ai @mbbi @wf:FLOAT" for name in NAMED_TYPES]
    return [f"caget {case}" for case in dict.fromkeys(cases + CAGET_ALONE)]


def cases() -> dict[str, list[str]]:
    """All commands that end by themselves, by tool."""
    return {
        "caget": caget_cases(),
        "cainfo": [f"cainfo {case}" for case in CAINFO],
        "caput": [f"caput {case}" for case in CAPUT],
    }


class Monitor(NamedTuple):
    """A command of camonitor.

    Attributes:
        command: with its PVs.
        first: lines before anything changes.
        lines: lines after all `STEPS`.
        own_times: whether it prints times that each process has for itself.
    """

    command: str
    first: int
    lines: int
    own_times: bool = False


# What happens to the records while they are monitored: commands of the IOC
STEPS = [
    "dbpf @m:double 2.5",
    "dbpf @m:double 12",
    "dbpf @m:long 77",
    "dbpf @m:enum 1",
    "dbpf @m:enum 7",
    "dbpf @m:string 'a b'",
    "dbpf @m:array 5",
    "dbpf @m:dead 1",
    "dbpf @m:dead 4",
    "dbpf @m:dead 20",
    "dbpf @m:never.EGU mV",
    "dbpf @m:double.EGU mV",
    "dbpf @m:double -3.25",
]
_ALL = "@m:double @m:long @m:enum @m:string @m:array @m:text @m:never @m:dead"

_SOME = "@m:double @m:long @m:never"

MONITORS = [
    Monitor("camonitor @m:double", 1, 4),
    Monitor(f"camonitor {_ALL}", 8, 16),
    Monitor(f"camonitor -n {_ALL}", 8, 16),
    Monitor(f"camonitor -s -S {_ALL}", 8, 16),
    Monitor(f"camonitor -# 2 -F, {_ALL}", 8, 16),
    Monitor(f"camonitor -#1 -S -e3 {_ALL}", 8, 16),
    Monitor(f"camonitor -lx -0x -n {_ALL}", 8, 16),
    Monitor(f"camonitor -f 2 -0b {_ALL} -F,", 8, 16),
    Monitor(f"camonitor -m v {_ALL}", 8, 16),
    Monitor(f"camonitor -m a {_ALL}", 8, 11),
    Monitor(f"camonitor -m l {_ALL}", 8, 17),
    Monitor(f"camonitor -m p {_ALL}", 8, 10),
    Monitor(f"camonitor -m vap {_ALL}", 8, 18),
    Monitor("camonitor -m pq @m:double", 1, 4),
    Monitor("camonitor -t s @m:double", 1, 4),
    *(
        Monitor(f"camonitor -t {key} -m vap {_SOME}", 3, 9)
        for key in ("sr", "rs", "si", "sI", "srI", "sn", "n", "r", "iI", "x", "''")
    ),
    *(
        Monitor(f"camonitor -t {key} -m vap {_SOME}", 3, 9, own_times=True)
        for key in ("c", "cr", "ci", "cI", "sc", "scr", "sci", "scI")
    ),
    Monitor(f"camonitor -F, -t sr {_SOME}", 3, 7),
    Monitor(f"camonitor -F, -t c {_SOME}", 3, 7, own_times=True),
    Monitor("camonitor -w 4 @m:long @none", 2, 3),
    Monitor("camonitor -F, -w .5 @none @nothing", 2, 2),
    Monitor("camonitor @m:long @m:long", 2, 4),
    Monitor("camonitor @wf:CHAR @wf:STRING @wf:empty @string:escapes @mbbi:far", 5, 5),
    Monitor("camonitor -w x -f99 -gx -p y -# z -l7 -07 @m:long", 1, 2),
    Monitor("camonitor", 0, 0),
    Monitor("camonitor -q @m:long", 0, 0),
    Monitor("camonitor -a @m:long", 0, 0),
    Monitor("camonitor -m", 0, 0),
]
