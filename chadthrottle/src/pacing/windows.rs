//! The programs that see to windows, on the devices where downloads or uploads are limited.

use std::{
    collections::{HashMap, hash_map::Entry},
    io,
    os::fd::AsFd as _,
};

use chadthrottle_common::traffic::Direction;

use super::{Device, filters::FilterLink};
use crate::{
    kernel::{Kernel, WindowLink},
    model::process::Pid,
    process::network::namespace_of,
};

/// A program on a device.
enum Attached {
    Link(#[expect(dead_code, reason = "held")] WindowLink),
    Filter(#[expect(dead_code, reason = "held")] FilterLink),
}

/// Where the programs are; dropping it takes them away.
#[derive(Default)]
pub struct Windows {
    /// What devices need. Where it could not be attached, limits do without.
    attached: HashMap<(Device, Direction), Option<Attached>>,
}

impl Windows {
    /// Makes the programs be at the devices where they are `needed`, each with a process that lives in
    /// its network namespace, and nowhere else.
    pub fn set(&mut self, kernel: &mut Kernel, needed: &HashMap<(Device, Direction), Pid>) {
        self.attached.retain(|place, _| needed.contains_key(place));
        for ((device, direction), pid) in needed {
            self.add(kernel, *device, *direction, *pid);
        }
    }

    /// Makes the program of a direction be at a device, besides where it is; `pid` lives in the device's
    /// network namespace. Returns whether it is there.
    pub fn add(
        &mut self,
        kernel: &mut Kernel,
        device: Device,
        direction: Direction,
        pid: Pid,
    ) -> bool {
        if kernel.windows.get(direction).is_err() {
            return false;
        }
        if let Entry::Vacant(place) = self.attached.entry((device, direction)) {
            let link = attach(kernel, device, direction, pid)
                .inspect(|_| {
                    log::info!("windows hold {direction}s on device {}", device.index);
                })
                .inspect_err(|error| {
                    log::info!(
                        "windows on device {} are left alone: {error:#}",
                        device.index
                    );
                });
            place.insert(link.ok());
        }
        matches!(self.attached.get(&(device, direction)), Some(Some(_)))
    }
}

fn attach(
    kernel: &mut Kernel,
    device: Device,
    direction: Direction,
    pid: Pid,
) -> anyhow::Result<Attached> {
    let (namespace, number) = namespace_of(pid)?;
    if number != device.namespace {
        return Err(io::Error::from(io::ErrorKind::NotFound).into());
    }
    match kernel.see_to_windows_at(direction, namespace.as_fd(), device.index) {
        Ok(link) => Ok(Attached::Link(link)),
        Err(error) => {
            log::debug!("no link on device {}: {error:#}", device.index);
            let program = kernel.window_program(direction)?;
            let filter = FilterLink::attach(namespace, device.index, direction, program)?;
            Ok(Attached::Filter(filter))
        }
    }
}
