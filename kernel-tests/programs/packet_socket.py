"""Sends frames by a packet socket: DEVICE BYTES_A_SECOND SECONDS."""

import socket
import sys
import time

device, rate, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
# To an address that nobody has, of a kind for experiments (RFC 9542).
FRAME = b"\x02\0\0\0\0\x77" + b"\x02\0\0\0\0\x78" + b"\x88\xb5" + bytes(1000)

packets = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
packets.bind((device, 0))
print("begun", flush=True)
begun = time.monotonic()
sent = 0
while (passed := time.monotonic() - begun) < seconds:
    while sent < passed * rate:
        sent += packets.send(FRAME)
    time.sleep(0.005)
