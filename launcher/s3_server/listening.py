"""A socket for a server to listen on; apart, because whoever starts a server needs nothing else of it."""

from __future__ import annotations

import socket


def listen(address: str, port: int = 0, *, exactly: bool = False) -> socket.socket:
    """Return a socket bound to an address, and to the port if it is free, else to any.

    Raises:
        OSError: the address is none of this machine; or ``exactly`` that port was asked for, and it is taken.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        try:
            listener.bind((address, port))
        except OSError:
            if not port or exactly:
                raise
            listener.bind((address, 0))
    except OSError:
        listener.close()
        raise
    return listener
