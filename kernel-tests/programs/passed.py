"""A connection that one process opens and another one sends on, passed by SCM_RIGHTS.

`take PATH` waits at the socket PATH for a connection and then sends 2 MB/s on it. `give PATH ADDRESS PORT` opens
it, passes it on, closes its own descriptor and stays until its standard input ends.
"""

import socket
import sys
import time

role, path = sys.argv[1:3]
if role == "take":
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    print("ready", flush=True)
    giver, _ = listener.accept()
    _, descriptors, _, _ = socket.recv_fds(giver, 1, 1)
    connection = socket.socket(fileno=descriptors[0])
    begin, sent = time.monotonic(), 0
    while (passed := time.monotonic() - begin) < 60:
        sent += connection.send(bytes(16384))
        time.sleep(max(0, sent / 2e6 - passed))
else:
    address, port = sys.argv[3], int(sys.argv[4])
    connection = socket.create_connection((address, port))
    taker = socket.socket(socket.AF_UNIX)
    taker.connect(path)
    socket.send_fds(taker, [b"."], [connection.fileno()])
    connection.close()
    print("passed", flush=True)
    sys.stdin.read()
