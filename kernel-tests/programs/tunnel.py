"""One end of a tunnel over UDP, as VPNs in user space are: DEVICE ADDRESS/BITS HERE PORT THERE."""

import fcntl
import os
import selectors
import socket
import struct
import subprocess
import sys

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000

device, address, here, port, there = sys.argv[1:]
tunnel = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(tunnel, TUNSETIFF, struct.pack("16sH22x", device.encode(), IFF_TUN | IFF_NO_PI))
for command in (f"address add {address} dev {device}", f"link set {device} mtu 1400 up"):
    subprocess.run(["ip", *command.split()], check=True)
outside = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
outside.bind((here, int(port)))
other = (there, int(port))
print("begun", flush=True)
selector = selectors.DefaultSelector()
selector.register(tunnel, selectors.EVENT_READ)
selector.register(outside, selectors.EVENT_READ)
while True:
    for key, _ in selector.select():
        if key.fd == tunnel:
            outside.sendto(os.read(tunnel, 2048), other)
        else:
            os.write(tunnel, outside.recv(2048))
