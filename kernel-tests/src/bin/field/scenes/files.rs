//! Files by SSH, FTP, SMB and rsync, up and down.

use std::{fs, process::Command};

use anyhow::Result;
use kernel_tests::{flow::Direction, process::Process};

use super::{CLIENT, RunsAs, SERVER, Scene};
use crate::stage::{Post, shell};

const SSH_PORT: u16 = 2222;
const FTP_PORT: u16 = 2121;
const SMB_PORT: u16 = 4450;
const RSYNC_PORT: u16 = 8730;

/// A user that every system has: ssh wants one with a name.
const SOMEBODY: RunsAs = RunsAs::Named("nobody");

pub fn scenes() -> Vec<Scene> {
    vec![
        Scene {
            name: "sshd, scp downloads from it",
            needs: &["sshd", "scp"],
            carrier: "sshd",
            command: "sshd: root*",
            runs_as: RunsAs::Root,
            server: sshd,
            client: scp_down,
            ..SERVER
        },
        Scene {
            name: "sshd, rsync downloads from it",
            needs: &["sshd", "ssh", "rsync"],
            carrier: "sshd",
            command: "sshd: root*",
            runs_as: RunsAs::Root,
            server: sshd,
            client: rsync_down,
            ..SERVER
        },
        Scene {
            name: "scp",
            needs: &["sshd", "scp"],
            carrier: "ssh",
            runs_as: SOMEBODY,
            server: sshd,
            client: scp_down,
            ..CLIENT
        },
        Scene {
            name: "scp, upload",
            needs: &["sshd", "scp"],
            carrier: "ssh",
            direction: Direction::Upload,
            runs_as: SOMEBODY,
            server: sshd,
            client: scp_up,
            ..CLIENT
        },
        Scene {
            name: "sftp",
            needs: &["sshd", "sftp"],
            carrier: "ssh",
            runs_as: SOMEBODY,
            server: sshd,
            client: sftp,
            ..CLIENT
        },
        Scene {
            name: "rsync over ssh",
            needs: &["sshd", "ssh", "rsync"],
            carrier: "ssh",
            runs_as: SOMEBODY,
            server: sshd,
            client: rsync_down,
            ..CLIENT
        },
        Scene {
            name: "restic over sftp",
            needs: &["sshd", "ssh", "restic"],
            carrier: "ssh",
            direction: Direction::Upload,
            runs_as: SOMEBODY,
            server: sshd,
            client: restic,
            ..CLIENT
        },
        Scene {
            name: "rsync from a daemon",
            needs: &["rsync"],
            carrier: "rsync",
            server: rsync_daemon,
            client: rsync_from_daemon,
            ..CLIENT
        },
        Scene {
            name: "vsftpd",
            needs: &["vsftpd", "curl"],
            carrier: "vsftpd",
            runs_as: RunsAs::Root,
            server: vsftpd,
            client: ftp,
            ..SERVER
        },
        Scene {
            name: "lftp",
            needs: &["vsftpd", "lftp"],
            carrier: "lftp",
            command: "*lftp*",
            server: vsftpd,
            client: lftp,
            ..CLIENT
        },
        Scene {
            name: "Samba",
            needs: &["smbd", "smbclient"],
            carrier: "smbd",
            runs_as: RunsAs::Root,
            server: smbd,
            client: smbclient,
            ..SERVER
        },
        Scene {
            name: "smbclient",
            needs: &["smbd", "smbclient"],
            carrier: "smbclient",
            command: "*smbclient*",
            server: smbd,
            client: smbclient,
            ..CLIENT
        },
    ]
}

fn sshd(post: &Post<'_>) -> Result<Process> {
    let folder = post.folder();
    let place = folder.display();
    let client = post.other();
    let key = client.folder().join("key");
    client.run(&format!(
        "ssh-keygen -q -t ed25519 -N '' -f {}",
        key.display()
    ))?;
    post.run(&format!(
        "mkdir -p /run/sshd; ssh-keygen -q -t ed25519 -N '' -f {place}/host"
    ))?;
    post.write("keys", &fs::read_to_string(key.with_extension("pub"))?)?;
    let configuration = post.write(
        "sshd.conf",
        &format!(
            "Port {SSH_PORT}\nListenAddress {}\nHostKey {place}/host\nAuthorizedKeysFile {place}/keys\n\
             StrictModes no\nUsePAM no\nPermitRootLogin yes\nPidFile none\nSubsystem sftp internal-sftp\n",
            post.server()
        ),
    )?;
    let mut sshd = Command::new(post.program("sshd")?);
    sshd.arg("-D").arg("-e").arg("-f").arg(configuration);
    post.serve(sshd, SSH_PORT)
}

fn ssh_options(post: &Post<'_>) -> String {
    format!(
        "-i {} -o Port={SSH_PORT} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR",
        post.folder().join("key").display()
    )
}

/// With the ssh of its end.
fn over_ssh(post: &Post<'_>, program: &str, arguments: &str) -> Result<Process> {
    let script = format!(
        "exec {} -S {} {} {arguments}",
        post.program(program)?.display(),
        post.program("ssh")?.display(),
        ssh_options(post)
    );
    post.start(shell(&script))
}

fn scp_down(post: &Post<'_>) -> Result<Process> {
    let (from, to) = (post.large(), post.folder().join("got"));
    over_ssh(
        post,
        "scp",
        &format!("root@{}:{} {}", post.server(), from.display(), to.display()),
    )
}

fn scp_up(post: &Post<'_>) -> Result<Process> {
    over_ssh(
        post,
        "scp",
        &format!(
            "{} root@{}:/dev/null",
            post.large().display(),
            post.server()
        ),
    )
}

fn sftp(post: &Post<'_>) -> Result<Process> {
    let (from, to) = (post.large(), post.folder().join("got"));
    over_ssh(
        post,
        "sftp",
        &format!("root@{}:{} {}", post.server(), from.display(), to.display()),
    )
}

/// A backup of what can't be compressed.
fn restic(post: &Post<'_>) -> Result<Process> {
    let script = format!(
        "export RESTIC_PASSWORD=field\n\
         to() {{ {} --no-cache --quiet -r sftp:root@{1}:{2}/repository -o 'sftp.command={3} {4} root@{1} -s sftp' \"$@\"; }}\n\
         to init && to backup --stdin </dev/urandom",
        post.program("restic")?.display(),
        post.server(),
        post.other().folder().display(),
        post.program("ssh")?.display(),
        ssh_options(post),
    );
    post.start(shell(&script))
}

fn rsync_down(post: &Post<'_>) -> Result<Process> {
    let script = format!(
        "exec {} --whole-file --inplace -e '{} {}' root@{}:{} {}",
        post.program("rsync")?.display(),
        post.program("ssh")?.display(),
        ssh_options(post),
        post.server(),
        post.large().display(),
        post.folder().join("got").display()
    );
    post.start(shell(&script))
}

fn rsync_daemon(post: &Post<'_>) -> Result<Process> {
    let folder = post.folder();
    let configuration = post.write(
        "rsyncd.conf",
        &format!(
            "address = {}\nport = {RSYNC_PORT}\nuse chroot = no\nuid = root\ngid = root\n\
             [all]\npath = {}\n",
            post.server(),
            post.shared().display()
        ),
    )?;
    let mut rsync = Command::new(post.program("rsync")?);
    rsync
        .args(["--daemon", "--no-detach"])
        .arg(format!("--config={}", configuration.display()));
    rsync.arg(format!("--log-file={}", folder.join("log").display()));
    post.serve(rsync, RSYNC_PORT)
}

fn rsync_from_daemon(post: &Post<'_>) -> Result<Process> {
    let mut rsync = Command::new(post.program("rsync")?);
    rsync.args(["--whole-file", "--inplace"]);
    rsync.arg(format!("rsync://{}:{RSYNC_PORT}/all/large", post.server()));
    rsync.arg(post.folder().join("got"));
    post.start(rsync)
}

fn vsftpd(post: &Post<'_>) -> Result<Process> {
    post.run("mkdir -p /run/vsftpd/empty")?;
    let configuration = post.write(
        "vsftpd.conf",
        &format!(
            "listen=YES\nlisten_address={}\nlisten_port={FTP_PORT}\nbackground=NO\nanonymous_enable=YES\n\
             local_enable=NO\nno_anon_password=YES\nanon_root={}\nsecure_chroot_dir=/run/vsftpd/empty\n\
             ftp_username=daemon\nconnect_from_port_20=NO\nseccomp_sandbox=NO\n",
            post.server(),
            post.shared().display()
        ),
    )?;
    let mut vsftpd = Command::new(post.program("vsftpd")?);
    vsftpd.arg(configuration);
    post.serve(vsftpd, FTP_PORT)
}

fn ftp(post: &Post<'_>) -> Result<Process> {
    let mut curl = Command::new(post.program("curl")?);
    curl.args(["-sS", "-o", "/dev/null"]);
    curl.arg(format!("ftp://{}:{FTP_PORT}/large", post.server()));
    post.start(curl)
}

fn lftp(post: &Post<'_>) -> Result<Process> {
    let get = format!(
        "set xfer:use-temp-file no; pget -n 4 ftp://{}:{FTP_PORT}/large -o {}",
        post.server(),
        post.folder().join("got").display()
    );
    let mut lftp = Command::new(post.program("lftp")?);
    lftp.arg("-c").arg(get);
    post.start(lftp)
}

fn smbd(post: &Post<'_>) -> Result<Process> {
    let folder = post.folder();
    let place = folder.display();
    let configuration = post.write(
        "smb.conf",
        &format!(
            "[global]\nsmb ports = {SMB_PORT}\nbind interfaces only = yes\ninterfaces = {}\n\
             private dir = {place}\nlock directory = {place}\nstate directory = {place}\n\
             cache directory = {place}\npid directory = {place}\nncalrpc dir = {place}/ncalrpc\n\
             log file = {place}/log\nserver role = standalone server\nmap to guest = bad user\n\
             guest account = nobody\ndisable spoolss = yes\nload printers = no\n\
             [all]\npath = {}\nguest ok = yes\nread only = yes\n",
            post.server(),
            post.shared().display()
        ),
    )?;
    let mut smbd = Command::new(post.program("smbd")?);
    smbd.args(["--foreground", "-s"]).arg(configuration);
    post.serve(smbd, SMB_PORT)
}

fn smbclient(post: &Post<'_>) -> Result<Process> {
    let mut smbclient = Command::new(post.program("smbclient")?);
    smbclient.arg(format!("//{}/all", post.server()));
    smbclient.args([
        "-p",
        &SMB_PORT.to_string(),
        "-U",
        "guest%",
        "-s",
        "/dev/null",
        "-c",
        "get large /dev/null",
    ]);
    post.start(smbclient)
}
