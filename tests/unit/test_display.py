"""What notebooks show: the HTML and text of values and tables, without a notebook."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from aioca import ECA, CANothing
from aioca._errors import Failure, error_for
from aioca.notebook import live, load_ipython_extension, table, unload_ipython_extension
from aioca.types import Alarm, _rebuild

TIME_NS = 1_795_923_252_123_456_789


def value(plain: Any, **attributes: Any) -> Any:
    """An augmented value with these attributes, as it comes out of a pickle."""
    kind = "ca_array" if isinstance(plain, np.ndarray) else f"ca_{type(plain).__name__}"
    return _rebuild(kind, plain, {"name": "PV", "ok": True, **attributes})


def in_alarm(severity: int, **attributes: Any) -> Any:
    names = ("NO_ALARM", "MINOR", "MAJOR", "INVALID")
    alarm = Alarm("HIHI" if severity else "NO_ALARM", names[severity])
    return value(1.5, severity=severity, alarm=alarm, **attributes)


class Page(HTMLParser):
    """The elements of a piece of HTML: tags with attributes, and the text of each ``td``."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def shown(thing: Any) -> list[str]:
    """The texts of what a notebook shows."""
    return Page(thing._repr_html_()).texts


# -- One value -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plain", "attributes", "text"),
    [
        (25.123456789, {}, "25.123456789"),
        (25.123456789, {"precision": 3}, "25.123"),
        (25.5, {"precision": 0}, "25.5"),  # nobody has set it: no digit may be lost
        (2e-9, {"precision": 2}, "2.00e-09"),
        (math.nan, {"precision": 2}, "nan"),
        (math.inf, {}, "inf"),
        (-7, {}, "-7"),
        (1, {"enums": ["Off", "Manual"]}, "Manual (1)"),
        (5, {"enums": ["Off", "Manual"]}, "5"),
        (0, {"enums": [""]}, "0"),
        ("oven", {}, "oven"),
        ("two\nlines", {}, "two\nlines"),
        ("x" * 1000, {}, "x" * 200 + "… (1,000 characters)"),
        (b"\0\xff", {}, "b'\\x00\\xff'"),
        (np.array([]), {}, "[]"),
        (np.array([0.1, 2]), {"precision": 1}, "[0.1, 2.0]"),
        (np.array([0.1], "f4"), {}, "[0.1]"),
        (np.array(["a", "b" * 50]), {}, "[a, " + "b" * 40 + "… (50 characters)]"),
        (np.array([1, 0], "u2"), {"enums": ["Off", "On"]}, "[On (1), Off (0)]"),
        (np.arange(1e6), {}, "[0.0, 1.0, 2.0, 3.0, …, 999998.0, 999999.0] 1,000,000 elements"
         " from 0 to 999999"),
        (np.full(9, np.nan), {}, "[nan, nan, nan, nan, …, nan, nan] 9 elements"),
    ],
)  # fmt: skip
def test_the_text_of_a_value(plain: Any, attributes: dict[str, Any], text: str) -> None:
    name, *texts = shown(value(plain, **attributes))
    assert (name, texts) == ("PV", [text])


def test_a_value_with_everything() -> None:
    html = in_alarm(2, units="degC", precision=1, timestamp_ns=TIME_NS)._repr_html_()
    name, text, units, alarm, time = Page(html).texts
    assert (name, text, units, alarm) == ("PV", "1.5", "degC", "MAJOR HIHI")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.123", time)
    rounded = Page(value(1.25, precision=1)._repr_html_())
    assert rounded.texts[1] == "1.2"
    assert [tags["title"] for _, tags in rounded.tags if "title" in tags] == ["1.25"]


def test_a_record_that_was_never_processed_has_no_time() -> None:
    assert shown(value(0.0, timestamp_ns=631152000 * 10**9)) == ["PV", "0.0", "never"]


def test_each_severity_has_a_badge_that_is_readable_on_any_page() -> None:
    """A badge brings its text colour and its background; nothing else has a fixed colour."""
    colours = []
    for severity in (1, 2, 3):
        html = in_alarm(severity)._repr_html_()
        colours += re.findall(r"background:(#\w+);color:(#\w+)", html)
        others = re.sub(r"background:#\w+;color:#\w+", "", html)
        assert not re.search(r"(?<!-)color:|#[0-9a-f]{3}", others)
    assert len(set(colours)) == 3
    for pair in colours:
        bright, dark = sorted((luminance(colour) for colour in pair), reverse=True)
        assert (bright + 0.05) / (dark + 0.05) > 4.5  # the contrast that WCAG asks for
    assert "background" not in in_alarm(0)._repr_html_()


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_a_severity_that_does_not_exist_is_shown_as_invalid() -> None:
    odd = value(1, severity=77, alarm=Alarm("99", "77"))._repr_html_()
    assert "77 99" in odd and "#a21caf" in odd


def test_what_is_no_value_of_a_pv_is_shown_as_before() -> None:
    array = value(np.arange(9.0))
    assert array[2:4]._repr_html_() is None
    assert not hasattr(array * 2, "_repr_html_")
    assert not hasattr(+value(1.5), "_repr_html_")


def test_outcomes() -> None:
    assert shown(CANothing("PV")) == ["PV", "done"]
    lost = CANothing("PV", ECA.DISCONN, detail="while reading")
    assert shown(lost) == ["PV", str(lost).removeprefix("PV: "), "disconnected"]
    assert shown(CANothing("PV", ECA.TIMEOUT))[-1] == "timeout"
    assert shown(CANothing("PV", ECA.NOWTACCESS))[-1] == "NOWTACCESS"
    assert shown(CANothing("PV", 12345))[-1] == "error 12345"
    both = error_for([Failure("A", 80, "x"), Failure("B", 192, "y")])
    assert "2 PVs failed" in shown(both)[1]


# -- Curves ----------------------------------------------------------------------------------------


def points(array: Any) -> list[tuple[float, float]]:
    found = re.findall(r'points="([^"]*)"', value(array)._repr_html_())
    if not found:
        return []
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in found[0].split())]


def test_the_curve_of_an_array() -> None:
    assert points(np.array([0, 1, 0])) == [(1.0, 27.0), (80.0, 1.0), (159.0, 27.0)]
    peak = np.zeros(1_000_000)
    peak[123_456] = 1.0
    drawn = points(peak)
    assert len(drawn) <= 120
    assert [x for x, y in drawn if y == 1.0] == pytest.approx([1 + 158 * 0.123456], abs=0.1)
    gap = points(np.array([0, np.nan, np.inf, 3.0]))
    assert gap == [(1.0, 27.0), (159.0, 1.0)]


@pytest.mark.parametrize(
    "array",
    [np.array([]), np.array([1.0]), np.full(5, 3), np.full(5, np.nan), np.array(["a", "b"]),
     np.array([-1.7e308, 1.7e308])],
)  # fmt: skip
def test_an_array_without_a_curve(array: Any) -> None:
    assert points(array) == []


# -- Tables ----------------------------------------------------------------------------------------


def test_a_table_has_the_columns_that_its_values_have() -> None:
    plain = Page(table([value(1), value("x")])._repr_html_()).texts
    assert plain == ["PV", "Value", "PV", "1", "PV", "x"]
    full = Page(table([in_alarm(1, units="mm"), value(2, timestamp_ns=TIME_NS)])._repr_html_())
    assert full.texts[:5] == ["PV", "Value", "Units", "Alarm", "Time"]
    assert full.texts[5:9] == ["PV", "1.5", "mm", "MINOR HIHI"]


def test_a_long_table_is_abbreviated_and_counts_what_it_hides() -> None:
    values = [value(n, name=f"PV{n}", severity=0, alarm=Alarm("NO_ALARM", "NO_ALARM"))
              for n in range(10_000)]  # fmt: skip
    values[500] = in_alarm(2)
    values[600] = CANothing("PV", ECA.TIMEOUT)
    texts = Page(table(values)._repr_html_()).texts
    names = [text for text in texts if re.fullmatch(r"PV\d+", text)]
    assert names == [f"PV{n}" for n in [*range(50), *range(9990, 10_000)]]
    assert "… 9,940 more PVs, 1 in alarm and 1 without a value among them" in texts
    assert len(Page(table(values, max_rows=1)._repr_html_()).tags) < 20
    assert repr(table(values)).splitlines()[-1] == "... 9,940 more PVs"


def test_a_table_as_text() -> None:
    values = [in_alarm(2, units="mm", name="A"), value("x\x1b[31m", name="LONGER")]
    assert repr(table(values)).splitlines() == [
        "A       1.5 mm     MAJOR HIHI",
        "LONGER  x\\x1b[31m",
    ]
    assert repr(table([])) == ""


def test_what_a_table_cannot_show() -> None:
    with pytest.raises(TypeError, match=r"values\[1\] is no value of a PV, but of type float"):
        table([value(1.5), 1.5])  # type: ignore[list-item]
    with pytest.raises(TypeError, match=r"values\[0\]"):
        table([value(np.arange(5.0))[1:]])
    with pytest.raises(ValueError, match="max_rows must be 1 or more, not 0"):
        table([], max_rows=0)


# -- Text from PVs ---------------------------------------------------------------------------------

HOSTILE = [
    "<script>alert(1)</script>",
    '" onmouseover="alert(1)" x=\'',
    "</td></table></div><img src=x onerror=alert(1)>",
    "&lt;b&gt; &#60;",
    "$\\href{javascript:alert(1)}{x}$",
    "\x1b]0;title\x07 \u202egnp.exe \0",
    "<!-- ",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_text_of_a_pv_adds_no_element(text: str) -> None:
    """Wherever it stands, it is text: the elements and attributes are those of other texts."""

    def everything(text: str) -> list[Any]:
        values = [
            value(text, name=text),
            value(1.5, name=text, units=text, severity=2, alarm=Alarm(text, text)),
            value(1, name=text, enums=["", text]),
            value(np.array([text, text]), name=text),
            CANothing(text, ECA.TIMEOUT, detail=text),
        ]
        return [*values, table(values)]

    for harmless, hostile in zip(everything("abc"), everything(text), strict=True):
        expected, found = Page(harmless._repr_html_()), Page(hostile._repr_html_())
        assert found.tags == expected.tags
        assert all(part.isprintable() for part in found.texts)
        assert found.tags[0][1]["class"] == "aioca tex2jax_ignore mathjax_ignore"
    if text.isprintable():
        assert shown(everything(text)[0]) == [text, text]


# -- The extension, and live, without a notebook ---------------------------------------------------


class Formatter:
    """As much of a formatter of IPython as the extension uses."""

    def __init__(self) -> None:
        self.type_printers: dict[type, Any] = {}
        self.pop = self.type_printers.pop

    def for_type(self, kind: type, function: Any) -> None:
        self.type_printers[kind] = function


class Shell:
    def __init__(self) -> None:
        self.html = Formatter()
        self.display_formatter = self
        self.formatters = {"text/html": self.html}


def test_the_extension_leaves_other_lists_as_they_are() -> None:
    shell = Shell()
    load_ipython_extension(shell)
    load_ipython_extension(shell)
    show = shell.html.type_printers[list]
    assert "<table" in show([value(1.5), CANothing("PV", 80)])
    for others in ([], [1.5], [value(1.5), 2], [[value(1.5)]]):
        assert show(others) is None
    unload_ipython_extension(shell)
    unload_ipython_extension(shell)
    assert shell.html.type_printers == {}


def test_the_extension_keeps_the_formatter_of_others() -> None:
    shell = Shell()
    before = shell.html.type_printers[list] = lambda values: f"theirs: {len(values)}"
    load_ipython_extension(shell)
    assert shell.html.type_printers[list]([1, 2]) == "theirs: 2"
    assert "<table" in shell.html.type_printers[list]([value(1)])
    unload_ipython_extension(shell)
    assert shell.html.type_printers == {list: before}


def test_live_takes_what_camonitor_returns() -> None:
    with pytest.raises(TypeError, match="live shows what camonitor returns, not 'PV'"):
        live("PV")  # type: ignore[call-overload]
