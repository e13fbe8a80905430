//! The program that advertises windows, on the devices where downloads are limited.

use std::{
    collections::{HashMap, hash_map::Entry},
    io,
    os::fd::AsFd as _,
};

use super::{Device, filters::FilterLink};
use crate::{
    kernel::{Kernel, WindowLink},
    model::process::Pid,
    process::network::namespace_of,
};

/// The program on a device.
enum Attached {
    Link(#[expect(dead_code, reason = "held")] WindowLink),
    Filter(#[expect(dead_code, reason = "held")] FilterLink),
}

/// Where the program is; dropping it takes the program away.
#[derive(Default)]
pub struct Windows {
    /// Devices that need it. Where it could not be attached, limits do without.
    attached: HashMap<Device, Option<Attached>>,
}

impl Windows {
    /// Makes the program be at the devices that are `needed`, each with a process that lives in
    /// its network namespace, and nowhere else.
    pub fn set(&mut self, kernel: &mut Kernel, needed: &HashMap<Device, Pid>) {
        self.attached
            .retain(|device, _| needed.contains_key(device));
        for (device, pid) in needed {
            self.add(kernel, *device, *pid);
        }
    }

    /// Makes the program be at a device, besides where it is; `pid` lives in the device's network
    /// namespace.
    pub fn add(&mut self, kernel: &mut Kernel, device: Device, pid: Pid) {
        if kernel.window.is_err() {
            return;
        }
        if let Entry::Vacant(place) = self.attached.entry(device) {
            let link = attach(kernel, device, pid)
                .inspect(|_| log::info!("windows are advertised on device {}", device.index))
                .inspect_err(|error| {
                    log::info!(
                        "windows on device {} are left alone: {error:#}",
                        device.index
                    );
                });
            place.insert(link.ok());
        }
    }
}

fn attach(kernel: &mut Kernel, device: Device, pid: Pid) -> anyhow::Result<Attached> {
    let (namespace, number) = namespace_of(pid)?;
    if number != device.namespace {
        return Err(io::Error::from(io::ErrorKind::NotFound).into());
    }
    match kernel.advertise_at(namespace.as_fd(), device.index) {
        Ok(link) => Ok(Attached::Link(link)),
        Err(error) => {
            log::debug!("no link on device {}: {error:#}", device.index);
            let program = kernel.window_program()?;
            let filter = FilterLink::attach(namespace, device.index, program)?;
            Ok(Attached::Filter(filter))
        }
    }
}
