"""`python -m app.service.large_bodies_process NUMBER`: reads and prints for a worker.

The number is that of a socket. It ends with its worker, whose end of the socket closes then.
"""

import gc
import os
import signal
import socket
import sys
import traceback

from app.errors import UnrollError
from app.service.large_bodies import receive, send

# Behind the workers, in what the system gives of a core.
NICENESS = 10
# Without work it ends after so many seconds.
IDLE_S = 60.0


def serve(connection: socket.socket) -> None:
    """Answers until the other end has gone, or is silent for `IDLE_S`."""
    connection.settimeout(IDLE_S)
    while True:
        try:
            function, value = receive(connection)
        except OSError:
            return
        try:
            # Bytes come as a part of what was received.
            found = function(bytes(value) if isinstance(value, memoryview) else value)
        except Exception as error:
            # Told to who asked, who knows what is the caller's mistake and what a bug.
            found = error
            if not isinstance(error, UnrollError):
                error.add_note(traceback.format_exc())
        try:
            send(connection, found)
        except OSError:
            return
        del function, value, found
        gc.collect()
        # What is left is the libraries, which need not be looked through again: 4 ms a message.
        gc.freeze()


def main() -> None:
    """The command."""
    # A terminal's Ctrl-C and a container's stop come to all processes; a worker needs it till then.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.nice(NICENESS)
    # Numbers make no cycles: collecting while millions are read would find nothing.
    gc.disable()
    serve(socket.socket(fileno=int(sys.argv[1])))


if __name__ == "__main__":
    main()
