# The first program of a VM once it sees the host's files: makes an ordinary Linux system of it. Then
# it runs the command by run.sh, or has systemd do so.
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
# An emulated processor is behind with what a veth pair hands over, by more than 1000 packets.
echo 100000 > /proc/sys/net/core/netdev_max_backlog
# Generous, as service managers are.
ulimit -Hn 524288
ulimit -Sn 1024

[ -e /vm/systemd ] || exec /bin/sh /vm/run.sh
mkdir -p /run/systemd/system
# No other unit is started by itself. The command may make cgroups of its own.
cat >/run/systemd/system/command.service <<'UNIT'
[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
ExecStart=/bin/sh /vm/run.sh
Delegate=yes
LimitNOFILE=1024:524288
TasksMax=infinity
UNIT
exec "$(cat /vm/systemd)" --unit=command.service
