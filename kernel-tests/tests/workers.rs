//! Servers whose parent listens and whose workers accept, as those of nginx, Apache and gunicorn do.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kernel_tests::{
    TestResult, clients,
    flow::goodput_between,
    kernel_test,
    lab::{Family, Lab},
    moment::Moment,
    named_program::NamedProgram,
    nginx::{self, Nginx},
    outcome::{self, expect_ratio, in_parallel, kept, patience},
    peer::{Job, Peer, busy_rate},
    process::as_user,
    product::Limiter,
};

/// What a limit is in bytes a second.
const RATE: &str = "1M";

/// By then a connection was found to be its worker's; until then it is its listener's.
const FOUND_AFTER: Duration = Duration::from_secs(3);

/// No process of another test has these users.
const UID: &str = "64323";
const UID_OF_WORKERS: &str = "64324";

/// Whom a limit is for.
#[derive(Clone, Copy, Debug)]
enum Whom {
    Program,
    EachOfProgram,
    Path,
    CommandLine,
    User,
    UserOfWorkers,
    Cgroup,
    Tree,
}

/// What a client had not read yet when this begins counts as well: it is to be little of it, where eight are judged at
/// once on two processors.
const JUDGED_FOR: Duration = Duration::from_secs(8);

/// What is run, and where.
struct Server {
    lab: Lab,
    program: NamedProgram,
    whom: Whom,
}

impl Server {
    fn new(whom: Whom, when: &str) -> Result<Self> {
        // As the kernel keeps it: 15 bytes.
        let name = format!("{when}-{whom:?}").to_lowercase();
        Ok(Self {
            lab: Lab::new()?,
            program: NamedProgram::new(&name[..name.len().min(15)])?,
            whom,
        })
    }

    fn start(&self, job: Job) -> Result<Peer> {
        let job = job.listen(self.lab.near().any_port(Family::V4)).send();
        let job = job.rate(busy_rate());
        let job = match self.whom {
            Whom::UserOfWorkers => job.worker_user(UID_OF_WORKERS),
            _ => job,
        };
        let command = match self.whom {
            Whom::User => as_user(UID, &job.command()?),
            _ => self.program.command(&job)?,
        };
        Peer::from_command(command, self.lab.near().place())
    }

    /// Limits it; its PID is needed only for its tree.
    fn limit(&self, pid: Option<u32>) -> Result<Limiter> {
        let path = self.program.path().to_string_lossy().into_owned();
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        let (option, value) = match self.whom {
            Whom::Program | Whom::EachOfProgram => ("--program", name),
            Whom::Path => ("--path", path),
            Whom::CommandLine => ("--command", format!("*{name} *")),
            Whom::User => ("--user", UID.to_owned()),
            Whom::UserOfWorkers => ("--user", UID_OF_WORKERS.to_owned()),
            Whom::Cgroup => ("--cgroup", self.lab.near().cgroup().name()?),
            Whom::Tree => ("--tree", pid.unwrap_or_default().to_string()),
        };
        let mut options = vec![option, &value, "--upload", RATE];
        if !matches!(self.whom, Whom::EachOfProgram) {
            options.push("--shared");
        }
        Limiter::start(&[], &options)
    }

    /// What clients get together once their connections were found to be the workers'.
    fn judged(&self, server: &Peer, limiter: &Limiter) -> Result<()> {
        // Of a limit for each, one worker's.
        let clients = match self.whom {
            Whom::EachOfProgram => 1,
            _ => 2,
        };
        let client = || {
            let job = Job::tcp().connect(server.address()?);
            self.lab.far().traffic(job)
        };
        let clients: Vec<Peer> = (0..clients).map(|_| client()).collect::<Result<_>>()?;
        let from = Moment::now() + FOUND_AFTER;
        let goodputs = clients
            .iter()
            .map(|client| goodput_between(client, from, from + JUDGED_FOR));
        let together = goodputs.sum::<Result<f64>>()?;
        ensure!(limiter.errors().is_empty(), "{}", limiter.errors());
        expect_ratio(&format!("{:?}", self.whom), together, 1e6, kept())
    }
}

const ALL: [Whom; 8] = [
    Whom::Program,
    Whom::EachOfProgram,
    Whom::Path,
    Whom::CommandLine,
    Whom::User,
    Whom::UserOfWorkers,
    Whom::Cgroup,
    Whom::Tree,
];

/// One after the other: a program can't be started that another test's child still writes.
fn servers(whom: &[Whom], when: &str) -> Result<Vec<Server>> {
    whom.iter().map(|whom| Server::new(*whom, when)).collect()
}

#[test]
fn workers_that_were_there_first_are_limited() -> TestResult {
    kernel_test!(alone);
    in_parallel(&servers(&ALL, "a")?, |server| {
        let running = server.start(Job::prefork(2))?;
        let limiter = server.limit(Some(running.pid()))?;
        server.judged(&running, &limiter)
    })
}

#[test]
fn workers_that_start_under_the_limit_are_limited() -> TestResult {
    kernel_test!(alone);
    // A tree is there when it is limited.
    let others: Vec<Whom> = ALL
        .into_iter()
        .filter(|whom| !matches!(whom, Whom::Tree))
        .collect();
    in_parallel(&servers(&others, "b")?, |server| {
        let limiter = server.limit(None)?;
        let running = server.start(Job::prefork(2))?;
        server.judged(&running, &limiter)
    })
}

#[test]
fn a_child_that_is_handed_a_connection_is_limited() -> TestResult {
    kernel_test!();
    let server = Server::new(Whom::EachOfProgram, "c")?;
    let limiter = server.limit(None)?;
    let running = server.start(Job::hand_over())?;
    server.judged(&running, &limiter)
}

#[test]
fn the_workers_of_nginx_are_limited() -> TestResult {
    kernel_test!();
    if clients::is_missing("curl") {
        return Ok(());
    }
    let lab = Lab::new()?;
    let directory = tempfile::tempdir()?;
    let options = ["--program", nginx::PROGRAM, "--shared", "--upload", "2M"];
    let limiter = Limiter::start(&[], &options)?;
    let Some(nginx) = Nginx::start(lab.near(), directory.path())? else {
        outcome::skipped("needs nginx");
        return Ok(());
    };
    let client = || lab.far().start(nginx.curl(Duration::from_secs(8)));
    let clients = [client()?, client()?];
    let mut together = 0.0;
    for client in &clients {
        let line = client.line(patience())?.context("no speed")?;
        together += line.text.trim().parse::<f64>()?;
    }
    ensure!(limiter.errors().is_empty(), "{}", limiter.errors());
    expect_ratio("two clients together", together, 2e6, kept())
}
