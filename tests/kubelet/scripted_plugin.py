"""A device plugin that only makes sockets, for the odd behaviours that no real one shows on demand.

Arguments: folder, socket names, then options. It prints a line for each thing that happens to it: started, hangup,
gone (its sockets are removed), continued (SIGCONT), back. Run with only the standard library, as a program.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
from pathlib import Path


def say(word: str) -> None:
    """One line, whole, also from a signal handler."""
    os.write(sys.stdout.fileno(), f"{word}\n".encode())


def serve(folder: str, names: list[str]) -> list[socket.socket]:
    """Listen on each socket."""
    sockets = []
    for name in names:
        path = Path(folder, name)
        path.unlink(missing_ok=True)
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(path))
        server.listen()
        sockets.append(server)
    return sockets


def main() -> None:
    """Until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--then", nargs="*", help="sockets after the first SIGHUP; default: the same")
    parser.add_argument("--deaf", action="store_true", help="SIGHUP changes nothing")
    parser.add_argument("--late-end", action="store_true", help="connections end after the gap, not before it")
    parser.add_argument("--gap", type=float, default=0.005, help="seconds between old and new sockets")
    options = parser.parse_args()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
    signal.signal(signal.SIGHUP, lambda *_: None)
    signal.signal(signal.SIGCONT, lambda *_: say("continued"))
    servers = serve(options.folder, options.names)
    say("started")
    while True:
        while signal.sigtimedwait([signal.SIGHUP], 60) is None:
            continue
        say("hangup")
        if options.deaf:
            continue
        connections = [server.accept()[0] for server in servers] if options.late_end else []
        for server in servers:
            Path(server.getsockname()).unlink()
            server.close()
        say("gone")
        # The time that looking at the GPUs takes; SIGCONT only interrupts and resumes it.
        signal.sigtimedwait([signal.SIGUSR1], options.gap)
        for connection in connections:
            connection.close()
        servers = serve(options.folder, options.names if options.then is None else options.then)
        say("back")


if __name__ == "__main__":
    main()
