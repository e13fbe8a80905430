#!/bin/busybox sh
# The first program of a VM: puts the host's files, read-only, under a layer in memory, and goes
# there. What it prints is in console.log.
export PATH=/bin
/bin/busybox --install -s /bin

die() {
    echo "vm: $*"
    poweroff -f
}

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev

while read -r module; do
    insmod "/modules/$module" || die "cannot load module $module"
done </modules/order

# Files of the host don't change while a VM uses them: loose caching is safe, and fast.
mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose host /host ||
    die "cannot mount the host's files"
mount -t tmpfs -o mode=755 memory /memory
mkdir /memory/upper /memory/work
mount -t overlay -o lowerdir=/host,upperdir=/memory/upper,workdir=/memory/work root /root ||
    die "cannot mount a layer over the host's files"

mkdir -p /root/vm
mount -t 9p -o rw,trans=virtio,version=9p2000.L,msize=512000 share /root/vm ||
    die "cannot mount the share"
# The host's own /proc must not be seen: busybox would find the host's qemu as /proc/self/exe.
for directory in proc sys dev; do
    mount -o move "/$directory" "/root/$directory" || die "cannot move /$directory"
done
exec switch_root /root "$(cat /root/vm/busybox)" sh /vm/start.sh
die "cannot enter the host's files"
