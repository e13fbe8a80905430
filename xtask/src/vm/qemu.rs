//! A virtual machine, as a process that ends with its owner.

use std::{
    fs::{self, File},
    io::Read as _,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{emulator::Emulator, kernels::Unpacked};
use crate::setup;

/// Who executes the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor.
    Kvm,
    /// qemu itself.
    Tcg,
}

impl Accelerator {
    /// As an option of qemu's.
    fn option(self, emulator: &Emulator) -> &'static str {
        match (self, emulator.parallel) {
            (Self::Kvm, _) => "kvm",
            (Self::Tcg, true) => "tcg,thread=multi",
            (Self::Tcg, false) => "tcg,thread=single",
        }
    }

    /// KVM, if a kernel really starts under it: where virtual machines are nested, the device may
    /// be there and fail only then.
    ///
    /// # Errors
    ///
    /// qemu is not there.
    pub fn probe(emulator: &Emulator, kernel: &Unpacked) -> Result<Self> {
        if File::open("/dev/kvm").is_err() {
            return Ok(Self::Tcg);
        }
        let mut command = qemu(emulator, kernel, Self::Kvm, "console=ttyS0");
        command.args(["-serial", "stdio"]).stderr(Stdio::null());
        let mut process = Process::start(&mut command)?;
        let mut printed = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(10);
        while memchr::memmem::find(&printed, b"Linux version").is_none() {
            match process.read(deadline)? {
                Output::Some(bytes) => printed.extend(bytes),
                Output::End | Output::TimedOut => return Ok(Self::Tcg),
            }
        }
        Ok(Self::Kvm)
    }
}

/// What all machines have in common. There is no network but what is made inside.
fn qemu(
    emulator: &Emulator,
    kernel: &Unpacked,
    accelerator: Accelerator,
    parameters: &str,
) -> Command {
    // Lets people work beside it, and ends it if xtask is killed.
    let mut command = Command::new("nice");
    command
        .args(["-n", "5", "setpriv", "--pdeathsig=KILL"])
        .arg(&emulator.program)
        .args(["-no-user-config", "-nodefaults", "-display", "none"])
        .args(["-no-reboot", "-nic", "none", "-cpu", "max"])
        .args(["-smp", "2", "-m", "1536"])
        .args(["-machine", "pc", "-accel", accelerator.option(emulator)])
        .arg("-kernel")
        .arg(kernel.image())
        .args(["-append", &format!("{parameters} panic=-1")])
        // Never written to; at its end qemu would take the port that prints for unplugged.
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    for directory in &emulator.firmware {
        command.arg("-L").arg(directory);
    }
    command
}

/// A running qemu.
#[derive(Debug)]
struct Process {
    child: Child,
    stdout: ChildStdout,
}

/// What a machine printed.
enum Output {
    Some(Vec<u8>),
    End,
    TimedOut,
}

impl Process {
    fn start(command: &mut Command) -> Result<Self> {
        let mut child = command.spawn().context("cannot start qemu")?;
        let stdout = child.stdout.take().context("a pipe was asked for")?;
        Ok(Self { child, stdout })
    }

    fn read(&mut self, deadline: Instant) -> Result<Output> {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).context("cannot wait so long")?;
        let mut descriptors = [PollFd::from_borrowed_fd(self.stdout.as_fd(), PollFlags::IN)];
        match poll(&mut descriptors, Some(&left)) {
            Ok(0) => return Ok(Output::TimedOut),
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(Output::Some(Vec::new())),
            Err(error) => return Err(error).context("cannot wait for the virtual machine"),
        }
        let mut bytes = vec![0; 64 * 1024];
        let length = (self.stdout.read(&mut bytes)).context("cannot read what the VM prints")?;
        bytes.truncate(length);
        match length {
            0 => Ok(Output::End),
            _ => Ok(Output::Some(bytes)),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _already_over = self.child.kill();
        let _status = self.child.wait();
    }
}

/// One command in one machine.
pub struct Machine<'a> {
    pub emulator: &'a Emulator,
    pub kernel: &'a Unpacked,
    pub accelerator: Accelerator,
    /// For `sh`.
    pub command: &'a str,
    /// Whether systemd is the first program.
    pub systemd: bool,
    /// The machine's own directory: appears as /vm inside, and can be written to.
    pub share: &'a Path,
    pub timeout: Duration,
}

impl Machine<'_> {
    /// Starts a machine, runs the command in it, passes on what that prints, and gives its exit
    /// code.
    ///
    /// # Errors
    ///
    /// The machine does not get to the end of the command.
    pub fn run(&self, printed: &mut dyn FnMut(&[u8])) -> Result<u8> {
        let console = self.prepare()?;
        let mut command = self.qemu(&console);
        let mut process = Process::start(&mut command)?;
        let start = Instant::now();
        let end = start + self.timeout;
        let boot_end = end.min(start + BOOT);
        let started = self.share.join("started");
        loop {
            let booting = !started.exists();
            let deadline = if booting { boot_end } else { end };
            match process.read(deadline)? {
                Output::Some(bytes) => printed(&bytes),
                Output::End => break,
                Output::TimedOut if booting && started.exists() => {}
                Output::TimedOut if booting => {
                    bail!("it did not start in time; {}", self.last_words(&console));
                }
                Output::TimedOut => bail!(
                    "stopped after {} s (--timeout); {}",
                    self.timeout.as_secs(),
                    self.last_words(&console)
                ),
            }
        }
        let status = process.child.wait().context("cannot wait for qemu")?;
        let Ok(code) = fs::read_to_string(self.share.join("code")) else {
            bail!("it ended early ({status}); {}", self.last_words(&console));
        };
        code.trim().parse().context("cannot read the exit code")
    }

    /// Puts into the share what the scripts inside look for there.
    fn prepare(&self) -> Result<PathBuf> {
        let busybox = setup::program("busybox")?;
        for (name, content) in [
            ("start.sh", include_str!("start.sh").to_owned()),
            ("run.sh", include_str!("run.sh").to_owned()),
            ("command", self.command.to_owned()),
            ("busybox", busybox.display().to_string()),
            ("modules", self.kernel.all_modules().display().to_string()),
        ] {
            let path = self.share.join(name);
            fs::write(&path, content)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        if self.systemd {
            let path = self.share.join("systemd");
            fs::write(&path, SYSTEMD)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(self.share.join("console.log"))
    }

    /// What the kernel said of its end, or last. Its log is kept, as the share is not.
    fn last_words(&self, console: &Path) -> String {
        const FAULTS: [&str; 5] = [
            "BUG:",
            "Oops",
            "general protection",
            "cut here",
            "Kernel panic",
        ];
        let log = fs::read(console).unwrap_or_default();
        let kept = self.kernel.directory.join("console.log");
        let _only_for_people = fs::write(&kept, &log);
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().map(str::trim_end).collect();
        let first = (lines.iter())
            .position(|line| FAULTS.iter().any(|fault| line.contains(fault)))
            .unwrap_or_else(|| lines.len().saturating_sub(12));
        let words: Vec<_> = lines[first..].iter().take(40).copied().collect();
        format!("{} has:\n  {}", kept.display(), words.join("\n  "))
    }

    fn qemu(&self, console: &Path) -> Command {
        let parameters =
            "console=ttyS0 quiet loglevel=5 mitigations=off tsc=reliable apparmor=0 audit=0";
        let mut command = qemu(self.emulator, self.kernel, self.accelerator, parameters);
        command
            .arg("-initrd")
            .arg(self.kernel.initramfs())
            .args(["-serial", &format!("file:{}", quoted(console))])
            .args(["-device", "virtio-rng-pci", "-device", "virtio-serial-pci"])
            .args(["-chardev", "stdio,id=output,signal=off"])
            .args(["-device", "virtserialport,chardev=output,nr=1"]);
        for (tag, path, access) in [
            ("host", Path::new("/"), ",readonly=on"),
            ("share", self.share, ""),
        ] {
            // Without remapping, files of different file systems would be taken for the same.
            let path = quoted(path);
            command
                .arg("-fsdev")
                .arg(format!(
                    "local,id={tag},path={path},security_model=none,multidevs=remap{access}"
                ))
                .arg("-device")
                .arg(format!("virtio-9p-pci,fsdev={tag},mount_tag={tag}"));
        }
        command
    }
}

/// Where distributions have it.
const SYSTEMD: &str = "/lib/systemd/systemd";

/// More than ten times what it takes where instructions are emulated.
const BOOT: Duration = Duration::from_secs(120);

/// qemu's options are lists with commas.
fn quoted(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}
