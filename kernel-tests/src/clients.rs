//! Real clients under a limit of 1 MB/s, and what they themselves report.

use std::{path::Path, process::Command, time::Duration};

use anyhow::{Context, Result, bail};

use crate::{
    lab::{Family, Lab},
    outcome,
    peer::{Job, Peer},
    process::Process,
    product::Limiter,
};

/// Thirteen seconds at the limit.
const AMOUNT: u64 = 13_000_000;

/// One of the programs in Python that stand beside the tests.
pub fn python(program: &str, arguments: &[&str]) -> Command {
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("programs");
    let mut python = Command::new("python3");
    python.arg(programs.join(program)).args(arguments);
    python
}

/// Whether a client is installed.
pub fn is_there(program: &str) -> bool {
    Command::new(program)
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success())
}

/// Whether a program is not installed. The test that needs it counts as skipped then.
pub fn is_missing(program: &str) -> bool {
    let missing = !is_there(program);
    if missing {
        outcome::skipped(&format!("needs {program}"));
    }
    missing
}

fn server(lab: &Lab, family: Family) -> Result<(Peer, String)> {
    let listen = Job::http().listen(lab.far().any_port(family));
    let server = lab.far().traffic(listen)?;
    let url = format!("http://{}/{AMOUNT}", server.address()?);
    Ok((server, url))
}

/// Runs a command whose process is limited to 1 MB/s before it makes its first socket.
fn limited(lab: &Lab, command: &str) -> Result<Process> {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("read go; exec {command}"));
    let mut client = lab.near().start(shell)?;
    let _limiter = Limiter::start(&[client.pid()], &["--download", "1M"])?;
    client.tell("go")?;
    let status = client.wait(Duration::from_secs(40))?;
    if !status.success() {
        bail!("{command}: {status}: {}", client.errors());
    }
    Ok(client)
}

/// The bytes a second that curl reports of a download.
pub fn curl(family: Family) -> Result<f64> {
    let lab = Lab::new()?;
    let (_server, url) = server(&lab, family)?;
    let options = "-sS -g --noproxy '*' -o /dev/null -w '%{speed_download}\\n'";
    let client = limited(&lab, &format!("curl {options} '{url}'"))?;
    let line = client.line(Duration::from_secs(1))?.context("no speed")?;
    Ok(line.text.trim().parse()?)
}

/// The bytes a second that wget reports of a download.
pub fn wget(family: Family) -> Result<f64> {
    let lab = Lab::new()?;
    let (_server, url) = server(&lab, family)?;
    let options = "--no-proxy --progress=dot:giga --report-speed=bits -O /dev/null";
    let client = limited(&lab, &format!("env LC_ALL=C wget {options} '{url}'"))?;
    let report = client.errors();
    // … (7.98 Mb/s) - '/dev/null' saved [13000000/13000000]
    let (number, unit) = report
        .lines()
        .find(|line| line.contains("saved"))
        .and_then(|line| line.split_once('('))
        .and_then(|(_, rest)| rest.split_once(')'))
        .and_then(|(speed, _)| speed.split_once(' '))
        .with_context(|| format!("no speed in: {report}"))?;
    let unit = match unit {
        "Mb/s" => 1e6,
        "Kb/s" => 1e3,
        other => bail!("wget speaks of {other}"),
    };
    Ok(number.parse::<f64>()? * unit / 8.0)
}
