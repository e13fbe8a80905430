//! What is remembered from one session to the next, and where.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::view::theme::Palette;
use crate::{
    listing::{
        column::Column,
        rows::{Sort, View},
    },
    model::direction::{Limits, PerDirection},
    rate::{Rate, Units},
};

/// The times between samples that keys go through.
pub const INTERVALS: [Duration; 6] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
];

/// How many pairs of rates are remembered.
const LAST_USED: usize = 3;

/// What is remembered.
#[derive(Clone, Debug, PartialEq)]
pub struct Preferences {
    /// What amounts are shown in.
    pub units: Units,
    /// What a row is.
    pub view: View,
    /// The order of the table.
    pub sort: Sort,
    /// The time between samples.
    pub interval: Duration,
    /// Colours.
    pub palette: Palette,
    /// Whether clicks and the wheel are the interface's, or the terminal's own.
    pub mouse: bool,
    /// The limits that were set last, the latest first.
    pub last_used: Vec<Limits>,
}

impl Default for Preferences {
    fn default() -> Self {
        Self {
            units: Units::default(),
            view: View::default(),
            sort: Sort::default(),
            interval: Duration::from_secs(1),
            palette: Palette::default(),
            mouse: true,
            last_used: Vec::new(),
        }
    }
}

/// The same as the file has it. Whatever is missing or not understood is as it is at first.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Kept {
    units: Units,
    view: View,
    sort: Option<String>,
    reversed: bool,
    interval_ms: Option<u64>,
    palette: Palette,
    mouse: Option<bool>,
    last_used: Vec<KeptLimits>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct KeptLimits {
    #[serde(skip_serializing_if = "Option::is_none")]
    download: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upload: Option<String>,
}

impl Preferences {
    /// The next longer or shorter interval.
    pub fn change_interval(&mut self, longer: bool) {
        let mut intervals = INTERVALS.into_iter();
        let next = match longer {
            true => intervals.find(|interval| *interval > self.interval),
            false => intervals.rfind(|interval| *interval < self.interval),
        };
        self.interval = next.unwrap_or(self.interval);
    }

    /// Remembers limits that were set.
    pub fn use_limits(&mut self, limits: Limits) {
        if limits.is_unlimited() {
            return;
        }
        self.last_used.retain(|used| *used != limits);
        self.last_used.insert(0, limits);
        self.last_used.truncate(LAST_USED);
    }

    fn from_kept(kept: Kept) -> Self {
        let first = Self::default();
        let known = |ms: &u64| INTERVALS.contains(&Duration::from_millis(*ms));
        let rate = |text: &Option<String>| text.as_ref().and_then(|text| text.parse::<Rate>().ok());
        Self {
            units: kept.units,
            view: kept.view,
            sort: Sort {
                by: kept.sort.as_deref().and_then(Column::from_key),
                reversed: kept.reversed,
            },
            interval: kept
                .interval_ms
                .filter(known)
                .map_or(first.interval, Duration::from_millis),
            palette: kept.palette,
            mouse: kept.mouse.unwrap_or(first.mouse),
            last_used: kept
                .last_used
                .iter()
                .map(|limits| Limits {
                    download: rate(&limits.download),
                    upload: rate(&limits.upload),
                })
                .filter(|limits| !limits.is_unlimited())
                .take(LAST_USED)
                .collect(),
        }
    }

    fn to_kept(&self) -> Kept {
        Kept {
            units: self.units,
            view: self.view,
            sort: self.sort.by.map(|column| column.key().to_owned()),
            reversed: self.sort.reversed,
            interval_ms: Some(self.interval.as_millis() as u64),
            palette: self.palette,
            mouse: Some(self.mouse),
            last_used: self
                .last_used
                .iter()
                .map(|PerDirection { download, upload }| KeptLimits {
                    download: download.map(Rate::exact),
                    upload: upload.map(Rate::exact),
                })
                .collect(),
        }
    }
}

/// The file they are kept in: root's is the system's, so that nothing of root's comes to be in
/// the home of whoever called `sudo`.
pub fn path() -> Option<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Some(crate::daemon::place::state_folder().join("interface.toml"));
    }
    crate::log_sink::state_home().map(|home| home.join("chadthrottle/interface.toml"))
}

/// Reads them. What is not there, or can't be understood, is as it is at first.
pub fn read(path: &Path) -> Preferences {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                log::warn!("{}: {error}", path.display());
            }
            return Preferences::default();
        }
    };
    match toml::from_str(&text) {
        Ok(kept) => Preferences::from_kept(kept),
        Err(error) => {
            log::warn!("{} is not understood: {error}", path.display());
            Preferences::default()
        }
    }
}

/// Writes them: the file is whole at any time, and its owner's only.
///
/// # Errors
///
/// The file system's.
pub fn write(path: &Path, preferences: &Preferences) -> io::Result<()> {
    let text = toml::to_string(&preferences.to_kept()).map_err(io::Error::other)?;
    if let Some(directory) = path.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)?;
    }
    let new = path.with_extension(format!("toml.{}", std::process::id()));
    let written = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(&new)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        // It may not even be there.
        let _ = fs::remove_file(&new);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state/interface.toml");
        assert_eq!(read(&path), Preferences::default());
        let mut preferences = Preferences {
            units: Units::BinaryBits,
            view: View::Users,
            sort: Sort {
                by: Some(Column::Name),
                reversed: true,
            },
            interval: INTERVALS[4],
            palette: Palette::Light,
            mouse: false,
            last_used: Vec::new(),
        };
        for rate in [0, 1_500_000, 250_000, 1_500_000, 7] {
            preferences.use_limits(Limits {
                download: Some(Rate::from_bytes_per_second(rate)),
                upload: None,
            });
        }
        assert_eq!(preferences.last_used.len(), LAST_USED);
        write(&path, &preferences).unwrap();
        assert_eq!(read(&path), preferences);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_broken_file_is_no_harm() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("interface.toml");
        for text in [
            "units = 7",
            "]]]",
            "units = \"furlongs\"",
            "interval-ms = -3",
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(read(&path), Preferences::default(), "{text}");
        }
        fs::write(
            &path,
            "interval-ms = 3\nsort = \"mark\"\nunknown = 1\nmouse = false\n[[last-used]]\ndownload = \"8Mbps\"\n",
        )
        .unwrap();
        let read = read(&path);
        assert!(!read.mouse);
        assert_eq!((read.interval, read.sort.by), (INTERVALS[2], None));
        assert_eq!(read.last_used, []);
    }

    #[test]
    fn intervals_go_up_and_down_and_stop() {
        let mut preferences = Preferences::default();
        for (longer, expected) in [
            (true, 2000),
            (true, 5000),
            (true, 10_000),
            (true, 10_000),
            (false, 5000),
        ] {
            preferences.change_interval(longer);
            assert_eq!(preferences.interval, Duration::from_millis(expected));
        }
    }
}
