//! The real machine around the interface.

use std::{net::IpAddr, path::PathBuf};

use super::{Surroundings, preferences, preferences::Preferences};
use crate::{model::process::ProcessKey, process::carrier};

/// This machine.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// Where preferences are kept, if they can be.
    path: Option<PathBuf>,
}

impl Machine {
    /// This machine, and what is remembered on it.
    pub fn here() -> (Self, Preferences) {
        let path = preferences::path();
        let remembered = path.as_deref().map(preferences::read);
        (Self { path }, remembered.unwrap_or_default())
    }
}

impl Surroundings for Machine {
    fn name_of(&self, address: IpAddr) -> Option<String> {
        match dns_lookup::lookup_addr(&address) {
            // Without a name the resolver answers with the address.
            Ok(name) => (name.parse::<IpAddr>().is_err()).then_some(name),
            Err(error) => {
                log::debug!("the name of {address}: {error}");
                None
            }
        }
    }

    fn carriers(&self) -> Vec<ProcessKey> {
        carrier::carriers()
    }

    fn remember(&self, preferences: &Preferences) {
        let Some(path) = &self.path else { return };
        if let Err(error) = preferences::write(path, preferences) {
            log::warn!("preferences are not kept: {}: {error}", path.display());
        }
    }
}
