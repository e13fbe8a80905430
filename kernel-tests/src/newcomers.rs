//! How soon a process that starts is limited, with a hundred rules and a thousand processes.

use std::{os::unix::fs::symlink, path::Path, process::Command, thread, time::Duration};

use anyhow::{Context, Result};

use crate::{
    home::{Home, rule_for},
    lab::{Family, Lab},
    peer::{Job, Peer},
    process::Process,
};

/// A daemon with its hundred rules, beside its thousand processes. Processes of the near end may not
/// send.
pub struct Newcomers {
    lab: Lab,
    home: Home,
    /// The daemon.
    pub daemon: Process,
    sink: Peer,
    _idle: Peer,
}

/// What a process moved before it was limited.
#[derive(Clone, Copy, Debug)]
pub struct Refused {
    /// From before it asked for its first socket until a datagram was refused.
    pub after: Duration,
    /// Datagrams until then.
    pub passed: u64,
}

impl Newcomers {
    /// Sets all that up.
    pub fn new() -> Result<Self> {
        let lab = Lab::new()?;
        // The last of 100 rules is the one that counts, and what it goes by is not known of a
        // process that was not looked at.
        let mut rules: String = (0..99)
            .map(|n| {
                let target = format!("program = \"re:^other{n}.*x$\"");
                format!("[[rule]]\nname = \"{n}\"\n{target}\nupload = \"1M\"\n")
            })
            .collect();
        rules += &rule_for(lab.near(), "block = \"upload\"")?;
        let home = Home::new(&rules)?;
        let listen = Job::udp().listen(lab.far().any_port(Family::V4));
        let sink = lab.far().traffic(listen.at_most(LONGEST))?;
        let idle = Job::many_processes(1000).connect(sink.address()?);
        let idle = idle.amount(1000).rate(1000).at_most(LONGEST);
        let idle = lab.near().traffic(idle)?;
        let daemon = home.daemon()?;
        thread::sleep(Duration::from_secs(2));
        Ok(Self {
            lab,
            home,
            daemon,
            sink,
            _idle: idle,
        })
    }

    /// Starts a process of this name.
    pub fn start(&self, name: &str) -> Result<Refused> {
        let job = Job::until_refused().connect(self.sink.address()?);
        let command = named(&job, name, self.home.path())?;
        refused(command, &self.lab)
    }
}

/// Starts a process of [`Job::until_refused`] at the near end.
pub fn refused(command: Command, lab: &Lab) -> Result<Refused> {
    let process = Process::start(command, lab.near().place())?;
    let line = process.line(Duration::from_secs(10))?;
    let line = line.with_context(|| process.errors())?;
    let told: serde_json::Value = serde_json::from_str(&line.text)?;
    let figure = |name: &str| told[name].as_u64().with_context(|| line.text.clone());
    Ok(Refused {
        after: Duration::from_nanos(figure("after_ns")?),
        passed: figure("passed")?,
    })
}

/// How long all of it may take.
const LONGEST: Duration = Duration::from_secs(300);

/// A job's command under another name, by a link in a folder.
pub fn named(job: &Job, name: &str, folder: &Path) -> Result<Command> {
    let command = job.command()?;
    let path = folder.join(name);
    if !path.exists() {
        symlink(command.get_program(), &path)?;
    }
    let mut named = Command::new(path);
    named.args(command.get_args());
    Ok(named)
}
