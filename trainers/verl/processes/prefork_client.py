"""The program that stands for `python` where processes shall be forks of `trainers.verl.processes.prefork`.

It hands over what it was called with, passes signals on, and ends as the fork does; when it is killed, so is the fork.
Standard library only, and little of it: it starts in 20 ms.
"""

import json
import os
import signal
import socket
import struct
import sys

SIZE = struct.Struct("I")
"""Bytes of the request that follow."""
STATUS = struct.Struct("i")
"""Exit status of the fork, or minus the signal that ended it."""
MAX_FILES = 250
"""The kernel passes 253 at once."""


def main(address: str, arguments: list[str]) -> int:
    """Return the exit status of the fork."""
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        server.connect(address)
    except OSError as error:
        print(f"no warm python at {address} ({error}): starting a cold one", file=sys.stderr)
        os.execv(sys.executable, [sys.executable, *arguments])
    files = [file for file in _open_files() if file != server.fileno()]
    asked = {"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ), "files": files}
    request = json.dumps(asked).encode()
    socket.send_fds(server, [SIZE.pack(len(request))], files)
    server.sendall(request)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, lambda number, _: server.sendall(bytes([number])))
    os.closerange(3, server.fileno())
    os.closerange(server.fileno() + 1, max(files) + 1)
    answer = server.recv(STATUS.size)
    return STATUS.unpack(answer)[0] if answer else 1


def _open_files() -> list[int]:
    """Return the descriptors that stay open: the listing's own is closed by now."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            os.fstat(int(name))
        except OSError:
            continue
        found.append(int(name))
    return sorted(found)


if __name__ == "__main__":
    status = main(sys.argv[1], sys.argv[2:])
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)
