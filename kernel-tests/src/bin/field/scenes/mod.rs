//! What is played: who serves, who asks, and which of them is limited.

mod browsing;
mod containers;
mod datagrams;
mod files;
mod getting;
mod quic;
mod serving;
mod sharing;
mod tunnels;
mod web;

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;
use kernel_tests::{flow::Direction, process::Process};
use rustix::process::Signal;

use crate::{meter::Transport, stage::Post};

/// A part of a scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Who waits.
    Server,
    /// Who comes.
    Client,
}

impl Part {
    /// Its partner.
    pub fn other(self) -> Self {
        match self {
            Self::Server => Self::Client,
            Self::Client => Self::Server,
        }
    }
}

/// As whom the limited part runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunsAs {
    /// As a user of its own.
    Anybody,
    /// As root, because it must; a limit on root would be one on everybody's daemons.
    Root,
    /// As a user that it must have.
    Named(&'static str),
}

/// Starts a part, and returns what belongs to it.
type Start = fn(&Post<'_>) -> Result<Process>;

/// A server and a client, as people run them.
pub struct Scene {
    /// As the table has it.
    pub name: &'static str,
    /// Programs that must be there, by name or path.
    pub needs: &'static [&'static str],
    /// What the kernel must have: kinds of network devices, `nat`, or `cgroup v2 alone`.
    pub needs_of_kernel: &'static [&'static str],
    /// The name of the process that has the limited connections.
    pub carrier: &'static str,
    /// A pattern for that process's command line; `FOLDER` is the stage's.
    pub command: &'static str,
    /// What is limited.
    pub direction: Direction,
    /// By what the data goes.
    pub transport: Transport,
    /// Which part is limited.
    pub limited: Part,
    /// As whom that one runs.
    pub runs_as: RunsAs,
    /// Starts the server, and waits until it listens.
    pub server: Start,
    /// Starts the client, which goes on until it is ended.
    pub client: Start,
    /// A client that has a new connection for every bit.
    pub short: Option<Start>,
    /// What tells the server to read its settings anew.
    pub reload: Option<Signal>,
}

/// What most scenes are, for those that differ in a little.
const SERVER: Scene = Scene {
    name: "",
    needs: &[],
    needs_of_kernel: &[],
    carrier: "",
    command: "*FOLDER*",
    direction: Direction::Upload,
    transport: Transport::Tcp,
    limited: Part::Server,
    runs_as: RunsAs::Anybody,
    server: web::other_nginx,
    client: getting::other_curl,
    short: None,
    reload: None,
};

const CLIENT: Scene = Scene {
    direction: Direction::Download,
    limited: Part::Client,
    ..SERVER
};

/// All of them.
pub fn all() -> Vec<Scene> {
    let mut all = Vec::new();
    all.extend(web::scenes());
    all.extend(serving::scenes());
    all.extend(files::scenes());
    all.extend(getting::scenes());
    all.extend(browsing::scenes());
    all.extend(sharing::scenes());
    all.extend(tunnels::scenes());
    all.extend(containers::scenes());
    all.extend(quic::scenes());
    all.extend(datagrams::scenes());
    all
}

/// What it needs and is missing.
pub fn missing(scene: &Scene) -> Option<String> {
    let program = scene.needs.iter().find(|program| find(program).is_none());
    if let Some(program) = program {
        return Some(format!("{program} is not installed"));
    }
    let mut needs = scene.needs_of_kernel.iter();
    let missing = needs.find(|what| !kernel_has(what))?;
    Some(format!("the kernel has no {missing}"))
}

/// Whether a device of that kind can be made, or addresses be translated, in a network namespace that goes with it.
fn kernel_has(what: &str) -> bool {
    let (modules, proof) = match what {
        // crun starts nothing where some controllers are on the first version's hierarchies.
        "cgroup v2 alone" => (
            &[][..],
            "[ -e /sys/fs/cgroup/cgroup.controllers ]".to_owned(),
        ),
        "tun" => (&["tun"][..], "ip tuntap add probe mode tun".to_owned()),
        "nat" => (
            &["bridge", "nft_chain_nat", "nft_compat", "xt_MASQUERADE"][..],
            "iptables -t nat -A POSTROUTING -j MASQUERADE && ip link add probe type bridge"
                .to_owned(),
        ),
        kind => (&[kind][..], format!("ip link add probe type {kind}")),
    };
    // Where that can't be loaded, it may be built in.
    if !modules.is_empty() {
        let mut load = Command::new("modprobe");
        let _loaded = load.args(["--quiet", "--all"]).args(modules).status();
    }
    let mut unshare = Command::new("unshare");
    unshare.args(["--net", "sh", "-c", &proof]);
    unshare.output().is_ok_and(|output| output.status.success())
}

/// Where a program is. Some are in folders that are not on the path.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let more = [
        "/usr/sbin",
        "/sbin",
        "/usr/bin",
        "/usr/lib/apt",
        "/usr/lib/podman",
        "/usr/lib/postgresql/15/bin",
        "/usr/lib/postgresql/17/bin",
    ];
    // A distribution's own first: what it brings belongs together.
    (more.iter().map(PathBuf::from))
        .chain(env::split_paths(&path))
        .map(|folder| folder.join(name))
        .find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    path.metadata()
        .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}
