//! Servers that are none of the web's: a database, and programs that fork for each connection.

use std::process::Command;

use anyhow::Result;
use kernel_tests::process::Process;

use super::{CLIENT, RunsAs, SERVER, Scene};
use crate::stage::{Post, shell};

const PORT: u16 = 8080;
const POSTGRES_PORT: u16 = 5432;

pub fn scenes() -> Vec<Scene> {
    vec![
        Scene {
            name: "PostgreSQL, COPY",
            needs: &["postgres", "initdb", "psql"],
            carrier: "postgres",
            command: "postgres: *",
            runs_as: RunsAs::Named("postgres"),
            server: postgres,
            client: psql,
            ..SERVER
        },
        Scene {
            name: "socat, a fork for each connection",
            needs: &["socat"],
            carrier: "socat",
            command: "*socat TCP-LISTEN*",
            server: socat,
            client: socat_client,
            ..SERVER
        },
        Scene {
            name: "socket activation, inetd's way",
            needs: &["systemd-socket-activate", "socat"],
            carrier: "cat",
            server: socket_activation,
            client: socat_client,
            ..SERVER
        },
        Scene {
            name: "iperf3 server, sends",
            needs: &["iperf3"],
            carrier: "iperf3",
            command: "*iperf3 -s*",
            server: iperf3,
            client: iperf3_reverse,
            ..SERVER
        },
        Scene {
            name: "iperf3, 4 streams down",
            needs: &["iperf3"],
            carrier: "iperf3",
            command: "*iperf3 -c*",
            server: iperf3,
            client: iperf3_reverse,
            ..CLIENT
        },
        Scene {
            name: "iperf3, 4 streams up",
            needs: &["iperf3"],
            carrier: "iperf3",
            command: "*iperf3 -c*",
            direction: kernel_tests::flow::Direction::Upload,
            server: iperf3,
            client: iperf3_up,
            ..CLIENT
        },
    ]
}

fn postgres(post: &Post<'_>) -> Result<Process> {
    let folder = post.folder();
    let data = folder.join("data");
    let data = data.display();
    post.run(&format!(
        "{} --auth=trust --no-sync --username=field -D {data} >/dev/null && \
         echo 'host all all 0.0.0.0/0 trust' >>{data}/pg_hba.conf",
        post.program("initdb")?.display()
    ))?;
    let mut postgres = Command::new(post.program("postgres")?);
    postgres.args(["-h", &post.server(), "-p", &POSTGRES_PORT.to_string(), "-D"]);
    postgres.arg(folder.join("data")).arg("-k").arg(folder);
    post.serve(postgres, POSTGRES_PORT)
}

fn psql(post: &Post<'_>) -> Result<Process> {
    let copy = "COPY (SELECT generate_series(1, 1000000000), repeat('0', 1000)) TO STDOUT";
    post.start(shell(&format!(
        "exec psql -q -h {} -p {POSTGRES_PORT} -U field -d postgres -c \"{copy}\" >/dev/null",
        post.server()
    )))
}

fn socat(post: &Post<'_>) -> Result<Process> {
    let mut socat = Command::new(post.program("socat")?);
    socat.arg(format!(
        "TCP-LISTEN:{PORT},bind={},fork,reuseaddr",
        post.server()
    ));
    socat.arg(format!("EXEC:cat {}", post.large().display()));
    post.serve(socat, PORT)
}

fn socat_client(post: &Post<'_>) -> Result<Process> {
    let mut socat = Command::new(post.program("socat")?);
    socat
        .arg("-u")
        .arg(format!("TCP:{}:{PORT}", post.server()))
        .arg("OPEN:/dev/null");
    post.start(socat)
}

fn socket_activation(post: &Post<'_>) -> Result<Process> {
    let mut activate = Command::new(post.program("systemd-socket-activate")?);
    activate.arg("-l").arg(format!("{}:{PORT}", post.server()));
    activate
        .args(["--accept", "--inetd", "cat"])
        .arg(post.large());
    post.serve(activate, PORT)
}

pub fn iperf3(post: &Post<'_>) -> Result<Process> {
    let mut iperf3 = Command::new(post.program("iperf3")?);
    iperf3.args(["-s", "-B", &post.server()]);
    post.serve(iperf3, 5201)
}

/// A client of `iperf3 -s`.
pub fn iperf3_client(post: &Post<'_>, options: &str) -> Result<Process> {
    let mut iperf3 = Command::new(post.program("iperf3")?);
    iperf3
        .args(["-c", &post.server(), "-t", "100"])
        .args(options.split(' '));
    post.start(iperf3)
}

fn iperf3_reverse(post: &Post<'_>) -> Result<Process> {
    iperf3_client(post, "-R -P 4")
}

fn iperf3_up(post: &Post<'_>) -> Result<Process> {
    iperf3_client(post, "-P 4")
}
