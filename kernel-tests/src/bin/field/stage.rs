//! Where a scene is played: two ends of a network, a folder, and the processes that were started.

use std::{
    cell::RefCell,
    fs,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use kernel_tests::{
    cgroup::Cgroup,
    lab::{End, Family, Lab},
    moment::until,
    outcome::is_slow,
    process::Process,
};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::scenes::{Part, RunsAs, Scene};

/// The line between the ends.
#[derive(Clone, Copy, Debug)]
pub enum Line {
    /// What a home or an office may have; on a kernel without netem, a veth pair. Nothing is short of it.
    Fast,
    /// Of [`Line::MEGABITS`] each way and 40 ms, with a queue of 0.3 s at either end, first in, first out.
    Slow,
}

impl Line {
    /// The slow one's, in Mbit/s.
    pub const MEGABITS: u32 = 10;

    fn lay(self, lab: &Lab) -> Result<()> {
        let far = lab.far();
        match self {
            Self::Fast => {
                let _no_netem =
                    far.tc("qdisc add dev lab root netem delay 10ms rate 400mbit limit 1000000");
                Ok(())
            }
            Self::Slow => {
                let narrow = format!(
                    "tbf rate {0}mbit burst 3200 limit {1}",
                    Self::MEGABITS,
                    Self::MEGABITS * 125_000 * 3 / 10
                );
                // The near end's own queue is nobody's choice: what it sends waits where it arrives.
                far.redirect_arriving("wan")?;
                far.tc(&format!(
                    "qdisc add dev lab root handle 1: netem delay 40ms limit 100000\n\
                     qdisc add dev lab parent 1: handle 2: {narrow}\n\
                     qdisc add dev wan root {narrow}"
                ))
            }
        }
    }
}

/// How large the file is that is moved. It has no blocks: it takes no room.
const LARGE: u64 = 1 << 40;

/// How large a file may become that is written, in bytes.
const LARGEST: u64 = 8 << 30;

/// The name of a file for who writes it in parts, the last as soon as the first: it is no larger than that.
pub const IN_PARTS: &str = "in-parts";

/// One of the users that the near end's programs run as: nobody has their numbers.
const FIRST_USER: u32 = 64_400;

/// The stage of one cell.
pub struct Stage<'a> {
    scene: &'a Scene,
    /// What is limited runs here, inside the near end's cgroup, which goes after it.
    unit: Cgroup,
    lab: Lab,
    folder: TempDir,
    user: u32,
    /// What runs beside the parts, for as long as the stage is there.
    beside: RefCell<Vec<Process>>,
}

impl<'a> Stage<'a> {
    /// An empty one. `number` is one that no other stage has at this time.
    pub fn new(scene: &'a Scene, number: u32, line: Line) -> Result<Self> {
        let lab = Lab::new()?;
        line.lay(&lab)?;
        let folder = tempfile::Builder::new().prefix("field-").tempdir()?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        let user = match scene.runs_as {
            RunsAs::Anybody => FIRST_USER + number,
            RunsAs::Root => 0,
            RunsAs::Named(name) => user_number(name)?,
        };
        let large = folder.path().join("large");
        fs::File::create(&large)?.set_len(LARGE)?;
        fs::File::create(folder.path().join(IN_PARTS))?.set_len(LARGEST)?;
        // Each stage has a name that can be asked for.
        let unit = lab
            .near()
            .cgroup()
            .child(&format!("field-{number}.service"))?;
        let stage = Self {
            scene,
            lab,
            unit,
            folder,
            user,
            beside: RefCell::default(),
        };
        for part in [Part::Server, Part::Client] {
            let own = stage.post(part).folder();
            fs::create_dir(&own)?;
            if part == scene.limited {
                chown(&own, Some(user), Some(user))?;
            }
        }
        Ok(stage)
    }

    /// The network.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// What is limited runs in it.
    pub fn unit(&self) -> &Cgroup {
        &self.unit
    }

    /// The user that what is limited runs as.
    pub fn user(&self) -> u32 {
        self.user
    }

    /// The folder of both.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The post of a part.
    pub fn post(&self, part: Part) -> Post<'_> {
        Post { stage: self, part }
    }

    /// The processes that carry the limited traffic: those of that name.
    pub fn carriers(&self) -> Result<Vec<u32>> {
        let mut carriers = self.unit.members()?;
        carriers.retain(|pid| {
            fs::read_to_string(format!("/proc/{pid}/comm"))
                .is_ok_and(|name| name.trim_end() == self.scene.carrier)
        });
        Ok(carriers)
    }

    /// Ends what was started: the client, which came last, at once; servers politely first, as they take their workers
    /// with them.
    pub fn clear(&self, mut processes: Vec<Process>) {
        if processes.len() > 1 {
            processes.pop();
        }
        for process in &processes {
            let _ended_by_itself = process.signal(Signal::TERM);
        }
        for process in &mut processes {
            let _killed_when_dropped = process.wait(Duration::from_secs(2));
        }
        // Before the processes are dropped: what they started holds their output open.
        for cgroup in [&self.unit, self.lab.far().cgroup()] {
            for pid in cgroup.members().unwrap_or_default() {
                if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                    let _ended_by_itself = kill_process(pid, Signal::KILL);
                }
            }
        }
        // Who had others do its work clears up after them.
        for process in &mut processes {
            let _killed_when_dropped = process.wait(Duration::from_secs(20));
        }
    }
}

fn user_number(name: &str) -> Result<u32> {
    let users = fs::read_to_string("/etc/passwd")?;
    let user = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    });
    user.with_context(|| format!("there is no user {name}"))
}

/// The files of a certificate.
pub struct Certificate {
    /// Its private key.
    pub key: PathBuf,
    /// What is shown to clients.
    pub chain: PathBuf,
}

/// Where one part of a scene is started.
#[derive(Clone, Copy)]
pub struct Post<'a> {
    stage: &'a Stage<'a>,
    part: Part,
}

impl Post<'_> {
    fn is_limited(self) -> bool {
        self.part == self.stage.scene.limited
    }

    /// Its end of the network.
    pub fn end(&self) -> &End {
        self.end_of(self.part)
    }

    /// Starts a command at its end as root, outside of what is limited, which runs until the stage is cleared.
    pub fn beside(&self, command: Command) -> Result<()> {
        let process = self.start_beside(command)?;
        self.stage.beside.borrow_mut().push(process);
        Ok(())
    }

    /// The same for a part that has others do its work.
    pub fn start_beside(&self, command: Command) -> Result<Process> {
        Process::start(command, self.end().place_in(None))
    }

    /// The path of the cgroup that what is limited runs in.
    pub fn unit(&self) -> Result<String> {
        self.stage.unit.name()
    }

    /// The user that what is limited runs as.
    pub fn user(&self) -> u32 {
        self.stage.user
    }

    fn end_of(&self, part: Part) -> &End {
        match part == self.stage.scene.limited {
            true => self.stage.lab.near(),
            false => self.stage.lab.far(),
        }
    }

    /// Where the server listens, or should.
    pub fn server(&self) -> String {
        self.end_of(Part::Server).address(Family::V4).to_string()
    }

    /// Where the client is.
    pub fn client(&self) -> String {
        self.end_of(Part::Client).address(Family::V4).to_string()
    }

    /// A folder that its programs may write to.
    pub fn folder(&self) -> PathBuf {
        let name = match self.part {
            Part::Server => "server",
            Part::Client => "client",
        };
        self.stage.folder.path().join(name)
    }

    /// The file that is moved; it holds zeros.
    pub fn large(&self) -> PathBuf {
        self.stage.folder.path().join("large")
    }

    /// The folder that the large file is in.
    pub fn shared(&self) -> &Path {
        self.stage.folder.path()
    }

    /// The post of the other part.
    pub fn other(&self) -> Self {
        self.stage.post(self.part.other())
    }

    /// A certificate for `localhost` that was made for it; none where there is no openssl.
    pub fn certificate(&self) -> Result<Option<Certificate>> {
        if crate::scenes::find("openssl").is_none() {
            return Ok(None);
        }
        let folder = self.folder();
        let place = folder.display();
        self.run(&format!(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost \
             -addext subjectAltName=DNS:localhost -keyout {place}/key.pem -out {place}/certificate.pem 2>/dev/null"
        ))?;
        Ok(Some(Certificate {
            key: folder.join("key.pem"),
            chain: folder.join("certificate.pem"),
        }))
    }

    /// Writes a file into its folder.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.folder().join(name);
        fs::write(&path, text)?;
        if self.is_limited() {
            chown(&path, Some(self.stage.user), Some(self.stage.user))?;
        }
        Ok(path)
    }

    /// A program's file. That of the end that is not limited has another name: it is not meant by a limit
    /// on all programs of a name.
    pub fn program(&self, name: &str) -> Result<PathBuf> {
        let path = crate::scenes::find(name).with_context(|| format!("no {name}"))?;
        if self.is_limited() {
            return Ok(path);
        }
        let file = path.file_name().context("a program has a name")?;
        let copy = self
            .folder()
            .join(format!("other-{}", file.to_string_lossy()));
        if !copy.exists() {
            fs::copy(&path, &copy)?;
        }
        Ok(copy)
    }

    /// Starts a command at its end: in its unit and as its user if it is the one that is limited. What gets away
    /// from its limit does not fill the disk.
    pub fn start(&self, command: Command) -> Result<Process> {
        let command = wrapped("prlimit", &[&format!("--fsize={LARGEST}"), "--"], &command);
        let end = self.end();
        if !self.is_limited() {
            return end.start(command);
        }
        let place = end.place_in(Some(&self.stage.unit));
        if self.stage.user == 0 {
            return Process::start(command, place);
        }
        let user = self.stage.user.to_string();
        let options = ["--reuid", &user, "--regid", &user, "--clear-groups", "--"];
        let mut as_user = wrapped("setpriv", &options, &command);
        as_user.env("HOME", self.folder());
        Process::start(as_user, place)
    }

    /// Runs a command of a shell to its end, there.
    pub fn run(&self, script: &str) -> Result<()> {
        let mut process = self.start(shell(script))?;
        let status = process.wait(Duration::from_secs(if is_slow() { 240 } else { 60 }))?;
        ensure!(status.success(), "{script}: {status}: {}", process.errors());
        Ok(())
    }

    /// Starts a server, and waits until somebody has its TCP or UDP port at this end.
    pub fn serve(&self, command: Command, port: u16) -> Result<Process> {
        let process = self.start(command)?;
        let end = self.end();
        until("the server listens", Duration::from_secs(30), || {
            let mut ss = Command::new("ss");
            ss.args(["-tulnH"]);
            Ok(end.run(ss)?.contains(&format!(":{port} ")))
        })
        .with_context(|| process.errors())?;
        Ok(process)
    }
}

/// A command that another program starts.
fn wrapped(program: &str, options: &[&str], command: &Command) -> Command {
    let mut wrapped = Command::new(program);
    wrapped
        .args(options)
        .arg(command.get_program())
        .args(command.get_args());
    let variables = command.get_envs();
    wrapped.envs(variables.filter_map(|(name, value)| Some((name, value?))));
    wrapped
}

/// A shell that is replaced by the last command if that begins with `exec`.
pub fn shell(script: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", script]);
    shell
}
