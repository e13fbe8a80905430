//! Web servers.

use std::{path::Path, process::Command};

use anyhow::Result;
use kernel_tests::process::Process;
use rustix::process::Signal;

use super::{SERVER, Scene, getting};
use crate::stage::{Post, shell};

/// Where web servers listen.
pub const PORT: u16 = 8080;
/// And with TLS.
pub const TLS_PORT: u16 = 8443;

pub fn scenes() -> Vec<Scene> {
    vec![
        Scene {
            name: "nginx, 2 workers",
            needs: &["nginx", "curl"],
            carrier: "nginx",
            command: "nginx: *",
            server: nginx,
            short: Some(getting::short),
            reload: Some(Signal::HUP),
            ..SERVER
        },
        Scene {
            name: "nginx, HTTP/2 with TLS",
            needs: &["nginx", "curl", "openssl"],
            carrier: "nginx",
            command: "nginx: *",
            server: nginx,
            client: getting::other_curl_http2,
            ..SERVER
        },
        Scene {
            name: "Apache, event",
            needs: &["apache2", "curl"],
            carrier: "apache2",
            server: apache_event,
            short: Some(getting::short),
            reload: Some(Signal::USR1),
            ..SERVER
        },
        Scene {
            name: "Apache, prefork",
            needs: &["apache2", "curl"],
            carrier: "apache2",
            server: apache_prefork,
            short: Some(getting::short),
            reload: Some(Signal::USR1),
            ..SERVER
        },
        Scene {
            name: "HAProxy with master and worker",
            needs: &["haproxy", "nginx", "curl"],
            carrier: "haproxy",
            server: haproxy,
            reload: Some(Signal::USR2),
            ..SERVER
        },
        Scene {
            name: "Caddy",
            needs: &["caddy", "curl"],
            carrier: "caddy",
            server: caddy,
            short: Some(getting::short),
            ..SERVER
        },
        Scene {
            name: "esbuild, in Go with MPTCP",
            needs: &["esbuild", "curl"],
            carrier: "esbuild",
            command: "*esbuild*--serve*",
            server: esbuild,
            client: getting::by_ranges,
            ..SERVER
        },
        Scene {
            name: "Node, cluster of 2",
            needs: &["node", "curl"],
            carrier: "node",
            server: node,
            ..SERVER
        },
        Scene {
            name: "Gunicorn, 2 workers",
            needs: &["gunicorn", "curl"],
            carrier: "gunicorn",
            command: "*gunicorn*8080*",
            server: gunicorn,
            reload: Some(Signal::HUP),
            ..SERVER
        },
        Scene {
            name: "Uvicorn",
            needs: &["uvicorn", "curl"],
            carrier: "uvicorn",
            command: "*uvicorn*8080*",
            server: uvicorn,
            ..SERVER
        },
    ]
}

/// nginx as the end that is not limited.
pub fn other_nginx(post: &Post<'_>) -> Result<Process> {
    nginx(post)
}

fn nginx(post: &Post<'_>) -> Result<Process> {
    nginx_at(post, &post.server())
}

/// nginx at an address of its end.
pub fn nginx_at(post: &Post<'_>, address: &str) -> Result<Process> {
    let folder = post.folder();
    let place = folder.display();
    let shared = post.shared().display();
    let tls = match post.certificate()? {
        Some(certificate) => format!(
            "listen {address}:{TLS_PORT} ssl http2; ssl_certificate {}; ssl_certificate_key {};",
            certificate.chain.display(),
            certificate.key.display()
        ),
        None => String::new(),
    };
    let temporary = temporary(&folder);
    let configuration = post.write(
        "nginx.conf",
        &format!(
            "daemon off; worker_processes 2; pid {place}/pid; error_log {place}/error.log;
            events {{ worker_connections 256; }}
            http {{
                access_log off; sendfile on; {temporary}
                server {{
                    listen {address}:{PORT}; {tls}
                    root {shared};
                    location /repository.git {{ limit_rate 30m; }}
                }}
            }}"
        ),
    )?;
    let mut nginx = Command::new(post.program("nginx")?);
    nginx
        .arg("-e")
        .arg(folder.join("error.log"))
        .arg("-c")
        .arg(configuration);
    post.serve(nginx, PORT)
}

/// nginx's settings for what it keeps for a while, in a folder of its own.
fn temporary(folder: &Path) -> String {
    let place = folder.display();
    ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {place}/{kind};"))
        .concat()
}

fn apache_event(post: &Post<'_>) -> Result<Process> {
    apache(post, "event")
}

fn apache_prefork(post: &Post<'_>) -> Result<Process> {
    apache(post, "prefork")
}

fn apache(post: &Post<'_>, kind: &str) -> Result<Process> {
    let folder = post.folder();
    let place = folder.display();
    let modules = "/usr/lib/apache2/modules";
    let configuration = post.write(
        "apache.conf",
        &format!(
            "ServerRoot {place}\nServerName {address}\nPidFile {place}/pid\nListen {address}:{PORT}\n\
             DefaultRuntimeDir {place}\nErrorLog {place}/error.log\n\
             LoadModule mpm_{kind}_module {modules}/mod_mpm_{kind}.so\n\
             LoadModule authz_core_module {modules}/mod_authz_core.so\n\
             DocumentRoot {shared}\n<Directory {shared}>\nRequire all granted\n</Directory>\n",
            address = post.server(),
            shared = post.shared().display(),
        ),
    )?;
    let mut apache = Command::new(post.program("apache2")?);
    apache.arg("-f").arg(configuration).arg("-DFOREGROUND");
    post.serve(apache, PORT)
}

/// Before an nginx at the other end.
fn haproxy(post: &Post<'_>) -> Result<Process> {
    let behind = post.other();
    let folder = behind.folder();
    let place = folder.display();
    let temporary = temporary(&folder);
    let configuration = behind.write(
        "nginx.conf",
        &format!(
            "daemon on; pid {place}/pid; error_log {place}/error.log; events {{ }}
            http {{ access_log off; {temporary} server {{ listen {}:{PORT}; root {}; }} }}",
            post.client(),
            post.shared().display(),
        ),
    )?;
    behind.run(&format!(
        "{} -e {place}/error.log -c {}",
        behind.program("nginx")?.display(),
        configuration.display()
    ))?;
    let configuration = post.write(
        "haproxy.cfg",
        &format!(
            "defaults\n mode http\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n\
             frontend all\n bind {}:{PORT}\n default_backend one\n\
             backend one\n server one {}:{PORT}\n",
            post.server(),
            post.client(),
        ),
    )?;
    let mut haproxy = Command::new(post.program("haproxy")?);
    haproxy.arg("-W").arg("-f").arg(configuration);
    post.serve(haproxy, PORT)
}

fn caddy(post: &Post<'_>) -> Result<Process> {
    let mut caddy = Command::new(post.program("caddy")?);
    caddy
        .args(["file-server", "--listen"])
        .arg(format!("{}:{PORT}", post.server()));
    caddy.arg("--root").arg(post.shared());
    post.serve(caddy, PORT)
}

/// Listens as all of Go's servers do since 1.24; for its own rules its authors wrote an older version down.
/// It reads what it is asked for into memory, and ends with its standard input.
fn esbuild(post: &Post<'_>) -> Result<Process> {
    let mut esbuild = shell(&format!(
        "sleep 600 | exec {} --servedir={} --serve={}:{PORT}",
        post.program("esbuild")?.display(),
        post.shared().display(),
        post.server()
    ));
    esbuild.env("GODEBUG", "multipathtcp=2");
    post.serve(esbuild, PORT)
}

const NODE: &str = "
const cluster = require('cluster'), http = require('http');
const [,, address, port] = process.argv;
if (cluster.isPrimary) { cluster.fork(); cluster.fork(); }
else http.createServer((request, response) => {
    const zeros = Buffer.alloc(65536);
    const more = () => { while (response.write(zeros)); response.once('drain', more); };
    more();
}).listen(port, address);
";

fn node(post: &Post<'_>) -> Result<Process> {
    let program = post.write("server.js", NODE)?;
    let mut node = Command::new(post.program("node")?);
    node.arg(program).arg(post.server()).arg(PORT.to_string());
    post.serve(node, PORT)
}

fn gunicorn(post: &Post<'_>) -> Result<Process> {
    let application = "
def app(environ, start_response):
    start_response('200 OK', [('Content-Type', 'application/octet-stream')])
    zeros = bytes(65536)
    while True:
        yield zeros
";
    post.write("field.py", application)?;
    let listen = format!("{}:{PORT}", post.server());
    python(
        post,
        "gunicorn",
        &format!("--workers 2 --bind {listen} field:app"),
    )
}

fn uvicorn(post: &Post<'_>) -> Result<Process> {
    let application = "
async def app(scope, receive, send):
    if scope['type'] != 'http':
        return
    await send({'type': 'http.response.start', 'status': 200, 'headers': []})
    while True:
        await send({'type': 'http.response.body', 'body': bytes(65536), 'more_body': True})
";
    post.write("field.py", application)?;
    python(
        post,
        "uvicorn",
        &format!(
            "--host {} --port {PORT} --log-level error field:app",
            post.server()
        ),
    )
}

/// In the folder of its application.
fn python(post: &Post<'_>, program: &str, arguments: &str) -> Result<Process> {
    let program = post.program(program)?;
    let folder = post.folder();
    let script = format!(
        "cd {}; exec {} {arguments}",
        folder.display(),
        program.display()
    );
    post.serve(shell(&script), PORT)
}
