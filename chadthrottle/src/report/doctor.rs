//! `chadthrottle doctor`: is everything here that is needed?

use std::os::fd::AsFd as _;

use anyhow::Context as _;
use chadthrottle_common::traffic::{Direction, LOOPBACK};
use serde::Serialize;

use crate::{
    kernel::{
        self,
        features::{self, Inside, KernelVersion},
        object,
    },
    pacing::{self, leftovers, leftovers::Leftovers},
};

/// How a thing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// As it should be.
    Ok,
    /// Works, but less well.
    Degraded,
    /// Does not work without it.
    Missing,
}

/// One thing that was looked at.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub what: &'static str,
    /// How it stands.
    pub standing: Standing,
    /// What was found.
    pub found: String,
    /// What to do about it; nothing when it is well.
    pub advice: Option<String>,
}

fn ok(what: &'static str, found: impl Into<String>) -> Finding {
    Finding {
        what,
        standing: Standing::Ok,
        found: found.into(),
        advice: None,
    }
}

fn lacking(
    what: &'static str,
    standing: Standing,
    found: impl Into<String>,
    advice: impl Into<String>,
) -> Finding {
    Finding {
        what,
        standing,
        found: found.into(),
        advice: Some(advice.into()),
    }
}

/// Looks at everything.
pub fn examine() -> Vec<Finding> {
    let mut findings = vec![
        kernel_version(&features::kernel_release()),
        cgroup_v2(),
        capabilities(),
        process_ids(),
        ptrace_scope(std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").ok()),
    ];
    findings.extend(program_types());
    findings.push(sch_fq());
    findings.push(left_over(leftovers::look()));
    findings.push(ok(
        "embedded object",
        format!("{} ({})", object::FINGERPRINT, object::ORIGIN),
    ));
    findings.extend(loading());
    findings
}

fn kernel_version(release: &str) -> Finding {
    let what = "kernel version";
    match KernelVersion::parse(release) {
        Some(version) if version < KernelVersion::OLDEST => lacking(
            what,
            Standing::Missing,
            release,
            format!("use Linux {} or newer", KernelVersion::OLDEST),
        ),
        Some(_) => ok(what, release),
        None => lacking(
            what,
            Standing::Degraded,
            release,
            "this release can't be read as a number; chadthrottle tries all the same",
        ),
    }
}

fn cgroup_v2() -> Finding {
    let what = "cgroup v2 mount";
    match kernel::cgroup_root() {
        // A mount of its own has no place that others could look at.
        Ok(root) if root.starts_with("/proc") => ok(what, "not here: mounted for this run alone"),
        Ok(root) => ok(what, root.display().to_string()),
        Err(error) => lacking(
            what,
            Standing::Missing,
            format!("{error:#}"),
            "mount -t cgroup2 none /sys/fs/cgroup/unified",
        ),
    }
}

fn capabilities() -> Finding {
    let what = "capabilities";
    let missing = features::missing_capabilities();
    if missing.is_empty() {
        return ok(what, features::CAPABILITIES.map(|c| c.name).join(", "));
    }
    let words: Vec<String> = missing
        .iter()
        .map(|capability| format!("{} ({})", capability.name, capability.needed_for))
        .collect();
    lacking(
        what,
        Standing::Missing,
        format!("without {}", words.join(", ")),
        "run it with sudo",
    )
}

fn process_ids() -> Finding {
    let what = "process ids";
    if features::in_initial_pid_namespace() {
        ok(what, "those of the host")
    } else {
        lacking(
            what,
            Standing::Missing,
            "a PID namespace of its own",
            Inside::here().to_string(),
        )
    }
}

fn ptrace_scope(setting: Option<String>) -> Finding {
    let what = "sockets of running processes";
    match setting.as_deref().map(str::trim) {
        Some("3") => lacking(
            what,
            Standing::Degraded,
            "kernel.yama.ptrace_scope is 3",
            "sockets older than chadthrottle stay unknown; the setting can only be changed by a \
             reboot with kernel.yama.ptrace_scope below 3",
        ),
        Some(scope) => ok(what, format!("kernel.yama.ptrace_scope is {scope}")),
        None => ok(what, "no Yama"),
    }
}

fn program_types() -> Vec<Finding> {
    kernel::probe::programs_and_maps()
        .into_iter()
        .map(|(what, supported)| match supported {
            Ok(true) => ok(what, "supported"),
            Ok(false) => lacking(
                what,
                Standing::Missing,
                "not supported by this kernel",
                "use a kernel with CONFIG_BPF_SYSCALL and CONFIG_CGROUP_BPF",
            ),
            // Not known is not missing; what makes it unknown is said elsewhere.
            Err(error) => lacking(
                what,
                Standing::Degraded,
                format!("can't be told: {error:#}"),
                "run it with sudo",
            ),
        })
        .collect()
}

/// Whether the kernel has the fq packet scheduler.
fn sch_fq() -> Finding {
    let what = "sch_fq";
    match pacing::fq_in_kernel() {
        Some(how) => ok(what, format!("{how}: limits are paced")),
        None => lacking(
            what,
            Standing::Degraded,
            "not found",
            "limits are enforced by policing, which drops packets; a kernel with CONFIG_NET_SCH_FQ \
             allows pacing, which does not",
        ),
    }
}

fn left_over(found: Leftovers) -> Finding {
    let what = "left by a killed run";
    match found {
        Leftovers::None => ok(what, "nothing"),
        Leftovers::On(found) => lacking(
            what,
            Standing::Degraded,
            found.join(", "),
            "`chadthrottle doctor --fix` takes that away, as the next start does",
        ),
        Leftovers::Unknown(why) => lacking(
            what,
            Standing::Degraded,
            format!("can't be told: {why}"),
            "run it with sudo",
        ),
    }
}

/// The proof of the pudding: load and attach everything, and take it away again.
fn loading() -> Vec<Finding> {
    let what = "loading and attaching";
    match features::check().map_err(anyhow::Error::from) {
        Ok(()) => match kernel::Kernel::load() {
            Ok((mut kernel, _)) => vec![
                ok(what, "all programs load and attach"),
                trees(&mut kernel),
                accepting(&kernel),
                sending(&kernel),
                windows(kernel),
            ],
            Err(error) => vec![lacking(
                what,
                Standing::Missing,
                format!("{error:#}"),
                "docs/troubleshooting.md; RUST_LOG=debug shows each step",
            )],
        },
        Err(error) => vec![lacking(
            what,
            Standing::Missing,
            "not tried",
            format!("{error:#}"),
        )],
    }
}

/// What the kernel tells by itself, and `how`; where it does not, why, and what that means.
fn seen(what: &'static str, how: &str, why_not: Option<&str>, otherwise: &str) -> Finding {
    match why_not {
        None => ok(what, how),
        Some(why) => lacking(what, Standing::Degraded, why, otherwise),
    }
}

/// Whether a limited tree's children are known from their first moment.
fn trees(kernel: &mut kernel::Kernel) -> Finding {
    let what = "children of limited trees";
    kernel.follow_forks(true);
    seen(
        what,
        "seen when they are forked",
        kernel.why_forks_are_not_seen(),
        "they are looked for ten times a second; a kernel with CONFIG_DEBUG_INFO_BTF tells of \
             each at once",
    )
}

/// Whether a connection is its process's from the moment that it accepts it.
fn accepting(kernel: &kernel::Kernel) -> Finding {
    let what = "who accepts a connection";
    seen(
        what,
        "seen as it happens",
        kernel.why_accepting_is_not_seen(),
        "a worker's connections are found after about a second, shorter ones count for the parent; \
             Linux 5.11 with CONFIG_DEBUG_INFO_BTF tells of each at once, where it allows tracing \
             programs",
    )
}

/// Whether a datagram is of the process that sends it.
fn sending(kernel: &kernel::Kernel) -> Finding {
    let what = "who sends a datagram";
    seen(
        what,
        "seen as it happens",
        kernel.why_sending_is_not_seen(),
        "a datagram counts for the process that made its socket, for as long as that holds it",
    )
}

/// Whether limits use windows.
fn windows(mut kernel: kernel::Kernel) -> Finding {
    let what = "windows of limited connections";
    let windows = [&kernel.windows.download, &kernel.windows.upload];
    if let Some(Err(why)) = windows.into_iter().find(|windows| windows.is_err()) {
        return lacking(
            what,
            Standing::Degraded,
            why.to_string(),
            "connections lose a packet now and then, by which senders learn of the limit; \
             a kernel with CONFIG_DEBUG_INFO_BTF spares them that",
        );
    }
    // The loopback device is always there.
    let link = std::fs::File::open("/proc/self/ns/net")
        .map_err(anyhow::Error::from)
        .and_then(|namespace| {
            kernel.see_to_windows_at(Direction::Download, namespace.as_fd(), LOOPBACK)
        });
    match link {
        Ok(_) => ok(what, "by tcx links"),
        Err(_) => ok(
            what,
            "by filters of clsact, as there are no tcx links before Linux 6.6",
        ),
    }
}

/// Prints the findings; returns whether nothing is missing. `fix` first takes away what a killed
/// run left.
///
/// # Errors
///
/// Standard output's, and what could not be taken away.
pub fn run(json: bool, fix: bool) -> anyhow::Result<bool> {
    if fix {
        leftovers::fix().context("what a killed run left is not taken away")?;
    }
    let findings = examine();
    if json {
        super::json_line(&findings)?;
    } else {
        for finding in &findings {
            let standing = match finding.standing {
                Standing::Ok => "ok",
                Standing::Degraded => "degraded",
                Standing::Missing => "MISSING",
            };
            super::line(&format!(
                "{standing:<9} {}: {}",
                finding.what, finding.found
            ))?;
            if let Some(advice) = &finding.advice {
                super::line(&format!("{:<9}   -> {advice}", ""))?;
            }
        }
    }
    Ok(findings
        .iter()
        .all(|finding| finding.standing != Standing::Missing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_old_new_and_strange() {
        for (release, standing) in [
            ("5.4.0", Standing::Missing),
            ("5.10.0-28-amd64", Standing::Ok),
            ("7.2.1", Standing::Ok),
            ("custom", Standing::Degraded),
        ] {
            assert_eq!(kernel_version(release).standing, standing, "{release}");
        }
    }

    #[test]
    fn what_a_killed_run_left_is_named() {
        let finding = left_over(Leftovers::On(vec![
            "fq on device 2".into(),
            "a filter on device 3".into(),
        ]));
        assert_eq!(finding.standing, Standing::Degraded);
        assert!(
            finding
                .found
                .contains("fq on device 2, a filter on device 3")
        );
        assert!(finding.advice.unwrap().contains("doctor --fix"));
        assert_eq!(left_over(Leftovers::None).standing, Standing::Ok);
    }

    #[test]
    fn yama_that_forbids_all_tracing_is_named() {
        assert_eq!(
            ptrace_scope(Some("3\n".into())).standing,
            Standing::Degraded
        );
        assert_eq!(ptrace_scope(Some("1\n".into())).standing, Standing::Ok);
        assert_eq!(ptrace_scope(None).standing, Standing::Ok);
    }
}
