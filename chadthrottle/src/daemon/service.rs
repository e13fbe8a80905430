//! What the service manager is told, if there is one (sd_notify(3)).

use std::{
    env, io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
};

use sd_notify::NotifyState;

/// Tells it. A manager that can't be told is no reason to end.
pub fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = tell(states) {
        log::warn!("the service manager can't be told: {error}");
    }
}

fn tell(states: &[NotifyState<'_>]) -> io::Result<()> {
    let socket = env::var_os("NOTIFY_SOCKET").unwrap_or_default();
    // sd-notify 0.5 takes the name of an abstract socket for a path.
    let Some(name) = socket.as_bytes().strip_prefix(b"@") else {
        return sd_notify::notify(states);
    };
    let lines: String = states.iter().map(|state| format!("{state}\n")).collect();
    let address = SocketAddr::from_abstract_name(name)?;
    let sent = UnixDatagram::unbound()?.send_to_addr(lines.as_bytes(), &address);
    sent.map(drop)
}
