//! The command line: a mode and `key=value` settings.

use std::{collections::BTreeMap, env, net::SocketAddr, str::FromStr};

use anyhow::{Context, Result};

/// What to do.
pub struct Settings {
    /// The mode.
    pub mode: String,
    values: BTreeMap<String, String>,
}

impl Settings {
    /// From the command line.
    pub fn from_arguments() -> Result<Self> {
        let mut arguments = env::args().skip(1);
        let mode = arguments.next().context("no mode")?;
        let values = arguments
            .map(|argument| {
                let (key, value) = argument
                    .split_once('=')
                    .with_context(|| format!("not key=value: {argument}"))?;
                Ok((key.to_owned(), value.to_owned()))
            })
            .collect::<Result<_>>()?;
        Ok(Self { mode, values })
    }

    /// Whether the setting is there.
    pub fn is_set(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// The setting, if it is there.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }

    /// A number, or what it is without the setting.
    pub fn number<T: FromStr>(&self, key: &str, otherwise: T) -> Result<T> {
        match self.values.get(key) {
            None => Ok(otherwise),
            Some(value) => value
                .parse()
                .ok()
                .with_context(|| format!("{key}: '{value}' is not a number")),
        }
    }

    /// The congestion control of TCP.
    pub fn congestion_control(&self) -> &str {
        self.text("congestion").unwrap_or("cubic")
    }

    /// The bytes of a setting in hexadecimal.
    pub fn bytes(&self, key: &str) -> Result<Vec<u8>> {
        let digits = self.values.get(key).with_context(|| format!("no {key}="))?;
        (0..digits.len() / 2)
            .map(|i| {
                let pair = digits.get(2 * i..2 * i + 2).context("not hexadecimal")?;
                u8::from_str_radix(pair, 16).with_context(|| format!("{key}: {pair}"))
            })
            .collect()
    }

    /// Whether it sends; else it receives.
    pub fn sends(&self) -> bool {
        self.values.get("do").is_some_and(|value| value == "send")
    }

    /// Where to listen.
    pub fn listen(&self) -> Result<Option<SocketAddr>> {
        self.address("listen")
    }

    /// Where to connect to.
    pub fn connect(&self) -> Result<SocketAddr> {
        self.address("connect")?.context("no connect= or listen=")
    }

    fn address(&self, key: &str) -> Result<Option<SocketAddr>> {
        let value = self.values.get(key);
        value
            .map(|value| value.parse().with_context(|| format!("{key}: {value}")))
            .transpose()
    }
}
