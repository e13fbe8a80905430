"""Has the kernel send resets, which no process's socket does, beside raw sockets, for SECONDS."""

import random
import socket
import sys
import time

end = time.monotonic() + float(sys.argv[1])
raw = []
resets = 0
while time.monotonic() < end:
    for protocol in (socket.IPPROTO_TCP, socket.IPPROTO_ICMP, socket.IPPROTO_UDP):
        raw.append(socket.socket(socket.AF_INET, socket.SOCK_RAW, protocol))
    packets = random.choice(raw)
    try:
        # Nonsense, to a port that nobody listens on.
        packets.sendto(bytes(random.randrange(256) for _ in range(64)), ("127.0.0.1", 0))
    except OSError:
        pass
    while len(raw) > 600:
        raw.pop(random.randrange(len(raw))).close()
    for port in range(1, 20):
        client = socket.socket()
        if client.connect_ex(("127.0.0.1", port)) != 0:
            resets += 1
        client.close()
print(resets)
