"""Receives, by one connection after the other.

Arguments: address, port, IP protocol (0 for TCP, 262 for MPTCP), how long each connection lives, and for how
long it is measured. Waits for a line before it begins; prints bytes a second from a second after it."""

import socket
import sys
import time

address, port, protocol = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
lives, measured = float(sys.argv[4]), float(sys.argv[5])


def connect():
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM, protocol)
    connection.connect((address, port))
    return connection


connection = connect() if lives > measured else None
print("ready", flush=True)
sys.stdin.readline()
begin = time.monotonic() + 1
received = 0
while time.monotonic() < begin + measured:
    connection = connection or connect()
    ends = time.monotonic() + lives
    while time.monotonic() < min(ends, begin + measured):
        block = len(connection.recv(1 << 16))
        if time.monotonic() >= begin:
            received += block
    connection.close()
    connection = None
print(received / measured, flush=True)
