//! nginx with two workers.

use std::{fs, net::SocketAddr, path::Path, process::Command, thread, time::Duration};

use anyhow::{Result, ensure};
use rustix::process::Signal;

use crate::{
    lab::{End, Family},
    moment::Moment,
    process::Process,
};

/// The name under which it runs: another nginx of this machine is none of a test's business.
pub const PROGRAM: &str = "ct-nginx";

const PORT: u16 = 8080;

/// nginx, whose workers outlive it when it is killed, but not when it is told to end.
pub struct Nginx {
    process: Process,
    address: SocketAddr,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // If it has ended already, so have its workers.
        let _ = self.process.signal(Signal::TERM);
        let _ = self.process.wait(Duration::from_secs(10));
    }
}

impl Nginx {
    /// Starts it at an end, with all it has in a folder; nothing if it is not installed. It serves `/large`, which has
    /// no end that matters, and `/small`, of 1000 bytes.
    pub fn start(end: &End, folder: &Path) -> Result<Option<Self>> {
        let mut which = Command::new("sh");
        let which = which.args(["-c", "command -v nginx"]).output()?;
        if !which.status.success() {
            return Ok(None);
        }
        let program = folder.join(PROGRAM);
        fs::copy(String::from_utf8(which.stdout)?.trim_end(), &program)?;
        let address = SocketAddr::new(end.any_port(Family::V4).ip(), PORT);
        let place = folder.display();
        let temporary: Vec<String> = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {place}/{kind};"))
            .into();
        let configuration = folder.join("nginx.conf");
        let text = format!(
            "daemon off; worker_processes 2; user root; pid {place}/pid; error_log stderr;
            events {{ worker_connections 256; }}
            http {{
                access_log off; sendfile on; {}
                server {{ listen {address}; root {place}; }}
            }}",
            temporary.join(" ")
        );
        fs::write(&configuration, text)?;
        // Sparse: it takes no room.
        fs::File::create(folder.join("large"))?.set_len(1 << 40)?;
        fs::write(folder.join("small"), [b'.'; 1000])?;
        let mut command = Command::new(program);
        command.arg("-c").arg(configuration).args(["-e", "stderr"]);
        let process = end.start(command)?;
        // Written when it listens.
        let deadline = Moment::now() + Duration::from_secs(10);
        while !folder.join("pid").exists() {
            ensure!(Moment::now() < deadline, "nginx: {}", process.errors());
            thread::sleep(Duration::from_millis(20));
        }
        Ok(Some(Self { process, address }))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// New workers take the place of those that it has, which end with their last connection.
    pub fn reload(&self) -> Result<()> {
        self.process.signal(Signal::HUP)
    }

    /// curl, which gets `/large` for so long and then prints the bytes a second that it got.
    pub fn curl(&self, time: Duration) -> Command {
        let mut curl = Command::new("curl");
        let seconds = time.as_secs().to_string();
        curl.args([
            "-s",
            "--noproxy",
            "*",
            "--max-time",
            &seconds,
            "-o",
            "/dev/null",
        ]);
        curl.args(["-w", "%{speed_download}\n"]);
        curl.arg(format!("http://{}/large", self.address));
        curl
    }
}
