"""A client's connection, as the kernel knows it.

The server does not say how much of an answer a client has read. The kernel holds up to 4 MiB of it, and takes more only
when a third of that is free, so the next part may wait for a minute although the client reads steadily. But the
client's kernel acknowledges what it has room for, which shows how fast the client reads.

Nor does the server close the connection of a client that does not read: it would first send what it holds.
"""

import os
import socket
import stat
import struct
from contextlib import suppress

FDS = "/proc/self/fd"
"""Names of the open files of this process; on Linux only."""

MAPPED = "::ffff:"
"""Prefix of an IPv4 address at a socket for IPv6."""

BYTES_ACKED = 120
"""Offset of `tcpi_bytes_acked`, a 64-bit number, in Linux's `struct tcp_info` (include/uapi/linux/tcp.h)."""

AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER with which closing discards what was not sent."""

Address = tuple[str, int]
"""Host and port."""


def acknowledged(client: Address) -> int | None:
    """Bytes of all answers on a connection that the client has acknowledged; None if that is not known."""
    connection = _find(client)
    if connection is None:
        return None
    with connection, suppress(OSError):
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, BYTES_ACKED + 8)
        if len(info) == BYTES_ACKED + 8:
            return struct.unpack_from("=Q", info, BYTES_ACKED)[0]
    return None


def cut(client: Address) -> None:
    """End a connection, if it can be found, and discard what was not sent."""
    connection = _find(client)
    if connection is not None:
        with connection, suppress(OSError):  # it may have ended meanwhile
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
            connection.shutdown(socket.SHUT_RDWR)


def _find(client: Address) -> socket.socket | None:
    """A second socket for a client's connection, found among all open files of the process in some milliseconds."""
    for name in os.listdir(FDS) if os.path.isdir(FDS) else ():
        with suppress(OSError):  # the file may have been closed meanwhile
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                connection = socket.socket(fileno=os.dup(int(name)))
                if _is_of(connection, client):
                    return connection
                connection.close()
    return None


def _is_of(connection: socket.socket, client: Address) -> bool:
    if connection.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    try:
        host, port = connection.getpeername()[:2]
    except OSError:  # it has no client
        return False
    return port == client[1] and host.removeprefix(MAPPED) == client[0].removeprefix(MAPPED)
