"""What a program of `preloaded` is started as: it hands over all that it was given, and ends as the program does.

`python preloaded_call.py SOCKET -m MODULE ...` or `-c CODE ...`. It imports little, as it is started hundreds of times.
"""

import array
import json
import os
import signal
import socket
import sys
import time

LENGTH_BYTES = 4


def call(path: str, arguments: list[str]) -> int:
    """Run the program with these arguments; returns its exit code."""
    files = [number for number in map(int, os.listdir("/proc/self/fd")) if _is_open(number)]
    given = {"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ), "files": files}
    given["parent"] = os.getppid()
    message = json.dumps(given).encode()
    connection = _connect(path)
    rights = array.array("i", files)
    connection.sendmsg([len(message).to_bytes(LENGTH_BYTES)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    connection.sendall(message)
    child = received(connection)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: os.kill(child, received))
    return received(connection)


def received(connection: socket.socket) -> int:
    """A number that the other side sends."""
    return int.from_bytes(exactly(connection, LENGTH_BYTES))


def exactly(connection: socket.socket, size: int) -> bytes:
    """So many bytes that the other side sends."""
    found = b""
    while len(found) < size:
        part = connection.recv(size - len(found))
        if not part:
            raise ConnectionError("the process with the libraries is gone")
        found += part
    return found


def _is_open(number: int) -> bool:
    """Whether a file is open that a program started from here would inherit."""
    try:
        return os.get_inheritable(number)
    except OSError:
        return False


def _connect(path: str) -> socket.socket:
    """A connection, once the libraries are there."""
    until = time.monotonic() + 240
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(path)
            return connection
        except (FileNotFoundError, ConnectionRefusedError):
            if time.monotonic() > until:
                raise TimeoutError(f"nobody answers at {path}") from None
            time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(call(sys.argv[1], sys.argv[2:]))
