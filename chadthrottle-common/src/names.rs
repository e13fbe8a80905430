//! Names of the programs and maps in the object, as user space looks them up.

/// `cgroup/sock_create` at the root: tags every new socket with its process's slot.
pub const PROGRAM_TRACK: &str = "chadthrottle_track";
/// fexit of `inet_csk_accept` where it has two arguments: tags every accepted socket with its process's slot.
pub const PROGRAM_ACCEPT_2: &str = "chadthrottle_accept_2";
/// The same where it has four.
pub const PROGRAM_ACCEPT_4: &str = "chadthrottle_accept_4";
/// `cgroup/sendmsg4` at the root: tags a socket with the slot of the process that sends a datagram on it.
pub const PROGRAM_SEND_4: &str = "chadthrottle_send_4";
/// The same for IPv6.
pub const PROGRAM_SEND_6: &str = "chadthrottle_send_6";
/// `cgroup_skb/ingress` at the root: counts what sockets receive.
pub const PROGRAM_COUNT_INGRESS: &str = "chadthrottle_count_ingress";
/// `cgroup_skb/egress` at the root: counts what sockets send.
pub const PROGRAM_COUNT_EGRESS: &str = "chadthrottle_count_egress";
/// `cgroup_skb/ingress` at a limited process's cgroup: enforces download limits.
pub const PROGRAM_INGRESS: &str = "chadthrottle_ingress";
/// `cgroup_skb/egress` at a limited process's cgroup: enforces upload limits.
pub const PROGRAM_EGRESS: &str = "chadthrottle_egress";
/// tc egress at the devices where downloads are limited: advertises the windows that are granted.
pub const PROGRAM_WINDOW: &str = "chadthrottle_window";
/// tc ingress at the devices where uploads are limited: makes the windows smaller that peers advertise.
pub const PROGRAM_SEND_WINDOW: &str = "chadthrottle_send_window";

/// Raw tracepoint `sched_process_fork`: children belong to the trees of their parents.
pub const PROGRAM_FORK: &str = "chadthrottle_fork";

/// Constant of the programs: 1 if the kernel tells to which MPTCP socket a subflow belongs.
pub const MPTCP: &str = "MPTCP";

/// Constants of the programs: where `task_struct.pid` and `.tgid` are, in bytes.
pub const TASK_PID_OFFSET: &str = "TASK_PID_OFFSET";
/// See [`TASK_PID_OFFSET`].
pub const TASK_TGID_OFFSET: &str = "TASK_TGID_OFFSET";
/// The same of `task_struct.group_leader`; 0 for unknown.
pub const TASK_LEADER_OFFSET: &str = "TASK_LEADER_OFFSET";
/// The same of `task_struct.comm`; 0 for unknown.
pub const TASK_COMM_OFFSET: &str = "TASK_COMM_OFFSET";

/// Constant of the programs: where `tcp_sock.rx_opt.rcv_wscale` is, in bits; 0 for unknown.
pub const WINDOW_SCALE_OFFSET: &str = "WINDOW_SCALE_OFFSET";
/// The same of `tcp_sock.rx_opt.snd_wscale`.
pub const SEND_SCALE_OFFSET: &str = "SEND_SCALE_OFFSET";

/// Constants of the programs: where `tcp_sock.rcv_wnd` and `.rcv_wup` are, in bytes; 0 for unknown.
pub const RECEIVE_WINDOW_OFFSET: &str = "RECEIVE_WINDOW_OFFSET";
/// See [`RECEIVE_WINDOW_OFFSET`].
pub const WINDOW_UPDATE_OFFSET: &str = "WINDOW_UPDATE_OFFSET";

/// Socket storage: the [`crate::tag::Tag`] of each socket.
pub const MAP_TAGS: &str = "TAGS";
/// Array by slot: [`crate::tag::SlotState`].
pub const MAP_SLOTS: &str = "SLOTS";
/// Queue of free [`crate::tag::Tag`]s that the kernel hands to processes it meets.
pub const MAP_FREE_SLOTS: &str = "FREE_SLOTS";
/// Trie of the prefixes that are local because this machine has an address in them; IPv4 as IPv4-mapped IPv6.
pub const MAP_LOCAL_PREFIXES: &str = "LOCAL_PREFIXES";
/// Hash from a cgroup and user, as [`crate::newcomer::Kind::crowd`], to the [`crate::tag::Tag`] of their processes
/// that have no slot of their own.
pub const MAP_CROWDS: &str = "CROWDS";
/// Queue of the [`crate::tag::Tag`]s that are kept for these.
pub const MAP_CROWD_SLOTS: &str = "CROWD_SLOTS";
/// Hash from process id to its [`crate::tag::Tag`].
pub const MAP_PROCESS_SLOTS: &str = "PROCESS_SLOTS";
/// Per-CPU array by slot: [`crate::traffic::Counters`].
pub const MAP_COUNTERS: &str = "COUNTERS";
/// Per-CPU array by interface index: [`crate::traffic::DeviceBytes`].
pub const MAP_DEVICES: &str = "DEVICES";
/// Array of [`crate::limit::Limit`] cells.
pub const MAP_LIMITS: &str = "LIMITS";
/// Array beside the limits: [`crate::limit::Enforced`].
pub const MAP_ENFORCED: &str = "ENFORCED";
/// Array by slot: [`crate::limit::Paced`].
pub const MAP_PACED: &str = "PACED";
/// Hash from [`crate::limit::more_paced`]: devices of slots that have more of them than fit there.
pub const MAP_MORE_PACED: &str = "MORE_PACED";
/// Hash from a [`crate::newcomer::Kind`] of process to the [`crate::newcomer::Beginning`] of the
/// next of that kind.
pub const MAP_BEGINNINGS: &str = "BEGINNINGS";
/// Hash from process id to the [`crate::newcomer::Trees`] it belongs to.
pub const MAP_FAMILIES: &str = "FAMILIES";
/// Ring buffer of [`crate::event::ProcessSeen`].
pub const MAP_EVENTS: &str = "EVENTS";
/// Array of one number: how many of these were lost, because the ring buffer was full.
pub const MAP_LOST: &str = "LOST";
/// Ring buffer of [`crate::round_trip::RoundTrip`].
pub const MAP_ROUND_TRIPS: &str = "ROUND_TRIPS";
/// Ring buffer of slots whose packets leave by a device that they are not paced on.
pub const MAP_ROADS: &str = "ROADS";
