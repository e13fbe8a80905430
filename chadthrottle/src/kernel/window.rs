//! The programs that see to windows, on network devices.

use std::{io, os::fd::BorrowedFd};

use aya::{
    Ebpf,
    programs::{
        LinkOrder, SchedClassifier, TcAttachType,
        links::FdLink,
        tc::{SchedClassifierLink, TcAttachOptions},
    },
};

use chadthrottle_common::traffic::Direction;

use super::object;
use crate::process::network;

/// Why limits do without windows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WithoutWindow {
    /// What must be known of the kernel's structs is not.
    #[error("the kernel's type information: {0}")]
    Btf(String),
    /// The verifier, or a lack of rights.
    #[error("the kernel refused the program: {0}")]
    Refused(String),
}

/// The program on a device; the kernel takes it away with this descriptor.
pub struct WindowLink {
    _link: FdLink,
}

/// Attaches the program of a direction to a device of the network namespace behind `namespace`, before
/// programs that are there already: to what leaves for downloads, to what arrives for uploads.
///
/// # Errors
///
/// `EINVAL` before Linux 6.6; the device has gone.
pub(super) fn attach(
    ebpf: &mut Ebpf,
    direction: Direction,
    namespace: BorrowedFd<'_>,
    device: u32,
) -> anyhow::Result<WindowLink> {
    let side = match direction {
        Direction::Download => TcAttachType::Egress,
        Direction::Upload => TcAttachType::Ingress,
    };
    let program = object::window(ebpf, direction)?;
    let link = network::inside(namespace, || attach_here(program, device, side))?;
    let link = FdLink::try_from(link)?;
    Ok(WindowLink { _link: link })
}

fn attach_here(
    program: &mut SchedClassifier,
    device: u32,
    side: TcAttachType,
) -> io::Result<SchedClassifierLink> {
    let any = rustix::net::socket(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::DGRAM,
        None,
    )?;
    // aya looks devices up by name.
    let name = rustix::net::netdevice::index_to_name(any, device)?;
    program
        .attach_with_options(&name, side, TcAttachOptions::TcxOrder(LinkOrder::first()))
        .and_then(|id| program.take_link(id))
        .map_err(io::Error::other)
}
