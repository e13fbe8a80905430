//! Where log lines go.
//!
//! While the interface owns the terminal they must not garble it: they go to standard error if
//! that is redirected, else to a file; the last of them are kept to be read inside the interface.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io::{self, IsTerminal as _, Write},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// How many lines are kept for the interface.
const KEPT: usize = 1000;

/// A log file larger than this is begun anew.
const LARGEST: u64 = 10 * 1024 * 1024;

/// The last lines of the log, and where all of them are.
#[derive(Clone, Debug, Default)]
pub struct LogTail {
    kept: Arc<Mutex<Kept>>,
    path: Option<PathBuf>,
}

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<String>,
    /// A line whose end has not been written yet.
    begun: String,
}

impl LogTail {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, text: &str) {
        let mut kept = self.lock();
        for piece in text.split_inclusive('\n') {
            kept.begun.push_str(piece.trim_end_matches('\n'));
            if piece.ends_with('\n') {
                if kept.lines.len() == KEPT {
                    kept.lines.pop_front();
                }
                let line = std::mem::take(&mut kept.begun);
                kept.lines.push_back(line);
            }
        }
    }
}

impl crate::tui::LogTail for LogTail {
    fn lines(&self, most: usize) -> Vec<String> {
        let kept = self.lock();
        let earlier = kept.lines.len().saturating_sub(most);
        kept.lines.iter().skip(earlier).cloned().collect()
    }

    fn path(&self) -> Option<PathBuf> {
        self.path.clone()
    }
}

/// Writes each record to its place and keeps it for the interface.
struct Tee<W> {
    tail: LogTail,
    out: Option<W>,
}

impl<W: Write> Write for Tee<W> {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        self.tail.keep(&String::from_utf8_lossy(record));
        if let Some(out) = &mut self.out {
            // A full disk must not stop the program, and there is no better place to say so.
            let _ = out.write_all(record);
        }
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.as_mut().map_or(Ok(()), Write::flush)
    }
}

/// Logs to standard error, for commands that leave the terminal as it is. `RUST_LOG` chooses
/// what; warnings otherwise.
pub fn to_stderr() {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn"))
        .format_timestamp_millis()
        .init();
}

/// How the daemon's log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people; under systemd with the level as its journal understands it
    #[default]
    Text,
    /// A line of JSON each
    Json,
}

/// Logs to standard error, for the daemon. `RUST_LOG` chooses what; what chadthrottle itself does
/// otherwise.
pub fn for_daemon(format: Format) {
    let mut builder = env_logger::Builder::from_env(
        env_logger::Env::default().default_filter_or("warn,chadthrottle=info"),
    );
    match format {
        Format::Json => builder.format(|out, record| {
            let line = serde_json::json!({
                "time": crate::report::timestamp(std::time::SystemTime::now()),
                "level": record.level().as_str().to_lowercase(),
                "target": record.target(),
                "message": record.args().to_string(),
            });
            writeln!(out, "{line}")
        }),
        // systemd says so of a standard error that goes to its journal, which knows the time.
        Format::Text if std::env::var_os("JOURNAL_STREAM").is_some() => {
            builder.format(|out, record| {
                writeln!(out, "<{}>{}", syslog_level(record.level()), record.args())
            })
        }
        Format::Text => builder.format_timestamp_millis(),
    };
    builder.init();
}

/// The level's number in syslog (RFC 5424), as `sd-daemon(3)` has it before a line.
const fn syslog_level(level: log::Level) -> u8 {
    match level {
        log::Level::Error => 3,
        log::Level::Warn => 4,
        log::Level::Info => 6,
        log::Level::Debug | log::Level::Trace => 7,
    }
}

/// Logs for the interface. `RUST_LOG` chooses what; what chadthrottle itself does otherwise.
pub fn for_interface() -> LogTail {
    let mut tail = LogTail::default();
    let out: Option<Box<dyn Write + Send>> = if io::stderr().is_terminal() {
        match open_file(&directory()) {
            Ok((file, path)) => {
                tail.path = Some(path);
                Some(Box::new(file))
            }
            Err(error) => {
                tail.keep(&format!("no log file: {error:#}\n"));
                None
            }
        }
    } else {
        Some(Box::new(io::stderr()))
    };
    let tee = Tee {
        tail: tail.clone(),
        out,
    };
    env_logger::Builder::from_env(
        env_logger::Env::default().default_filter_or("warn,chadthrottle=info"),
    )
    .format_timestamp_millis()
    .write_style(env_logger::WriteStyle::Never)
    .target(env_logger::Target::Pipe(Box::new(tee)))
    .init();
    tail
}

/// Root's logs are with the system's, others' with their own state.
fn directory() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/log/chadthrottle");
    }
    state_home()
        .unwrap_or_else(std::env::temp_dir)
        .join("chadthrottle")
}

/// Where a user's programs keep their state (XDG base directory specification).
pub fn state_home() -> Option<PathBuf> {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(home)
}

/// Opens the log file for this user's eyes only, following no link.
fn open_file(directory: &Path) -> anyhow::Result<(File, PathBuf)> {
    use anyhow::Context as _;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .with_context(|| directory.display().to_string())?;
    let path = directory.join("chadthrottle.log");
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(&path)
        .with_context(|| path.display().to_string())?;
    if file.metadata()?.len() > LARGEST {
        file.set_len(0)?;
    }
    Ok((file, path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::LogTail as _;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_last_lines_are_kept_and_all_are_written() {
        let tail = LogTail::default();
        let mut written = Vec::new();
        let mut tee = Tee {
            tail: tail.clone(),
            out: Some(&mut written),
        };
        for n in 0..KEPT + 5 {
            writeln!(tee, "line {n}").unwrap();
        }
        assert_eq!(tail.lines(2), ["line 1003", "line 1004"]);
        assert_eq!(tail.lines(usize::MAX).len(), KEPT);
        assert_eq!(
            written.iter().filter(|byte| **byte == b'\n').count(),
            KEPT + 5
        );
    }

    #[test]
    fn the_file_is_for_its_owner_only_and_follows_no_link() {
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("new");
        let (file, path) = open_file(&inner).unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert!(open_file(&inner).is_err());
    }
}
