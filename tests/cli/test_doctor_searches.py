"""``aioca doctor``: messages and searches."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aioca._cli.diagnosis.conversation import converse
from aioca._cli.diagnosis.examine import spellings
from aioca._cli.wire import protocol
from aioca._cli.wire.protocol import Message, ProtocolError
from aioca._cli.wire.search import Target, udp_search
from aioca.testing import SoftIoc, free_port

UNIT = True


# -- Messages --------------------------------------------------------------------------------------


def test_messages_there_and_back() -> None:
    some = [Message(6, 10, 13, 7, 8, b"X" * 8), Message(0), Message(13, 11, 5064, 3, 0x7F000001)]
    data = b"".join(map(bytes, some))
    assert protocol.take(data) == (some, b"")
    assert protocol.take(data[:-1]) == (some[:2], bytes(some[2])[:-1])
    assert protocol.take(b"") == ([], b"")
    long = bytes.fromhex("0006ffff000a0000 00000001 00000002 00000008 00000003") + b"payload."
    assert protocol.take(long)[0] == [Message(6, 10, 3, 1, 2, b"payload.")]
    with pytest.raises(ProtocolError):
        protocol.take(bytes.fromhex("0006ffff000a0000 00000001 00000002 7fffffff 00000003"))


@given(st.binary(max_size=200), st.sampled_from(["10.0.0.1", "127.0.0.1"]))
def test_any_bytes_are_survived(data: bytes, source: str) -> None:
    try:
        messages, rest = protocol.take(data)
    except ProtocolError:
        return
    assert len(rest) <= len(data)
    told, rest = protocol.take(protocol.passed_on(messages, source))
    assert rest == b"" and {message.command for message in told} <= {protocol.IS_UP}
    for answer in protocol.search_answers(messages, source):
        assert answer.server is None or 0 < answer.server[1] < 65536
    for beacon in protocol.beacons(messages, source, 5064):
        assert re.fullmatch(r"\d+\.\d+\.\d+\.\d+", beacon.server[0])


def test_an_answer_may_name_another_server() -> None:
    """As those of name servers and of old servers do; 0 and all ones mean who has sent it."""
    for first, host in [(0x0A010203, "10.1.2.3"), (0xFFFFFFFF, "127.0.0.1"), (0, "127.0.0.1")]:
        messages = [Message(6, 6064, 0, first, 5, b"\0\x0b" + bytes(6))]
        answer = protocol.search_answers(messages, "127.0.0.1")
        assert answer == [protocol.SearchAnswer(5, (host, 6064), 11)]


def test_an_answer_through_tcp_without_a_port() -> None:
    """As a CA gateway sends it: libca takes the address of the circuit."""
    answer = [Message(protocol.SEARCH, 0, 0, 0xFFFFFFFF, 5, b"")]
    found = protocol.search_answers(answer, "10.1.2.3", 6064)
    assert [(one.number, one.server) for one in found] == [(5, ("10.1.2.3", 6064))]
    assert protocol.search_answers(answer, "10.1.2.3") == []


def test_many_names_are_searched_in_datagrams_of_sensible_size() -> None:
    names = [f"SOME:PV:{n:04}" + "X" * (n % 900) for n in range(300)]
    datagrams = protocol.searches(names, list(range(300)), reply=False)
    assert max(map(len, datagrams)) <= 1024 + 16
    asked = [m for d in datagrams for m in protocol.take(d)[0] if m.command == protocol.SEARCH]
    assert [m.payload.rstrip(b"\0").decode() for m in asked] == names
    assert [m.second for m in asked] == list(range(300))


# -- Searches --------------------------------------------------------------------------------------


def test_search_finds_what_is_there(ioc: SoftIoc, p: str) -> None:
    here, nobody = Target("127.0.0.1", ioc.port), Target("127.0.0.1", free_port())
    heard = udp_search([f"{p}none", f"{p}ai"], [here, nobody], 0.5)
    assert [(f.pv, f.server, f.via, f.minor) for f in heard.found] == [
        (f"{p}ai", ("127.0.0.1", ioc.port), "UDP", 13)
    ]
    assert 0 < heard.found[0].milliseconds < 500
    assert heard.states == {here: "answered", nobody: "refused"}


def test_search_for_nothing_says_who_listens(ioc: SoftIoc) -> None:
    here, nobody = Target("127.0.0.1", ioc.port), Target("127.0.0.1", free_port())
    assert udp_search([], [here, nobody], 0.1).states == {here: "silent", nobody: "refused"}


def test_a_server_is_asked_through_tcp(ioc: SoftIoc, p: str) -> None:
    said = converse(("127.0.0.1", ioc.port), [f"{p}none", f"{p}ai"], 10.0)
    assert (said.state, said.minor, said.missing) == ("speaks", 13, [f"{p}none"])
    assert [(f.pv, f.server) for f in said.found] == [(f"{p}ai", ("127.0.0.1", ioc.port))]
    assert said.found[0].via == f"TCP 127.0.0.1:{ioc.port}"
    assert converse(("127.0.0.1", free_port()), ["X"], 5.0).state == "refused"


@contextmanager
def tcp_server(data: bytes, hang_up: bool) -> Iterator[int]:
    """Says the same to everybody; its port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        done = threading.Event()

        def serve() -> None:
            circuit, _ = listener.accept()
            with circuit:
                circuit.sendall(data)
                if not hang_up:
                    done.wait()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            done.set()
            thread.join()


@pytest.mark.process
@pytest.mark.parametrize(
    ("data", "hang_up", "state"),
    [
        (b"", False, "silent"),
        (b"", True, "silent"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n" * 3, False, "strange"),
        (b"\0\6\xff\xff" + b"\xff" * 100, False, "strange"),
        (protocol.version()[:9], False, "silent"),
        (bytes(Message(0, 0, 12)), True, "speaks"),
        (bytes(Message(0, 0, 12)) + bytes(range(200, 240)), True, "speaks"),
    ],
    ids=["mute", "hangs up", "HTTP", "a length", "half a message", "another version", "garbage"],
)  # fmt: skip
def test_what_is_no_server_is_seen_through(data: bytes, hang_up: bool, state: str) -> None:
    with tcp_server(data, hang_up) as port:
        said = converse(("127.0.0.1", port), ["X"], 0.3)
    assert said.state in (state, "Connection reset by peer") if hang_up else said.state == state
    assert said.found == []


@pytest.mark.process
def test_search_survives_a_hostile_server() -> None:
    """Answers to what was not asked, garbage, and the right answer a hundred times."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        target = Target("127.0.0.1", udp.getsockname()[1])

        def answer() -> None:
            data, source = udp.recvfrom(65536)
            number = protocol.take(data)[0][-1].second

            def reply(number: int, port: int = 6064) -> bytes:
                return bytes(Message(6, port, 0, 0xFFFFFFFF, number % 2**32, b"\0\x0d"))

            for strange in (b"\xff" * 17, b"x", b"", reply(number + 1), reply(number - 1),
                            reply(number + 3), reply(number, 0), reply(number)[:-1]):  # fmt: skip
                udp.sendto(strange, source)
            for _ in range(100):
                udp.sendto(reply(number), source)

        thread = threading.Thread(target=answer)
        thread.start()
        heard = udp_search(["X"], [target], 0.3)
        thread.join()
    assert [(f.pv, f.server) for f in heard.found] == [("X", ("127.0.0.1", 6064))]
    assert heard.strange == 3


def test_where_nothing_can_be_sent_is_said() -> None:
    heard = udp_search(["X"], [Target("127.0.0.1", 0)], 0.05)
    (state,) = heard.states.values()
    assert state not in ("answered", "silent", "refused")


def test_spellings() -> None:
    assert "SR:CURRENT" in spellings("SR_CURRENT")
    assert "SR:CURRENT" in spellings("SR:CURRENT.VALL")
    assert "SR:CURRENT" in spellings("sr:current")
    assert "X" not in spellings("X")
