"""Gets a small file so many times a second, each over a connection of its own: ADDRESS PORT PATH A_SECOND SECONDS.
Prints how many it got, and how many failed."""

import socket
import sys
import time

address, port, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
a_second, seconds = int(sys.argv[4]), int(sys.argv[5])
REQUEST = f"GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n".encode()


def get():
    with socket.create_connection((address, port), timeout=30) as connection:
        connection.sendall(REQUEST)
        received = 0
        while block := connection.recv(1 << 16):
            received += len(block)
        return received > 0


got = failed = 0
begun = time.monotonic()
while (passed := time.monotonic() - begun) < seconds:
    while got + failed < passed * a_second:
        try:
            good = get()
        except OSError:
            good = False
        got, failed = got + good, failed + (not good)
    time.sleep(0.002)
print(got, failed, flush=True)
