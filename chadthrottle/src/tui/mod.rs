//! The terminal interface.
//!
//! Data flows one way: snapshot → [`state`] → [`view`]; key → [`keymap`] → action → [`update`] →
//! effect → engine. The view does no input or output and changes nothing; `update` gets the time
//! as an argument; only [`terminal`] touches the terminal's modes.

pub mod action;
pub mod columns;
pub mod dialog;
pub mod history;
pub mod keymap;
mod machine;
pub mod notices;
pub mod preferences;
pub mod reach;
mod session;
mod shown;
pub mod state;
pub mod terminal;
pub mod text;
pub mod update;
pub mod view;

use std::{net::IpAddr, path::PathBuf, sync::Arc};

use futures_util::future::LocalBoxFuture;

use crate::model::process::ProcessKey;
use preferences::Preferences;
use view::theme::Palette;

pub use machine::Machine;
pub use session::{Input, Screen, drive, run};
pub use shown::{Keeper, Phase, Shown};

/// Where the log pane gets its lines.
pub trait LogTail {
    /// The last lines, oldest first, at most so many. It must not block.
    fn lines(&self, most: usize) -> Vec<String>;

    /// The file that has all of them, if they go to a file.
    fn path(&self) -> Option<PathBuf>;
}

/// What is asked of the machine besides the engine. It may take its time: it is asked on threads
/// that may block.
pub trait Surroundings: Send + Sync + 'static {
    /// The name of an address, if it has one.
    fn name_of(&self, address: IpAddr) -> Option<String>;

    /// The processes through which the person sees this.
    fn carriers(&self) -> Vec<ProcessKey>;

    /// Keeps preferences for the next session.
    fn remember(&self, preferences: &Preferences);
}

/// All of the outside world but the terminal.
pub struct Outside<'a> {
    /// The engine, real or made up, when it is loaded; the screen does not wait for it.
    pub shown: LocalBoxFuture<'a, anyhow::Result<Shown>>,
    /// Log lines.
    pub log: &'a dyn LogTail,
    /// The machine.
    pub surroundings: Arc<dyn Surroundings>,
    /// What was remembered from the session before.
    pub preferences: Preferences,
}

/// How the screen looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Colours, or only bold, dim and reversed text.
    pub colour: bool,
    /// The background is light.
    pub light: bool,
    /// Characters beyond ASCII.
    pub unicode: bool,
}

impl Options {
    /// As the environment asks: `NO_COLOR` with any text in it means no colours, `COLORFGBG` tells
    /// the background (rxvt and others set it), the locale tells the character set.
    pub fn from_env() -> Self {
        let is_set = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            colour: is_set("NO_COLOR").is_none()
                && is_set("TERM").is_none_or(|term| term != "dumb"),
            light: is_set("COLORFGBG").is_some_and(|colours| is_light(&colours)),
            unicode: ["LC_ALL", "LC_CTYPE", "LANG"]
                .into_iter()
                .find_map(is_set)
                .is_some_and(|locale| is_utf8(&locale)),
        }
    }

    /// The palette to draw with.
    pub const fn palette(self, preferred: Palette) -> Palette {
        match preferred {
            _ if !self.colour => Palette::Plain,
            Palette::Auto if self.light => Palette::Light,
            preferred => preferred,
        }
    }
}

/// `0;15` and the like: the last number is the background, 7 and from 9 on are light ones.
fn is_light(colours: &str) -> bool {
    let background = colours
        .rsplit(';')
        .next()
        .and_then(|last| last.parse().ok());
    matches!(background, Some(7 | 9..=15))
}

/// `en_GB.UTF-8`, `C.utf8`.
fn is_utf8(locale: &str) -> bool {
    let codeset = locale.split(['.', '@']).nth(1).unwrap_or_default();
    codeset.replace('-', "").eq_ignore_ascii_case("utf8")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_environment_says() {
        for (locale, expected) in [
            ("en_GB.UTF-8", true),
            ("C.utf8", true),
            ("de_DE.UTF-8@euro", true),
            ("C", false),
            ("POSIX", false),
            ("en_US.ISO-8859-1", false),
        ] {
            assert_eq!(is_utf8(locale), expected, "{locale}");
        }
        for (colours, expected) in [
            ("0;15", true),
            ("0;default;7", true),
            ("15;0", false),
            ("7;8", false),
            ("x", false),
        ] {
            assert_eq!(is_light(colours), expected, "{colours}");
        }
    }
}
