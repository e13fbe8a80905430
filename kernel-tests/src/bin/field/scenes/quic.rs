//! HTTP/3: QUIC by ngtcp2, and by quic-go in Caddy.

use std::process::Command;

use anyhow::{Context, Result};
use kernel_tests::{flow::Direction, process::Process};

use super::{CLIENT, SERVER, Scene};
use crate::{meter::Transport, stage::Post};

const PORT: u16 = 4433;

pub fn scenes() -> Vec<Scene> {
    vec![
        Scene {
            name: "Caddy, HTTP/3",
            needs: &["caddy", "gtlsclient", "openssl"],
            carrier: "caddy",
            transport: Transport::Udp,
            server: caddy,
            client: ngtcp2,
            ..SERVER
        },
        Scene {
            name: "ngtcp2, HTTP/3 server",
            needs: &["gtlsserver", "gtlsclient", "openssl"],
            carrier: "gtlsserver",
            transport: Transport::Udp,
            server: ngtcp2_server,
            client: ngtcp2,
            ..SERVER
        },
        Scene {
            name: "ngtcp2, HTTP/3",
            needs: &["gtlsserver", "gtlsclient", "openssl"],
            carrier: "gtlsclient",
            command: "*gtlsclient -q*",
            transport: Transport::Udp,
            server: ngtcp2_server,
            client: ngtcp2,
            ..CLIENT
        },
        Scene {
            name: "ngtcp2, HTTP/3, upload",
            needs: &["gtlsserver", "gtlsclient", "openssl"],
            carrier: "gtlsclient",
            command: "*gtlsclient -q*",
            direction: Direction::Upload,
            transport: Transport::Udp,
            server: ngtcp2_server,
            client: ngtcp2_upload,
            ..CLIENT
        },
    ]
}

fn caddy(post: &Post<'_>) -> Result<Process> {
    let certificate = post.certificate()?.context("no openssl")?;
    let configuration = post.write(
        "Caddyfile",
        &format!(
            "{{\n auto_https off\n admin off\n}}\n\
             https://localhost:{PORT} {{\n bind {}\n tls {} {}\n root * {}\n file_server\n}}\n",
            post.server(),
            certificate.chain.display(),
            certificate.key.display(),
            post.shared().display()
        ),
    )?;
    let mut caddy = Command::new(post.program("caddy")?);
    caddy.args(["run", "--adapter", "caddyfile", "--config"]);
    caddy.arg(configuration).env("HOME", post.folder());
    post.serve(caddy, PORT)
}

fn ngtcp2_server(post: &Post<'_>) -> Result<Process> {
    let certificate = post.certificate()?.context("no openssl")?;
    let mut server = Command::new(post.program("gtlsserver")?);
    server.arg("-q").arg("-d").arg(post.shared());
    server.args([&post.server(), &PORT.to_string()]);
    server.args([certificate.key, certificate.chain]);
    post.serve(server, PORT)
}

fn ngtcp2(post: &Post<'_>) -> Result<Process> {
    client(post, &[])
}

fn ngtcp2_upload(post: &Post<'_>) -> Result<Process> {
    let data = format!("--data={}", post.large().display());
    client(post, &["--http-method=POST", &data])
}

fn client(post: &Post<'_>, options: &[&str]) -> Result<Process> {
    let mut client = Command::new(post.program("gtlsclient")?);
    client.arg("-q").args(options);
    client.args([&post.server(), &PORT.to_string()]);
    // The name that it asks the server for when it is given an address.
    client.arg(format!("https://localhost:{PORT}/large"));
    post.start(client)
}
