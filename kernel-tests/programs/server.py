"""Sends to whoever connects, for as long as they stay.

Arguments: address, IP protocol (0 for TCP, 262 for MPTCP), and how many workers accept; with none, this
process does. Prints the port, and the workers' process ids."""

import os
import signal
import socket
import sys
import threading

address, protocol, workers = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol)
listener.bind((address, 0))
listener.listen(64)


def send(connection):
    block = bytes(1 << 16)
    try:
        while True:
            connection.sendall(block)
    except OSError:
        connection.close()


def serve():
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=send, args=(connection,), daemon=True).start()


children = []
for _ in range(workers):
    child = os.fork()
    if child == 0:
        serve()
    children.append(child)
print(listener.getsockname()[1], *children, flush=True)
if workers == 0:
    serve()


def end(*_):
    for child in children:
        os.kill(child, signal.SIGKILL)
    sys.exit()


signal.signal(signal.SIGTERM, end)
signal.pause()
