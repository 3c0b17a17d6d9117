"""What the kernel knows of a connection, which is found by its client's address."""

import os
import socket
from collections.abc import Iterator

import pytest

from app.serving import connection
from app.serving.connection import acknowledged, cut
from tests.support import eventually

LOOPBACK = ("127.0.0.1", 0)
WITHIN_S = 20.0

pytestmark = pytest.mark.skipif(not os.path.isdir(connection.FDS), reason="this is not Linux")


@pytest.fixture(params=["IPv4", "IPv4 at a socket for IPv6"])
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, socket.socket]]:
    """The server's and the client's end of a connection."""
    both = request.param != "IPv4"
    if both and not socket.has_dualstack_ipv6():
        pytest.skip("there is no IPv6 here")
    address, family = (("::", 0), socket.AF_INET6) if both else (LOOPBACK, socket.AF_INET)
    with (
        socket.create_server(address, family=family, dualstack_ipv6=both) as listening,
        socket.create_connection(("127.0.0.1", listening.getsockname()[1])) as client,
        listening.accept()[0] as server,
    ):
        yield server, client


def test_what_a_client_reads_is_acknowledged(pair: tuple[socket.socket, socket.socket]) -> None:
    server, client = pair
    address = client.getsockname()
    before = acknowledged(address)
    assert before is not None
    server.sendall(b"x" * 1000)
    assert len(client.recv(1000, socket.MSG_WAITALL)) == 1000
    eventually(lambda: acknowledged(address) == before + 1000, WITHIN_S)


def test_a_connection_that_is_cut_ends_at_once_and_without_the_rest(pair: tuple[socket.socket, socket.socket]) -> None:
    server, client = pair
    client.settimeout(WITHIN_S)
    server.setblocking(False)
    sent = 0
    while part := _sent(server):
        sent += part
    cut(client.getsockname())
    with pytest.raises(BrokenPipeError):
        server.send(b"x")
    server.close()
    received: list[int] = []
    with pytest.raises(ConnectionResetError):
        received.extend(iter(lambda: len(client.recv(65536)), 0))
    assert sum(received) < sent


def _sent(server: socket.socket) -> int:
    try:
        return server.send(b"x" * 65536)
    except BlockingIOError:
        return 0


def test_nothing_is_known_of_an_unknown_connection_and_no_file_stays_open() -> None:
    with socket.create_server(LOOPBACK) as listening, socket.socket(socket.AF_UNIX):
        before = os.listdir(connection.FDS)
        unknown = listening.getsockname()  # of a socket that has no client
        assert acknowledged(unknown) is None
        cut(unknown)
        assert acknowledged(("", 0)) is None
        assert len(os.listdir(connection.FDS)) == len(before)
