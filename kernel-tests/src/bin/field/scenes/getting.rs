//! Programs that get and put by HTTP, from an nginx at the other end.

use std::process::Command;

use anyhow::Result;
use kernel_tests::{flow::Direction, process::Process};

use super::{
    CLIENT, Scene,
    web::{PORT, TLS_PORT},
};
use crate::stage::{IN_PARTS, Post, shell};

pub fn scenes() -> Vec<Scene> {
    vec![
        Scene {
            name: "curl",
            needs: &["curl", "nginx"],
            carrier: "curl",
            command: "*/curl *",
            client: other_curl,
            ..CLIENT
        },
        Scene {
            name: "curl, HTTP/2 with TLS",
            needs: &["curl", "nginx", "openssl"],
            carrier: "curl",
            command: "*/curl *",
            client: other_curl_http2,
            ..CLIENT
        },
        Scene {
            name: "curl, upload",
            needs: &["curl", "node"],
            carrier: "curl",
            direction: Direction::Upload,
            server: sink,
            client: curl_upload,
            ..CLIENT
        },
        Scene {
            name: "wget",
            needs: &["wget", "nginx"],
            carrier: "wget",
            command: "*/wget *",
            client: wget,
            ..CLIENT
        },
        Scene {
            name: "wget2",
            needs: &["wget2", "nginx"],
            carrier: "wget2",
            command: "*/wget2 *",
            client: wget2,
            ..CLIENT
        },
        Scene {
            name: "aria2c, 16 connections",
            needs: &["aria2c", "nginx"],
            carrier: "aria2c",
            client: aria2c,
            ..CLIENT
        },
        Scene {
            name: "git clone over HTTP",
            needs: &["git", "nginx"],
            carrier: "git-remote-http",
            command: "*remote-http*",
            server: git_server,
            client: git,
            ..CLIENT
        },
        Scene {
            name: "apt",
            needs: &["apt-helper", "nginx"],
            carrier: "http",
            command: "/usr/lib/apt/methods/http*",
            client: apt,
            ..CLIENT
        },
        Scene {
            name: "pip",
            needs: &["pip3", "nginx"],
            carrier: "pip3",
            command: "*pip3*download*",
            client: pip,
            ..CLIENT
        },
    ]
}

fn url(server: &str) -> String {
    format!("http://{server}:{PORT}/large")
}

fn plainly(post: &Post<'_>, program: &str, arguments: &str) -> Result<Process> {
    plainly_from(post, &post.server(), program, arguments)
}

fn plainly_from(post: &Post<'_>, server: &str, program: &str, arguments: &str) -> Result<Process> {
    let program = post.program(program)?;
    let mut command = Command::new(program);
    command.args(arguments.split(' ')).arg(url(server));
    post.start(command)
}

/// curl, of whichever end.
pub fn other_curl(post: &Post<'_>) -> Result<Process> {
    curl_from(post, &post.server())
}

/// curl, from a server with another address.
pub fn curl_from(post: &Post<'_>, server: &str) -> Result<Process> {
    plainly_from(post, server, "curl", "-sS --noproxy * -o /dev/null")
}

/// The same with TLS and HTTP/2.
pub fn other_curl_http2(post: &Post<'_>) -> Result<Process> {
    let mut curl = Command::new(post.program("curl")?);
    curl.args([
        "-sS",
        "--noproxy",
        "*",
        "--insecure",
        "--http2",
        "-o",
        "/dev/null",
    ]);
    curl.arg(format!("https://{}:{TLS_PORT}/large", post.server()));
    post.start(curl)
}

/// One connection with many requests, each for a part.
pub fn by_ranges(post: &Post<'_>) -> Result<Process> {
    let mut curl = Command::new(post.program("curl")?);
    curl.args([
        "-sS",
        "--noproxy",
        "*",
        "-o",
        "/dev/null",
        "-r",
        "0-19999999",
    ]);
    curl.arg(format!("{}?[1-1000000]", url(&post.server())));
    post.start(curl)
}

/// Four at a time, each connection for 200 kB.
pub fn short(post: &Post<'_>) -> Result<Process> {
    let curl = post.program("curl")?;
    let one = format!(
        "while :; do {} -sS --noproxy '*' -o /dev/null -r 0-199999 {} || exit; done",
        curl.display(),
        url(&post.server())
    );
    post.start(shell(&format!("({one}) & ({one}) & ({one}) & {one}")))
}

fn wget(post: &Post<'_>) -> Result<Process> {
    plainly(post, "wget", "--no-proxy -q -O /dev/null")
}

fn wget2(post: &Post<'_>) -> Result<Process> {
    plainly(post, "wget2", "--no-proxy -q -O /dev/null")
}

fn aria2c(post: &Post<'_>) -> Result<Process> {
    let folder = post.folder();
    let options = format!(
        "--quiet --no-conf --file-allocation=none --max-connection-per-server=16 --split=16 --dir={} --out=got",
        folder.display()
    );
    let mut aria2c = Command::new(post.program("aria2c")?);
    aria2c
        .args(options.split(' '))
        .arg(format!("http://{}:{PORT}/{IN_PARTS}", post.server()));
    post.start(aria2c)
}

const SINK: &str = "
const [,, address, port] = process.argv;
require('http').createServer((request) => request.resume()).listen(port, address);
";

/// Takes what is put to it.
fn sink(post: &Post<'_>) -> Result<Process> {
    let program = post.write("sink.js", SINK)?;
    let mut node = Command::new(post.program("node")?);
    node.arg(program).arg(post.server()).arg(PORT.to_string());
    post.serve(node, PORT)
}

fn curl_upload(post: &Post<'_>) -> Result<Process> {
    let mut curl = Command::new(post.program("curl")?);
    curl.args(["-sS", "--noproxy", "*", "-T"])
        .arg(post.large())
        .arg(url(&post.server()));
    post.start(curl)
}

/// nginx with a repository that a line needs four seconds for.
fn git_server(post: &Post<'_>) -> Result<Process> {
    let shared = post.shared().display();
    post.run(&format!(
        "exec 2>&1; cd {shared} && git init -q --bare repository.git && git init -q tree && cd tree && \
         head -c 160000000 /dev/urandom >random && git -c core.compression=0 add random && \
         git -c user.name=field -c user.email=field@localhost commit -qm field && \
         git push -q ../repository.git HEAD:refs/heads/main && cd ../repository.git && \
         git symbolic-ref HEAD refs/heads/main && git -c core.compression=0 repack -qad && git update-server-info"
    ))?;
    super::web::other_nginx(post)
}

fn git(post: &Post<'_>) -> Result<Process> {
    let mut git = Command::new(post.program("git")?);
    git.args(["-c", "http.proxy=", "clone", "-q", "--bare"]);
    git.arg(format!("http://{}:{PORT}/repository.git", post.server()));
    git.arg(post.folder().join("clone"));
    post.start(git)
}

fn apt(post: &Post<'_>) -> Result<Process> {
    let mut apt = Command::new(post.program("apt-helper")?);
    apt.args(["-o", "Acquire::http::Proxy=false", "download-file"])
        .arg(url(&post.server()));
    apt.arg(post.folder().join("got"));
    post.start(apt)
}

fn pip(post: &Post<'_>) -> Result<Process> {
    let place = post.folder();
    let script = format!(
        "cd {}; exec env TMPDIR={} {} --isolated --no-cache-dir --proxy= download --no-deps --disable-pip-version-check {}.tar.gz",
        place.display(),
        place.display(),
        post.program("pip3")?.display(),
        url(&post.server())
    );
    std::os::unix::fs::symlink("large", post.shared().join("large.tar.gz"))?;
    post.start(shell(&script))
}
