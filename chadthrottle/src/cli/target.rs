//! Whom a limit or a rule is about, as options.

use clap::{ArgGroup, Args};

use crate::{
    model::{process::Pid, target::Target, unit},
    process::identity,
    rules::file::{FileTarget, SystemUsers},
};

/// What stays when processes come and go: the targets of `limit` and of `rules`. Each is checked as
/// the rules file's is.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub struct LastingArgs {
    /// A program by its name: a name, a glob such as 'chrom*', or 're:' and a regular expression
    #[arg(long = "program", value_name = "PATTERN", group = "targets", value_parser = of("program"))]
    programs: Vec<FileTarget>,
    /// A program by the path of its file; a glob or a regular expression, too
    #[arg(long = "path", value_name = "PATTERN", group = "targets", value_parser = of("path"))]
    paths: Vec<FileTarget>,
    /// Programs by their command line; a glob or a regular expression, too
    #[arg(long = "command", value_name = "PATTERN", group = "targets", value_parser = of("command"))]
    commands: Vec<FileTarget>,
    /// A cgroup and those below it, for example /user.slice
    #[arg(long = "cgroup", value_name = "PATH", group = "targets", value_parser = of("cgroup"))]
    cgroups: Vec<FileTarget>,
    /// A systemd unit, for example nginx.service
    #[arg(long = "unit", value_name = "UNIT", group = "targets", value_parser = unit_name)]
    units: Vec<FileTarget>,
    /// A user, by name or number
    #[arg(long = "user", value_name = "USER", group = "targets", value_parser = of("user"))]
    users: Vec<FileTarget>,
}

fn of(key: &'static str) -> impl Fn(&str) -> Result<FileTarget, String> + Clone + Send + Sync {
    move |value| FileTarget::from_key(key, value)
}

fn unit_name(text: &str) -> Result<FileTarget, String> {
    // As systemctl has it; a container as it is shown.
    let is_whole = text.is_empty() || text.contains(['.', '/']) || unit::is_of_container(text);
    let service = (!is_whole).then(|| format!("{text}.service"));
    FileTarget::from_key("unit", service.as_deref().unwrap_or(text))
}

impl LastingArgs {
    /// All that were given.
    pub fn all(&self) -> impl Iterator<Item = &FileTarget> {
        let kinds = [
            &self.programs,
            &self.paths,
            &self.commands,
            &self.cgroups,
            &self.units,
            &self.users,
        ];
        kinds.into_iter().flatten()
    }

    /// The one that was given, if any was.
    ///
    /// # Errors
    ///
    /// There are several.
    pub fn one(&self) -> Result<Option<&FileTarget>, String> {
        let mut all = self.all();
        let one = all.next();
        match all.next() {
            Some(_) => Err("a rule has one target; add a rule for each".to_owned()),
            None => Ok(one),
        }
    }
}

/// What `limit` applies to: processes that run, and what stays when they go.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("targets").required(true).multiple(true))]
pub struct TargetArgs {
    /// A process; this and the others may be given several times, each gets a limit of its own
    #[arg(long = "pid", value_name = "PID", group = "targets", value_parser = pid)]
    pids: Vec<Pid>,
    /// A process and its descendants, those there are and those to come
    #[arg(long = "tree", value_name = "PID", group = "targets", value_parser = pid)]
    trees: Vec<Pid>,
    #[command(flatten)]
    lasting: LastingArgs,
}

impl TargetArgs {
    /// The targets, each once.
    ///
    /// # Errors
    ///
    /// A user that doesn't exist.
    pub fn targets(&self) -> Result<Vec<Target>, String> {
        let processes = self.pids.iter().map(|pid| Target::from(*pid));
        let trees = self.trees.iter().map(|pid| Target::Tree((*pid).into()));
        let lasting = self.lasting.all().map(resolved);
        let mut targets: Vec<Target> = Vec::new();
        for target in processes.chain(trees).map(Ok).chain(lasting) {
            let target = target?;
            if !targets.contains(&target) {
                targets.push(target);
            }
        }
        Ok(targets)
    }
}

fn resolved(target: &FileTarget) -> Result<Target, String> {
    let found = match target {
        FileTarget::User(user) => {
            identity::user(user).map(|(uid, name)| Target::User { uid, name })
        }
        lasting => lasting.resolve(&SystemUsers),
    };
    found.ok_or_else(|| {
        let (_, user) = target.key_and_value();
        format!("there is no user '{user}' on this machine; type a name or a number")
    })
}

fn pid(text: &str) -> Result<Pid, String> {
    match text.parse() {
        Ok(0) => Err("0 is no process".to_owned()),
        Ok(pid) => Ok(Pid(pid)),
        Err(_) => Err("a process id is a number, as ps shows it".to_owned()),
    }
}
