"""Sends 2 MB/s of datagrams on a socket that its parent made and still holds: ADDRESS PORT.

Says the sending process's id, and sends when a line comes.
"""

import os
import socket
import sys
import time

address, port = sys.argv[1], int(sys.argv[2])
sender = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
sender.bind(("", 0))
parent = os.getpid()
child = os.fork()
if child:
    print(child, flush=True)
    os.waitpid(child, 0)
    sys.exit()
sys.stdin.readline()
end = time.monotonic() + 60
begin, sent = time.monotonic(), 0
while time.monotonic() < end and os.getppid() == parent:
    sender.sendto(bytes(1200), (address, port))
    sent += 1200
    time.sleep(max(0, sent / 2e6 - (time.monotonic() - begin)))
