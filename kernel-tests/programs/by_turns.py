"""Sends datagrams to addresses by turns, for so many seconds.

Arguments: seconds, and the addresses."""

import socket
import sys
import time

seconds, addresses = float(sys.argv[1]), sys.argv[2:]
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
end = time.monotonic() + seconds
while time.monotonic() < end:
    for address in addresses:
        sender.sendto(bytes(1000), (address, 9))
    time.sleep(0.002)
