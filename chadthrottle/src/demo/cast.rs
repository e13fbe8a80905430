//! Who lives in the made-up world.

/// A program of the made-up world.
#[derive(Debug)]
pub struct Program {
    /// Whose.
    pub user: &'static str,
    /// Its name.
    pub name: &'static str,
    /// Its file.
    pub exe: &'static str,
    /// Its cgroup.
    pub cgroup: &'static str,
    /// The most it downloads and uploads, in bytes a second.
    pub most: [u64; 2],
    /// The port of those it speaks with, or that it listens on.
    pub port: u16,
    /// It listens.
    pub serves: bool,
}

const fn client(
    user: &'static str,
    name: &'static str,
    exe: &'static str,
    cgroup: &'static str,
    most: [u64; 2],
    port: u16,
) -> Program {
    Program {
        user,
        name,
        exe,
        cgroup,
        most,
        port,
        serves: false,
    }
}

const fn server(program: Program) -> Program {
    Program {
        serves: true,
        ..program
    }
}

const ADA: &str = "/user.slice/user-1000.slice/session-3.scope";
const ADA_APPS: &str = "/user.slice/user-1000.slice/user@1000.service/app.slice";
const GRACE: &str = "/user.slice/user-1001.slice/session-7.scope";

/// All of them.
#[rustfmt::skip]
pub const PROGRAMS: &[Program] = &[
    client("ada", "firefox", "/usr/lib/firefox/firefox", "/user.slice/user-1000.slice/user@1000.service/app.slice/app-firefox-4127.scope", [6_000_000, 300_000], 443),
    client("ada", "curl", "/usr/bin/curl", ADA, [24_000_000, 90_000], 443),
    client("grace", "rsync", "/usr/bin/rsync", GRACE, [120_000, 11_000_000], 873),
    client("root", "dockerd", "/usr/bin/dockerd", "/system.slice/docker.service", [9_000_000, 200_000], 443),
    server(client("www-data", "nginx", "/usr/sbin/nginx", "/system.slice/nginx.service", [400_000, 8_000_000], 443)),
    server(client("postgres", "postgres", "/usr/lib/postgresql/17/bin/postgres", "/system.slice/docker-5a0d7c91e3b24f6680c1d2e3f4a5b6c7d8e9f00112233445566778899aabbccd.scope", [70_000, 900_000], 5432)),
    server(client("ada", "transmission-da", "/usr/bin/transmission-daemon", "/system.slice/transmission-daemon.service", [3_000_000, 2_500_000], 51413)),
    client("systemd-resolve", "systemd-resolve", "/usr/lib/systemd/systemd-resolved", "/system.slice/systemd-resolved.service", [2_000, 1_000], 53),
    client("ada", "ssh", "/usr/bin/ssh", ADA, [8_000, 4_000], 22),
    server(client("root", "sshd-session", "/usr/lib/openssh/sshd-session", "/system.slice/ssh.service", [4_000, 30_000], 22)),
    client("grace", "zoom", "/opt/zoom/zoom", "/user.slice/user-1001.slice/user@1001.service/app.slice/app-zoom-991.scope", [450_000, 400_000], 8801),
    client("ada", "python3", "/usr/bin/python3.13", ADA_APPS, [1_200_000, 50_000], 443),
    client("ada", "cargo", "/home/ada/.cargo/bin/cargo", ADA, [12_000_000, 60_000], 443),
    client("root", "NetworkManager", "/usr/sbin/NetworkManager", "/system.slice/NetworkManager.service", [900, 700], 80),
    client("chrony", "chronyd", "/usr/sbin/chronyd", "/system.slice/chrony.service", [90, 90], 123),
    server(client("grace", "syncthing", "/usr/bin/syncthing", "/user.slice/user-1001.slice/user@1001.service/app.slice/syncthing.service", [600_000, 1_400_000], 22000)),
];

/// The number of a user.
pub fn uid(user: &str) -> u32 {
    match user {
        "root" => 0,
        "www-data" => 33,
        "postgres" => 105,
        "chrony" => 106,
        "systemd-resolve" => 991,
        "grace" => 1001,
        _ => 1000,
    }
}
