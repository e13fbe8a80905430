//! `chadthrottle rules edit` without options: the file in the person's editor, as `sudoedit` does it.
//! The editor gets a copy, and runs as the user who called sudo; only what is right takes the file's
//! place, and what is not is never lost.

use std::{
    env,
    fs::{File, Permissions},
    io::{self, IsTerminal as _, Read as _, Write as _},
    os::{
        fd::OwnedFd,
        unix::{fs::PermissionsExt as _, process::CommandExt as _},
    },
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail, ensure};
use rustix::fs::{CWD, FileType, Mode, OFlags, fchown, fstat, openat};

use super::{changed, make_folder, mistakes};
use crate::{
    process::login::Login,
    rules::file::{
        document::HEADER,
        read,
        store::{self, LARGEST, StoreError},
    },
};

/// The copy's name: editors tell by it what is in it.
const NAME: &str = "rules.toml";

/// Where people have no wish.
const USUAL: &str = "vi";

/// Opens a rules file in the editor, until it is right or the person gives up.
///
/// # Errors
///
/// The file is as it was; where the person's version of it is.
pub fn edit(path: &Path) -> anyhow::Result<()> {
    let before = match store::read(path) {
        Ok(text) => Some(text),
        Err(StoreError::Missing(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let invoker = Login::of_sudo_caller();
    let shown = before.as_deref().unwrap_or(HEADER);
    let draft = Draft::of(shown, invoker.as_ref()).context("no copy can be made to edit")?;
    let edited = draft.edit(invoker.as_ref()).and_then(|text| {
        if text == shown {
            return Ok(false);
        }
        make_folder(path)?;
        store::update(path, |now| {
            let same = now == before.as_deref();
            ensure!(
                same,
                "{} has changed meanwhile; it stays so",
                path.display()
            );
            Ok(text)
        })?;
        Ok(true)
    });
    match edited {
        Ok(true) => Ok(changed(path, "put what you wrote")?),
        Ok(false) => Ok(crate::report::line("nothing has changed")?),
        // Whatever went wrong, it may have been work.
        Err(error) if draft.is_worth_keeping(shown) => {
            let kept = draft.keep();
            Err(error.context(format!(
                "{} is as it was; what you wrote is in {}",
                path.display(),
                kept.display()
            )))
        }
        Err(error) => Err(error),
    }
}

/// The copy, in a folder of its own that only its owner can enter.
struct Draft {
    path: tempfile::TempDir,
    /// The owner may put another folder in its place, but not in this.
    folder: OwnedFd,
}

impl Draft {
    fn of(text: &str, invoker: Option<&Login>) -> io::Result<Self> {
        let path = tempfile::Builder::new()
            .prefix("chadthrottle-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir()?;
        let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = openat(CWD, path.path(), flags | OFlags::DIRECTORY, Mode::empty())?;
        let new = flags | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let mut file = File::from(openat(&folder, NAME, new, Mode::RUSR | Mode::WUSR)?);
        file.write_all(text.as_bytes())?;
        if let Some((uid, gid)) = invoker.map(Login::owner) {
            fchown(&file, Some(uid), Some(gid))?;
            fchown(&folder, Some(uid), Some(gid))?;
        }
        Ok(Self { path, folder })
    }

    fn path(&self) -> PathBuf {
        self.path.path().join(NAME)
    }

    /// What is in it now. Its owner may have put anything in its place: what is not the owner's own
    /// file is not read, for it may be one that the owner could not read.
    fn read(&self) -> anyhow::Result<String> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = openat(&self.folder, NAME, flags, Mode::empty());
        let file = File::from(file.context("the copy is gone")?);
        let (stat, owner) = (fstat(&file)?, fstat(&self.folder)?.st_uid);
        let ordinary = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        ensure!(
            ordinary && stat.st_uid == owner,
            "the copy is another file now"
        );
        let mut text = String::new();
        let read = file.take(LARGEST + 1).read_to_string(&mut text);
        read.context("the copy can't be read")?;
        Ok(text)
    }

    /// Has it edited until it is right, and returns what is in it then.
    fn edit(&self, invoker: Option<&Login>) -> anyhow::Result<String> {
        loop {
            run_editor(&self.path(), invoker)?;
            let text = self.read()?;
            match read(&text) {
                Ok(_) => return Ok(text),
                Err(found) => {
                    let error = mistakes(&self.path(), &found);
                    if !asked_again(&error)? {
                        return Err(error);
                    }
                }
            }
        }
    }

    fn is_worth_keeping(&self, shown: &str) -> bool {
        // What can't be read may be anything.
        self.read().map_or(true, |text| text != shown)
    }

    fn keep(self) -> PathBuf {
        self.path.keep().join(NAME)
    }
}

/// Says what is wrong, and asks whether to go on; without a terminal nobody can.
fn asked_again(error: &anyhow::Error) -> io::Result<bool> {
    if !io::stdin().is_terminal() {
        return Ok(false);
    }
    eprint!("chadthrottle: {error:#}\nEdit it again? [Y/n] ");
    let mut answer = String::new();
    // Nothing at all is the end of the terminal.
    let length = io::stdin().read_line(&mut answer)?;
    Ok(length > 0 && !answer.trim_start().to_lowercase().starts_with('n'))
}

fn run_editor(path: &Path, invoker: Option<&Login>) -> anyhow::Result<()> {
    let wish = |name| {
        env::var(name)
            .ok()
            .filter(|editor| !editor.trim().is_empty())
    };
    let editor = ["VISUAL", "EDITOR"].into_iter().find_map(wish);
    let editor = editor.unwrap_or(USUAL.to_owned());
    // A shell, because a wish may have arguments: `code --wait`. It outlives a Ctrl-C, as its trap
    // does something; the editor inherits no trap.
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(format!("trap : INT QUIT; {editor} \"$@\""))
        .arg("sh")
        .arg(path);
    if let Some(invoker) = invoker {
        invoker.run(&mut command);
    }
    // SAFETY: the closure makes a system call only.
    unsafe { command.pre_exec(|| interrupts(libc::SIG_DFL)) };
    // What is typed while it runs is for the editor.
    interrupts(libc::SIG_IGN)?;
    let status = command.status();
    interrupts(libc::SIG_DFL)?;
    match status.context("no shell can be started")? {
        status if status.success() => Ok(()),
        status => bail!(
            "the editor '{editor}' failed ({status}); another can be named, for example \
             EDITOR=nano"
        ),
    }
}

/// What Ctrl-C and Ctrl-\ do.
fn interrupts(what: libc::sighandler_t) -> io::Result<()> {
    for signal in [libc::SIGINT, libc::SIGQUIT] {
        // SAFETY: no handler of ours is installed, only the two that the kernel has.
        if unsafe { libc::signal(signal, what) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
