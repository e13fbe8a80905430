//! curl through a tunnel: one that the kernel makes, and one that a program makes, which is limited itself as well.

use std::process::Command;

use anyhow::{Context, Result};
use kernel_tests::process::Process;

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
            needs_device: Some("wireguard"),
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
            needs_device: Some("tun"),
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
            needs_device: Some("tun"),
            carrier: "openvpn",
            command: "*openvpn*",
            transport: Transport::Tunnelled,
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
    let client = post.other();
    let key = key(post)?;
    client.beside(tunnel(&client, "openvpn", &key)?)?;
    openvpn_far(post)
}

/// The server's end of it, and nginx within.
fn openvpn_far(post: &Post<'_>) -> Result<Process> {
    let key = key(post)?;
    post.beside(tunnel(post, "openvpn", &key)?)?;
    post.end().run(shell(
        "for n in $(seq 300); do ip -br link show within 2>/dev/null | grep -q UP && exit; sleep 0.1; done; exit 1",
    ))
    .context("the tunnel's device does not come up")?;
    web::nginx_at(post, SERVER)
}

/// The client's end, which is limited, and a curl that is not: it has another name.
fn openvpn_and_curl(post: &Post<'_>) -> Result<Process> {
    let key = post.other().folder().join("openvpn.key");
    let client = post.start(tunnel(post, "openvpn", &key)?)?;
    let other = post.other().program("curl")?;
    let mut curl = shell(&format!(
        "for n in $(seq 300); do ip -br link show within 2>/dev/null | grep -q UP && break; sleep 0.1; done; \
         exec {} -sS --noproxy '*' -o /dev/null http://{SERVER}:{}/large",
        other.display(),
        web::PORT,
    ));
    curl.env("HOME", post.folder());
    post.beside(curl)?;
    Ok(client)
}

/// Both have it. Of all ways to run it, this one needs the fewest files.
fn key(post: &Post<'_>) -> Result<std::path::PathBuf> {
    let path = post.folder().join("openvpn.key");
    if !path.exists() {
        let place = path.display();
        (post.end()).run(shell(&format!("openvpn --genkey secret {place}")))?;
    }
    Ok(path)
}

/// One end of it, a process that carries a device's packets by UDP.
fn tunnel(post: &Post<'_>, program: &str, key: &std::path::Path) -> Result<Command> {
    let at_server = post
        .end()
        .address(kernel_tests::lab::Family::V4)
        .to_string()
        == post.server();
    let (own, peer, local, remote) = match at_server {
        true => (SERVER, CLIENT_WITHIN, post.server(), post.client()),
        false => (CLIENT_WITHIN, SERVER, post.client(), post.server()),
    };
    let mut openvpn = Command::new(post.program(program)?);
    openvpn.args([
        "--dev",
        "within",
        "--dev-type",
        "tun",
        "--ifconfig",
        own,
        peer,
    ]);
    openvpn.args([
        "--local",
        &local,
        "--remote",
        &remote,
        "--port",
        &PORT.to_string(),
    ]);
    openvpn.args(["--cipher", "AES-256-CBC", "--verb", "1", "--secret"]);
    openvpn.arg(key);
    Ok(openvpn)
}
