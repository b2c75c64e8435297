"""The network of a job's hosts that are processes: a bridge of the job's own, and a cable from it to each host.

The standard library alone: the supervisor loads it, and the runtime runs it as a script, because a namespace is made by
one process and handed to others. Nothing has a name outside: the bridge is in a namespace that supervisors hold open,
so it goes with the last of them, and each cable with its host.

A host whose job is not isolated reaches the world beyond as well. When it connects to an address that none of the job's
hosts has, its supervisor puts a socket of this machine's network in the place of the job's, by seccomp's notifications,
and lets the job's own call go on with that. No packet is handed on, and no right on this machine's network is needed.
"""

from __future__ import annotations

import _thread
import contextlib
import errno
import fcntl
import os
import select
import socket
import struct
import sys
from pathlib import Path
from typing import Any

INTERFACE = "eth0"
MOST_HOSTS = 250
_PREFIX = bytes((192, 0, 2))  # of TEST-NET-1, which no network beyond should have
_BRIDGE = "hosts"
_CLONE_NEWNS, _CLONE_NEWUTS, _CLONE_NEWUSER = 0x00020000, 0x04000000, 0x10000000
_CLONE_NEWPID, _CLONE_NEWNET = 0x20000000, 0x40000000
_NEWLINK, _NEWADDR, _NEWROUTE, _ERROR = 16, 20, 24, 2
_REQUEST_ACK, _CREATE = 5, 0x600  # NLM_F_REQUEST | NLM_F_ACK; NLM_F_CREATE | NLM_F_EXCL
_IFNAME, _MASTER, _LINKINFO, _NET_NS_FD, _KIND, _DATA, _PEER = 3, 10, 18, 28, 1, 2, 1
_IFF_UP, _OUT_BY = 1, 4
_LINK = struct.Struct("BxHiII")

# The numbers of the machine in a filter, of connect and of seccomp, by machine; the later ones are the same on all.
_CALLS = {"x86_64": (0xC000003E, 42, 317), "aarch64": (0xC00000B7, 203, 277)}
_PIDFD_GETFD = 438
_SET_FILTER, _NEW_LISTENER, _NO_NEW_PRIVS = 1, 8, 38
_NOTIFY, _ALLOW = 0x7FC00000, 0x7FFF0000
_RECEIVE, _SEND, _ADD_DESCRIPTOR = 0xC0502100, 0xC0182101, 0x40182103
_CONTINUE, _IN_PLACE = 1, 1
_NAME_SERVERS = 53
_LISTENS = "0A"  # a state in /proc/net/tcp
_OPTIONS = (  # that a program may have set before it connects: the last two of a socket are its time limits
    *((socket.SOL_SOCKET, number) for number in (socket.SO_KEEPALIVE, socket.SO_REUSEADDR, 20, 21)),
    *((socket.IPPROTO_TCP, number) for number in (socket.TCP_NODELAY, 4, 5, 6, 18)),  # how it is kept alive
)


def address_of(number: int) -> str:
    """Return the address of a host, by its number from 0."""
    return socket.inet_ntoa(_PREFIX + bytes((number + 1,)))


def make() -> None:
    """Move this process to a new namespace with the bridge of a job; as an ordinary user, in one of users as well.

    Raises:
        OSError: the system does not allow it.
    """
    uid, gid = os.getuid(), os.getgid()
    try:
        _invoke("unshare", _CLONE_NEWNET)
    except PermissionError:
        _invoke("unshare", _CLONE_NEWNET | _CLONE_NEWUSER)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    _link(_LINK.pack(0, 0, 0, 0, 0) + _attribute(_IFNAME, _name(_BRIDGE)) + _kind("bridge"), _CREATE)
    set_up(_BRIDGE)


def join(network: int, number: int, *, way_out: bool) -> None:
    """Connect this process's network namespace, which is new, to the bridge.

    Args:
        network: a descriptor of the job's namespace.
        number: of this host, from 0.
        way_out: whether addresses beyond the job's have a way, as programs want that look for their own address.
    Raises:
        OSError: the system does not allow it.
    """
    with open("/proc/self/ns/net", "rb") as own:  # noqa: PTH123 - a namespace is no path
        enter(network)
        peer = _LINK.pack(0, 0, 0, 0, 0) + _attribute(_IFNAME, _name(INTERFACE))
        peer += _attribute(_NET_NS_FD, struct.pack("I", own.fileno()))
        cable = _LINK.pack(0, 0, 0, _IFF_UP, _IFF_UP) + _attribute(_IFNAME, _name(port_of(number)))
        cable += _attribute(_MASTER, struct.pack("I", socket.if_nametoindex(_BRIDGE)))
        _link(cable + _kind("veth", _attribute(_PEER, peer)), _CREATE)
        enter(own.fileno())
    set_up("lo")
    set_up(INTERFACE)
    address, index = socket.inet_aton(address_of(number)), socket.if_nametoindex(INTERFACE)
    body = struct.pack("BBBBI", socket.AF_INET, 24, 0, 0, index) + _attribute(1, address) + _attribute(2, address)
    _ask(_NEWADDR, body, _CREATE)
    if way_out:
        route = struct.pack(
            "8BI", socket.AF_INET, 0, 0, 0, 254, 4, 253, 1, 0
        )  # table main, static, on the link, unicast
        _ask(_NEWROUTE, route + _attribute(_OUT_BY, struct.pack("I", index)), _CREATE)


def port_of(number: int) -> str:
    """Return the name that the bridge has for the cable of a host."""
    return f"host{number}"


def enter(descriptor: int) -> None:
    """Move this process to a namespace, by a descriptor of it."""
    _invoke("setns", descriptor, 0)


def set_up(name: str, *, up: bool = True) -> None:
    """Switch an interface on or off."""
    _link(_LINK.pack(0, 0, socket.if_nametoindex(name), _IFF_UP if up else 0, _IFF_UP))


class WayOut:
    """Lets a host reach what lies beyond its network; made before its first process, for both sides of that fork."""

    def __init__(self, hosts: int) -> None:
        self._hosts = hosts
        self._keeper, self._taker = socket.socketpair()

    def take(self) -> None:
        """Have this process of the host, and all that it starts, use it.

        Raises:
            OSError: this machine has no such thing.
        """
        listener = watch_connections()
        socket.send_fds(self._taker, [b"\0"], [listener])
        for end in (self._keeper, self._taker):
            end.close()
        os.close(listener)

    def keep(self) -> None:
        """Serve it from a thread of this process, when the host has taken it."""
        listener = socket.recv_fds(self._keeper, 1, 1)[1][0]
        _thread.start_new_thread(hand_out, (listener, self._hosts))


def watch_connections() -> int:
    """Have this process, and all that it starts, ask before each connection; return what is asked at.

    Raises:
        OSError: this machine cannot do that.
    """
    import ctypes  # only here and below: who asks for an address needs none of it

    name = os.uname().machine
    if name not in _CALLS:
        raise OSError(errno.ENOSYS, f"connections are not watched on {name}")
    machine, connect, seccomp = _CALLS[name]
    # The machine's own calls, and of them connect: ask. All others go on.
    instructions = ((0x20, 0, 0, 4), (0x15, 0, 3, machine), (0x20, 0, 0, 0), (0x15, 0, 1, connect), (6, 0, 0, _NOTIFY))
    data = b"".join(struct.pack("HBBI", *instruction) for instruction in (*instructions, (6, 0, 0, _ALLOW)))
    text = ctypes.create_string_buffer(data)
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(data) // 8, ctypes.addressof(text)))
    _invoke("prctl", _NO_NEW_PRIVS, 1, 0, 0, 0)
    descriptor = _invoke("syscall", seccomp, _SET_FILTER, _NEW_LISTENER, program)
    os.set_inheritable(descriptor, False)
    return descriptor


def hand_out(listener: int, hosts: int) -> None:
    """Answer a host's questions as long as any process of it lives: let it reach what lies beyond its network.

    Args:
        hosts: how many the network has.
    """
    poll = select.poll()
    poll.register(listener)
    while True:
        question = bytearray(80)
        try:
            fcntl.ioctl(listener, _RECEIVE, question)
        except FileNotFoundError:  # who asked has been killed, or was the last one
            if any(event & select.POLLHUP for _, event in poll.poll(0)):
                return
            continue
        ident, thread, *_, descriptor, place, length, _, _, _ = struct.unpack("QIIiIQ6Q", question)
        with contextlib.suppress(OSError, struct.error):  # it is gone, or the call is none that could succeed
            if port := _port_beyond(thread, place, length, hosts):
                _replace(listener, ident, thread, descriptor, port)
        with contextlib.suppress(OSError):
            fcntl.ioctl(listener, _SEND, bytearray(struct.pack("QqiI", ident, 0, 0, _CONTINUE)))


def _port_beyond(thread: int, place: int, length: int, hosts: int) -> int:
    """Return the port that a thread connects to; 0 where that is not beyond the network of its host."""
    with open(f"/proc/{thread}/mem", "rb", buffering=0) as memory:  # noqa: PTH123
        memory.seek(place)
        address = memory.read(min(length, 28))
    (family,) = struct.unpack_from("H", address)
    if family not in (socket.AF_INET, socket.AF_INET6):
        return 0
    (port,) = struct.unpack_from("!H", address, 2)
    target = address[4:8] if family == socket.AF_INET else address[8:24]
    target = target.removeprefix(bytes(10) + b"\xff\xff")
    if len(target) < 4 or (target[:3] == _PREFIX and target[3] <= hosts):
        return 0
    # The loopback address is the host's own, where it has a server at that port, else this machine's.
    is_local = target[:1] == b"\x7f" or target in (bytes(4), bytes(16), bytes(15) + b"\1")
    return 0 if is_local and port != _NAME_SERVERS and _listens(thread, port) else port


def _replace(listener: int, ident: int, thread: int, descriptor: int, port: int) -> None:
    """Put a socket of this process's network in the place of a host's that is about to connect."""
    process = os.pidfd_open(int(_line(f"/proc/{thread}/status", "Tgid:")))
    try:
        taken = _invoke("syscall", _PIDFD_GETFD, process, descriptor, 0)
    finally:
        os.close(process)
    with socket.socket(fileno=taken) as present:
        if present.type != socket.SOCK_STREAM and port != _NAME_SERVERS:
            return
        with socket.socket(present.family, present.type, present.proto) as other:
            for level, number in _OPTIONS:
                with contextlib.suppress(OSError):  # those of TCP, for another protocol
                    other.setsockopt(level, number, present.getsockopt(level, number, 16))
            other.setblocking(not fcntl.fcntl(taken, fcntl.F_GETFL) & os.O_NONBLOCK)
            flags = int(_line(f"/proc/{thread}/fdinfo/{descriptor}", "flags:"), 8)
            change = struct.pack("QIIII", ident, _IN_PLACE, other.fileno(), descriptor, flags & os.O_CLOEXEC)
            fcntl.ioctl(listener, _ADD_DESCRIPTOR, change)


def _listens(thread: int, port: int) -> bool:
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(FileNotFoundError):
            for line in Path(f"/proc/{thread}/net/{name}").read_text().splitlines()[1:]:
                words = line.split()
                if words[3] == _LISTENS and int(words[1].rpartition(":")[2], 16) == port:
                    return True
    return False


def _line(path: str, begin: str) -> str:
    return next(line.removeprefix(begin) for line in Path(path).read_text().splitlines() if line.startswith(begin))


def _name(text: str) -> bytes:
    return text.encode() + b"\0"


def _attribute(kind: int, data: bytes) -> bytes:
    return struct.pack("HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def _kind(name: str, data: bytes = b"") -> bytes:
    inner = _attribute(_KIND, _name(name)) + (_attribute(_DATA, data) if data else b"")
    return _attribute(_LINKINFO, inner)


def _link(body: bytes, flags: int = 0) -> None:
    _ask(_NEWLINK, body, flags)


def _ask(kind: int, body: bytes, flags: int) -> None:
    """Have the kernel change the network of this process (rtnetlink).

    Raises:
        OSError: it does not.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as kernel:
        kernel.send(struct.pack("IHHII", 16 + len(body), kind, _REQUEST_ACK | flags, 1, 0) + body)
        answer = kernel.recv(65536)
    answered, code = struct.unpack_from("H", answer, 4)[0], struct.unpack_from("i", answer, 16)[0]
    if answered == _ERROR and code:
        raise OSError(-code, f"network: {os.strerror(-code)}")


def _invoke(function: str, *arguments: Any) -> int:
    """Call a function of the C library.

    Raises:
        OSError: it failed.
    """
    import ctypes

    result: int = getattr(ctypes.CDLL(None, use_errno=True), function)(*arguments)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{function}: {os.strerror(number)}")
    return result


def _probe() -> None:
    """Do all that a host needs, with a network of its own for a moment."""
    make()
    with open("/proc/self/ns/net", "rb") as network:  # noqa: PTH123
        _invoke("unshare", _CLONE_NEWNET | _CLONE_NEWNS | _CLONE_NEWPID | _CLONE_NEWUTS)
        join(network.fileno(), 0, way_out=True)
    os.close(watch_connections())


def main(word: str, *arguments: str) -> str:
    """Do one thing for the runtime; return what to print: why it could not be done, or nothing.

    ``probe`` says whether hosts can have networks. ``make`` makes one and keeps it until standard input ends. ``cut``
    and ``rejoin`` switch the cable of a host, given its number and descriptors of the job's namespaces: of the network,
    and where there is one of users, of that.
    """
    try:
        if word == "probe":
            _probe()
        elif word == "make":
            make()
            os.write(1, b"\n")
            os.read(0, 1)
        else:
            number, network, *users = map(int, arguments)
            for descriptor in (*users, network):
                enter(descriptor)
            set_up(port_of(number), up=word == "rejoin")
    except OSError as error:
        return error.strerror or str(error)
    return ""


def run(*arguments: Any) -> None:
    """Be a script."""
    if reason := main(*arguments):
        os.write(1, reason.encode())
        sys.exit(1)


if __name__ == "__main__":
    run(*sys.argv[1:])
