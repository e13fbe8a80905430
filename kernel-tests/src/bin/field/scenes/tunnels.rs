//! curl through a tunnel: one that the kernel makes, and one that a program makes, which is limited itself as well.

use std::{path::PathBuf, process::Command};

use anyhow::{Context, Result};
use kernel_tests::{lab::Family, process::Process};

use super::{CLIENT, RunsAs, Scene, getting, web};
use crate::{
    meter::Transport,
    stage::{Post, shell},
};

/// The ends' addresses within a tunnel.
const SERVER: &str = "10.99.0.1";
const CLIENT_WITHIN: &str = "10.99.0.2";

/// Where the ends of a tunnel meet, by UDP.
const PORT: u16 = 51_820;

pub fn scenes() -> Vec<Scene> {
    vec![
        Scene {
            name: "curl through WireGuard",
            needs: &["curl", "nginx", "wg"],
            needs_of_kernel: &["wireguard"],
            carrier: "curl",
            command: "*/curl *",
            transport: Transport::Tunnelled,
            server: wireguard,
            client: curl,
            ..CLIENT
        },
        Scene {
            name: "curl through OpenVPN",
            needs: &["curl", "nginx", "openvpn"],
            needs_of_kernel: &["tun"],
            carrier: "curl",
            command: "*/curl *",
            transport: Transport::Tunnelled,
            server: openvpn,
            client: curl,
            ..CLIENT
        },
        Scene {
            name: "OpenVPN, for curl",
            needs: &["curl", "nginx", "openvpn"],
            needs_of_kernel: &["tun"],
            carrier: "openvpn",
            command: "*openvpn*",
            transport: Transport::Tunnel,
            runs_as: RunsAs::Root,
            server: openvpn_far,
            client: openvpn_and_curl,
            ..CLIENT
        },
    ]
}

fn curl(post: &Post<'_>) -> Result<Process> {
    getting::curl_from(post, SERVER)
}

fn wireguard(post: &Post<'_>) -> Result<Process> {
    let ends = [post.other(), *post];
    let keys = ends.map(|end| {
        let made = end.end().run(shell("wg genkey"))?;
        let private = end.write("wireguard.key", &made)?;
        let public = end
            .end()
            .run(shell(&format!("wg pubkey <{}", private.display())))?;
        anyhow::Ok((private, public.trim().to_owned()))
    });
    let [client, server] = keys;
    let (client, server) = (client?, server?);
    for (end, (private, _), (_, public), within, peer, beside) in [
        (
            ends[0],
            &client,
            &server,
            CLIENT_WITHIN,
            SERVER,
            post.server(),
        ),
        (
            ends[1],
            &server,
            &client,
            SERVER,
            CLIENT_WITHIN,
            post.client(),
        ),
    ] {
        end.end().run(shell(&format!(
            "set -e; ip link add within type wireguard; \
             wg set within private-key {} listen-port {PORT} peer {public} allowed-ips {peer}/32 \
             endpoint {beside}:{PORT}; ip address add {within}/24 dev within; ip link set within up",
            private.display(),
        )))?;
    }
    web::nginx_at(post, SERVER)
}

fn openvpn(post: &Post<'_>) -> Result<Process> {
    let nginx = openvpn_far(post)?;
    let client = post.other();
    client.beside(tunnel(&client)?)?;
    Ok(nginx)
}

/// Waits in a shell until the tunnel's device is up.
const UNTIL_UP: &str = "until ip -br link show within 2>/dev/null | grep -q UP; do sleep 0.1; done";

/// The server's end of it, and nginx within.
fn openvpn_far(post: &Post<'_>) -> Result<Process> {
    let key = key(post);
    post.end()
        .run(shell(&format!("openvpn --genkey secret {}", key.display())))?;
    post.beside(tunnel(post)?)?;
    (post
        .end()
        .run(shell(&format!("timeout 30 sh -c '{UNTIL_UP}'"))))
    .context("the tunnel's device does not come up")?;
    web::nginx_at(post, SERVER)
}

/// The client's end, which is limited, and a curl that is not: it has another name.
fn openvpn_and_curl(post: &Post<'_>) -> Result<Process> {
    let client = post.start(tunnel(post)?)?;
    let other = post.other().program("curl")?;
    post.beside(shell(&format!(
        "{UNTIL_UP}; exec {} -sS --noproxy '*' -o /dev/null http://{SERVER}:{}/large",
        other.display(),
        web::PORT,
    )))?;
    Ok(client)
}

/// Where the key is that both ends have. Of all ways to run it, this one needs the fewest files.
fn key(server: &Post<'_>) -> PathBuf {
    server.folder().join("openvpn.key")
}

/// One end of it, a process that carries a device's packets by UDP.
fn tunnel(post: &Post<'_>) -> Result<Command> {
    let (server, client) = (post.server(), post.client());
    let is_server = post.end().address(Family::V4).to_string() == server;
    let (own, peer, local, remote, key) = match is_server {
        true => (SERVER, CLIENT_WITHIN, server, client, key(post)),
        false => (CLIENT_WITHIN, SERVER, client, server, key(&post.other())),
    };
    let mut openvpn = Command::new(post.program("openvpn")?);
    openvpn.args(["--dev", "within", "--dev-type", "tun"]);
    openvpn.args(["--ifconfig", own, peer]);
    openvpn.args(["--local", &local, "--remote", &remote]);
    openvpn.args(["--port", &PORT.to_string()]);
    openvpn.args(["--cipher", "AES-256-CBC", "--verb", "1", "--secret"]);
    openvpn.arg(key);
    Ok(openvpn)
}
