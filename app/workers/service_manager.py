"""What a service manager such as systemd hands to a service, and is told by it.

A listener that the manager keeps (`LISTEN_FDS`, sd_listen_fds(3)) outlives the service: callers
wait in its queue while nobody accepts, and two services that are given the same one share the
queue. So one can take over from the other, and no caller is refused or reset. With `SO_REUSEPORT`
each would have a queue of its own, which the kernel resets when its service closes it
(net.ipv4.tcp_migrate_req=1, since Linux 5.14, moves it to the other's; 0 is the default).
"""

import os
import socket

# As sd_listen_fds(3) has it.
FIRST_FD = 3


def inherited_listener() -> socket.socket | None:
    """The listener that this process was handed; None if it was handed none.

    Raises:
        ValueError: it was handed something else.
    """
    given = os.environ.pop("LISTEN_FDS", ""), os.environ.pop("LISTEN_PID", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    count, pid = given
    if pid != str(os.getpid()):
        # Meant for another process.
        return None
    if count != "1":
        raise ValueError(f"LISTEN_FDS: there must be one listener, got {count!r}")
    try:
        listener = socket.socket(fileno=FIRST_FD)
        accepts = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise ValueError(f"LISTEN_FDS: file {FIRST_FD} is no socket: {error.strerror}") from None
    if not accepts or listener.family not in (socket.AF_INET, socket.AF_INET6):
        raise ValueError(f"LISTEN_FDS: file {FIRST_FD} does not listen on a port")
    os.set_inheritable(FIRST_FD, False)
    return listener


def tell_manager(state: str) -> None:
    """Tells the manager that started this service, if one wants to know (sd_notify(3)).

    Args:
        state: `READY=1` or `STOPPING=1`.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        try:
            # "@" stands for a name that is no file.
            sender.sendto(state.encode(), address.replace("@", "\0", 1))
        except OSError:
            # A manager that has gone need not know.
            return
