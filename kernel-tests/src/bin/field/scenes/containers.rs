//! A server in a container, with a published port: what reaches it was sent to the machine's own address.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, Result};
use kernel_tests::{moment::until, outcome::is_slow, process::Process};

use super::{SERVER, Scene, find};
use crate::stage::{Post, shell};

/// Where it listens, within and outside.
const PORT: u16 = 8080;

/// The server's name: it is called by one that begins with `busybox`, and nobody else has this one.
const HTTPD: &str = "busybox-httpd";

/// Podman keeps what it knows in these folders, whatever options say: it has its own.
const FOLDERS: &str = "/run/netns /run/libpod /run/containers /var/lib/containers";

pub fn scenes() -> Vec<Scene> {
    vec![Scene {
        name: "podman, a published port",
        needs: &[
            "podman", "crun", "netavark", "iptables", "nft", "curl", "busybox",
        ],
        needs_of_kernel: &["nat", "cgroup v2 alone"],
        carrier: HTTPD,
        command: "*busybox-httpd httpd*",
        server: podman,
        ..SERVER
    }]
}

/// The container is in the unit, and podman is not: that is not limited.
fn podman(post: &Post<'_>) -> Result<Process> {
    let folder = post.folder();
    let root = folder.join("root");
    for inner in ["bin", "proc", "sys", "dev", "etc", "tmp", "srv"] {
        fs::create_dir_all(root.join(inner))?;
    }
    fs::copy(
        find("busybox").context("no busybox")?,
        root.join("bin").join(HTTPD),
    )?;
    fs::write(post.shared().join("small"), "small")?;
    let process = post.start_beside(shell(&run(post, &root)?))?;
    let patience = Duration::from_secs(if is_slow() { 120 } else { 30 });
    until("the container answers", patience, || {
        let url = format!("http://{}:{PORT}/small", post.server());
        let ask = format!("curl -s --noproxy '*' --max-time 2 {url} || true");
        Ok(post.other().end().run(shell(&ask))?.trim_end() == "small")
    })
    .with_context(|| process.errors())?;
    Ok(process)
}

/// Its command, whose mounts go with it.
fn run(post: &Post<'_>, root: &Path) -> Result<String> {
    let folder = post.folder();
    let folder = folder.display();
    let own = format!(
        "mkdir -p {FOLDERS}; for folder in {FOLDERS}; do mount -t tmpfs none $folder || exit; done"
    );
    let podman = format!(
        "{} --root {folder}/images --runroot {folder}/run --tmpdir {folder}/tmp --storage-driver vfs \
         --events-backend none --cgroup-manager cgroupfs",
        post.program("podman")?.display()
    );
    let container = format!(
        "run --rm --cgroup-parent {} --user {} --network bridge --publish {PORT}:{PORT} --volume {}:/srv:ro \
         --rootfs {} /bin/{HTTPD} httpd -f -p {PORT} -h /srv",
        post.unit()?,
        post.user(),
        post.shared().display(),
        root.display(),
    );
    Ok(format!(
        "exec unshare --mount --propagation private sh -c '{own}; exec {podman} {container}'"
    ))
}
