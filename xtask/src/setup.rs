//! Installs what the eBPF build and the tests need, printing each step and asking nothing.

mod apt;
mod toolchain;

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

use self::apt::Apt;
use crate::{
    privilege::{Ask, as_root},
    workspace::succeed,
};

/// Options of `setup`.
#[derive(clap::Args)]
pub struct Options {
    /// Only says what is there and what is missing; fails if anything is.
    #[arg(long)]
    check: bool,
    /// Also what `cargo xtask vm` needs.
    #[arg(long)]
    vm: bool,
    /// Also the servers and clients that `cargo xtask field` runs.
    #[arg(long)]
    field: bool,
}

/// Whether to install or only to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Installs what is missing.
    Install,
    /// Says what is missing.
    Check,
}

/// Installs what is missing, or only lists it.
///
/// # Errors
///
/// Something is missing still: what, and what could not be done about it.
pub fn run(options: &Options) -> Result<()> {
    let mode = match options.check {
        true => Mode::Check,
        false => Mode::Install,
    };
    // Neither stops the other: the tests don't need the toolchain, nor it them.
    let vm_tools = if options.vm { vm_tools(mode) } else { Ok(()) };
    let field_tools = match options.field {
        true => tools("the field suite", "setup --field", &FIELD_TOOLS, mode)
            .and_then(|()| go_server(mode)),
        false => Ok(()),
    };
    let problems: Vec<_> = [
        toolchain::bring(mode),
        test_tools(mode),
        vm_tools,
        field_tools,
    ]
    .into_iter()
    .filter_map(Result::err)
    .map(|error| format!("{error:#}"))
    .collect();
    ensure!(problems.is_empty(), "{}", problems.join("\nerror: "));
    println!("Everything is there.");
    Ok(())
}

/// Programs that the kernel tests start, and the packages that may bring each. What begins with
/// `python3-` is a module of the system's Python.
const TEST_TOOLS: [(&str, &[&str]); 10] = [
    ("bpftool", &["bpftool", "linux-tools-generic"]),
    ("curl", &["curl"]),
    ("ip", &["iproute2"]),
    // A server with workers, as most are.
    ("nginx", &["nginx-light", "nginx"]),
    ("ps", &["procps"]),
    // The strictest parser of OpenMetrics, by Prometheus' own people.
    ("python3-prometheus-client", &["python3-prometheus-client"]),
    ("readelf", &["binutils"]),
    ("setpriv", &["util-linux"]),
    ("tmux", &["tmux"]),
    ("wget", &["wget"]),
];

/// Programs that start virtual machines and prepare what is in them.
const VM_TOOLS: [(&str, &[&str]); 9] = [
    ("busybox", &["busybox-static"]),
    ("cpio", &["cpio"]),
    ("depmod", &["kmod"]),
    ("dpkg-deb", &["dpkg"]),
    ("modprobe", &["kmod"]),
    ("qemu-system-x86_64", &["qemu-system-x86"]),
    ("setpriv", &["util-linux"]),
    ("xz", &["xz-utils"]),
    ("zstd", &["zstd"]),
];

/// Programs that the bench compares with.
const BENCH_TOOLS: [(&str, &[&str]); 5] = [
    ("nethogs", &["nethogs"]),
    ("script", &["bsdutils", "util-linux-script"]),
    ("tc", &["iproute2", "iproute-tc"]),
    ("trickle", &["trickle"]),
    ("wrk", &["wrk"]),
];

/// Servers and clients of the field suite.
const FIELD_TOOLS: [(&str, &[&str]); 38] = [
    ("apache2", &["apache2"]),
    ("aria2c", &["aria2"]),
    ("busybox", &["busybox-static"]),
    ("caddy", &["caddy"]),
    ("chromium", &["chromium", "chromium-browser"]),
    ("crun", &["crun"]),
    ("curl", &["curl"]),
    ("dnsmasq", &["dnsmasq-base"]),
    ("dnsperf", &["dnsperf"]),
    ("ffmpeg", &["ffmpeg"]),
    ("git", &["git"]),
    ("gtlsclient", &["ngtcp2-client"]),
    ("gtlsserver", &["ngtcp2-server"]),
    ("gunicorn", &["gunicorn"]),
    ("haproxy", &["haproxy"]),
    ("iperf3", &["iperf3"]),
    ("iptables", &["iptables"]),
    ("lftp", &["lftp"]),
    ("netavark", &["netavark"]),
    ("nft", &["nftables"]),
    ("nginx", &["nginx-light", "nginx"]),
    ("node", &["nodejs"]),
    ("openssl", &["openssl"]),
    ("openvpn", &["openvpn"]),
    ("pip3", &["python3-pip"]),
    ("podman", &["podman"]),
    ("psql", &["postgresql"]),
    ("restic", &["restic"]),
    ("rsync", &["rsync"]),
    ("smbclient", &["smbclient"]),
    ("smbd", &["samba"]),
    ("socat", &["socat"]),
    ("sshd", &["openssh-server"]),
    ("transmission-cli", &["transmission-cli"]),
    ("uvicorn", &["uvicorn"]),
    ("vsftpd", &["vsftpd"]),
    ("wg", &["wireguard-tools"]),
    ("wget2", &["wget2"]),
];

/// A server in Go that is newer than Debian's: npm brings it. Its scene is skipped without it.
fn go_server(mode: Mode) -> Result<()> {
    if mode == Mode::Check || is_there("esbuild") {
        return Ok(());
    }
    if !is_there("npm") {
        println!("Going on without esbuild: there is no npm to install it.");
        return Ok(());
    }
    const NO_VARIABLES: &[(&str, &str)] = &[];
    let mut npm = as_root("npm", Ask::Never, NO_VARIABLES)
        .context("run `npm install --global esbuild` as root")?;
    step(npm.args(["install", "--global", "--allow-scripts=esbuild", "esbuild"]))
}

/// Makes sure that the programs are there which the bench compares with.
///
/// # Errors
///
/// One is missing.
pub fn bench_tools(mode: Mode) -> Result<()> {
    tools("the bench", "bench", &BENCH_TOOLS, mode)
}

/// Makes sure that the programs are there which the kernel tests start.
///
/// # Errors
///
/// One is missing.
pub fn test_tools(mode: Mode) -> Result<()> {
    tools("the tests", "setup", &TEST_TOOLS, mode)
}

/// Makes sure that the programs are there which the virtual machines need.
///
/// # Errors
///
/// One is missing.
pub fn vm_tools(mode: Mode) -> Result<()> {
    tools("the virtual machines", "setup --vm", &VM_TOOLS, mode)
}

/// Makes sure that virtual machines can have systemd as their first program. It need not run here.
///
/// # Errors
///
/// It is missing.
pub fn systemd(mode: Mode) -> Result<()> {
    let systemd = [("systemd-run", &["systemd"][..])];
    tools(
        "virtual machines with systemd",
        "vm --systemd",
        &systemd,
        mode,
    )
}

fn tools(who: &str, task: &str, tools: &[(&str, &[&str])], mode: Mode) -> Result<()> {
    let missing: Vec<_> = tools
        .iter()
        .filter(|(program, _)| !is_there(program))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = missing.iter().map(|(program, _)| *program).collect();
    let names = names.join(", ");
    if mode == Mode::Check {
        bail!("{who} need {names}: `cargo xtask {task}` installs them");
    }
    println!("Programs for {who}: {names} missing.");
    let install = || {
        let apt = Apt::find()?;
        let packages = missing
            .iter()
            .map(|(program, packages)| {
                apt.first_known(packages)
                    .with_context(|| format!("no package brings {program}"))
            })
            .collect::<Result<Vec<_>>>()?;
        apt.install(&packages)
    };
    install().with_context(|| format!("{who} need {names}: install them"))
}

fn is_there(name: &str) -> bool {
    let Some(module) = name.strip_prefix("python3-") else {
        return find_program(name).is_some();
    };
    // Not the first python3 on PATH: packages are for the system's.
    let import = format!("import {}", module.replace('-', "_"));
    let mut python = Command::new("/usr/bin/python3");
    python
        .args(["-c", &import])
        .output()
        .is_ok_and(|output| output.status.success())
}

/// Where a program is.
///
/// # Errors
///
/// Nowhere.
pub fn program(name: &str) -> Result<PathBuf> {
    find_program(name).with_context(|| format!("{name} is missing: run `cargo xtask setup --vm`"))
}

/// Some are in sbin, which an ordinary user's PATH lacks, and what podman calls is on nobody's.
fn find_program(name: &str) -> Option<PathBuf> {
    which::which_in_global(name, env::var_os("PATH"))
        .ok()?
        .next()
        .or_else(|| {
            (["/usr/sbin", "/sbin", "/usr/lib/podman"].iter())
                .map(|dir| Path::new(dir).join(name))
                .find(|path| path.is_file())
        })
}

/// Says what is done, and does it.
fn step(command: &mut Command) -> Result<()> {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect();
    println!("> {}", words.join(" "));
    succeed(command)
}
