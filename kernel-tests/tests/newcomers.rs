//! How soon a process that starts is limited.

use std::{fs, os::unix::fs::symlink, process::Command, thread, time::Duration};

use anyhow::{Result, ensure};
use kernel_tests::{
    TestResult,
    home::{Home, rule_for},
    kernel_test,
    lab::{Family, Lab},
    moment::Moment,
    outcome::{figure, is_slow},
    peer::{Job, Peer},
};

/// Bytes a second of a sender.
const RATE: u64 = 20_000_000;

/// Senders of datagrams, one after the other, each for a tenth of a second under a name.
struct Senders<'a> {
    lab: &'a Lab,
    home: &'a Home,
    sink: Peer,
    /// What the sink had received before.
    before: u64,
}

impl<'a> Senders<'a> {
    fn new(lab: &'a Lab, home: &'a Home) -> Result<Self> {
        let listen = Job::udp().listen(lab.far().any_port(Family::V4));
        Ok(Self {
            lab,
            home,
            sink: lab.far().traffic(listen)?,
            before: 0,
        })
    }

    /// The command of a sender of this name.
    fn named(&self, name: &str) -> Result<Command> {
        let job = Job::udp().connect(self.sink.address()?).send();
        let job = job.rate(RATE).chunk(1000).command()?;
        let path = self.home.path().join(name);
        if !path.exists() {
            symlink(job.get_program(), &path)?;
        }
        let mut sender = Command::new(path);
        sender.args(job.get_args());
        Ok(sender)
    }

    /// What a sender moves before it is limited.
    fn leaked(&mut self, sender: Command) -> Result<u64> {
        let _sender = Peer::from_command(sender, self.lab.near().place())?;
        let settled = Moment::now() + Duration::from_millis(120);
        let now = self.sink.received_until(settled)?.total();
        Ok(now - std::mem::replace(&mut self.before, now))
    }
}

#[test]
fn a_new_process_is_limited_within_milliseconds() -> TestResult {
    kernel_test!(alone);
    let lab = Lab::new()?;
    // The last of 100 rules is the one that counts.
    let mut rules: String = (0..99)
        .map(|n| {
            format!("[[rule]]\nname = \"{n}\"\nprogram = \"re:^other{n}.*x$\"\nupload = \"1M\"\n")
        })
        .collect();
    rules += &rule_for(lab.near(), "block = \"upload\"")?;
    let home = Home::new(&rules)?;
    let mut senders = Senders::new(&lab, &home)?;
    let idle = Job::many_processes(1000).connect(senders.sink.address()?);
    let _idle = lab.near().traffic(idle.amount(1000).rate(1000))?;
    let daemon = home.daemon()?;
    thread::sleep(Duration::from_secs(2));
    senders.before = senders.sink.received_until(Moment::now())?.total();
    // Each the first of its kind: it is compared with the rules.
    let mut first = (0..100)
        .map(|n| {
            let sender = senders.named(&format!("sender-{n}"))?;
            Ok(senders.leaked(sender)? as f64 / RATE as f64 * 1e3)
        })
        .collect::<Result<Vec<f64>>>()?;
    first.sort_by(f64::total_cmp);
    let at = |part: f64| first[((first.len() - 1) as f64 * part).round() as usize];
    figure(&format!(
        "ms of traffic before the limit: p50 {:.2}, p90 {:.2}, p99 {:.2}, most {:.2}",
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    ));
    // What is asked for is 5 ms for 99 of 100, of a release build on a machine that has time for it.
    let (half, most) = if is_slow() {
        (50.0, 250.0)
    } else {
        (5.0, 25.0)
    };
    ensure!(at(0.5) <= half, "p50 {} ms; {}", at(0.5), daemon.errors());
    ensure!(at(0.99) <= most, "p99 {} ms; {}", at(0.99), daemon.errors());
    // The next of a kind begin with what was found out.
    for _ in 0..20 {
        let sender = senders.named("sender-0")?;
        let bytes = senders.leaked(sender)?;
        ensure!(bytes == 0, "{bytes} bytes passed; {}", daemon.errors());
    }
    Ok(())
}

#[test]
fn the_first_of_a_name_and_the_first_of_a_user_are_limited_from_their_first_byte() -> TestResult {
    kernel_test!();
    // No process of another test has this user.
    const UID: u32 = 64_322;
    let lab = Lab::new()?;
    let rule = |name: &str, target: &str| {
        format!("[[rule]]\nname = \"{name}\"\n{target}\nblock = \"upload\"\n")
    };
    let home = Home::new("")?;
    let path = home.path().join("by-path");
    let rules = [
        rule("a", "program = \"by-name\""),
        rule("b", &format!("path = \"{}\"", path.display())),
        rule("c", &format!("user = \"{UID}\"")),
    ];
    home.write(&rules.concat())?;
    let daemon = home.daemon()?;
    let mut senders = Senders::new(&lab, &home)?;
    fs::copy(senders.named("no-name")?.get_program(), &path)?;
    for name in ["by-name", "by-path", "by-name", "by-path"] {
        let bytes = senders.leaked(senders.named(name)?)?;
        ensure!(bytes == 0, "{name}: {bytes} bytes; {}", daemon.errors());
    }
    let sender = senders.named("by-user")?;
    let mut of_user = Command::new("setpriv");
    of_user.args([&format!("--reuid={UID}"), "--clear-groups"]);
    of_user.arg(sender.get_program()).args(sender.get_args());
    let bytes = senders.leaked(of_user)?;
    ensure!(
        bytes == 0,
        "of the user: {bytes} bytes; {}",
        daemon.errors()
    );
    // Nobody's.
    let bytes = senders.leaked(senders.named("no-name")?)?;
    ensure!(bytes > 0, "nothing passed; {}", daemon.errors());
    Ok(())
}
