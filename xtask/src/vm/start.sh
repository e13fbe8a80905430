# The first program of a VM once it sees the host's files: makes an ordinary Linux system of it,
# runs the command, and turns it off.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
busybox=$(cat /vm/busybox)

mounted() {
    mkdir -p "$2"
    "$busybox" mount -t "$1" -o "${3:-defaults}" "$1" "$2" || echo "vm: no $1 at $2"
}
mounted devpts /dev/pts gid=5,mode=620,ptmxmode=666
mounted tmpfs /dev/shm mode=1777
mounted tmpfs /run mode=755
mounted cgroup2 /sys/fs/cgroup
mounted bpf /sys/fs/bpf
mounted tracefs /sys/kernel/tracing
for link in fd:fd stdin:fd/0 stdout:fd/1 stderr:fd/2; do
    "$busybox" ln -sfn "/proc/self/${link#*:}" "/dev/${link%%:*}"
done

# Whoever started the VM stops waiting for it to boot.
touch /vm/started

# The kernel loads what it needs from there by itself.
mkdir -p /lib/modules
"$busybox" mount -o bind "$(cat /vm/modules)" /lib/modules

"$busybox" hostname vm
"$busybox" ip link set lo up
# Generous, as service managers are.
ulimit -Hn 524288
ulimit -Sn 1024

# Through a pipe: only one program at a time may open the port itself.
"$busybox" mkfifo /run/output
port=$(echo /sys/class/virtio-ports/*)
"$busybox" cat /run/output >"/dev/${port##*/}" &
printer=$!
# /vm/command must not be read to its end by what it starts.
/bin/sh /vm/command </dev/null >/run/output 2>&1
code=$?
# Programs left in the background may hold the pipe open; what was printed until now gets out.
tries=20
while kill -0 "$printer" 2>/dev/null && [ "$tries" -gt 0 ]; do
    "$busybox" sleep 0.05
    tries=$((tries - 1))
done
echo "$code" >/vm/code
"$busybox" sync
"$busybox" poweroff -f
