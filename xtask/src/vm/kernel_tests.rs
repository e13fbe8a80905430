//! The kernel tests as one command for a machine, and what that prints.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};

use super::shell_quoted;
use crate::{
    product::{self, FromSource},
    setup,
    tally::Tally,
    test,
    workspace::Workspace,
};

/// Before what is meant for [`Report`] and not for people.
const MARK: &str = "xtask vm: ";

/// Tells what the kernel says meanwhile from what it said before.
const BEGIN: &str = "the kernel tests begin";

/// What runs unless something else is asked for: for each thing that kernels may do differently one
/// test or two, as an emulated machine takes a dozen seconds for each.
pub const SAMPLE: [&str; 20] = [
    "a_connection_handed_to_a_forked_child_is_limited",
    "a_flow_under_bbr_keeps_its_limit",
    "a_limiter_that_is_killed_leaves_nothing",
    "a_packet_sockets_traffic_is_shown",
    "a_process_in_a_container_is_limited",
    "a_process_of_50_milliseconds_is_shown",
    "a_slow_download_loses_nothing",
    "an_mptcp_client_is_limited",
    "an_upload_at_full_speed_lands",
    "connections_shorter_than_a_look_are_those_of_the_worker_that_accepted_them",
    "datagrams_on_a_socket_that_was_handed_over_are_those_of_who_sends_them",
    "doctor_finds_this_machine_fit",
    "flows_that_understand_ecn_lose_nothing",
    "fq_comes_with_a_limit_and_goes_with_it",
    "one_tcp_flow_keeps_1_25_megabytes",
    "the_queue_of_a_limited_download_stays_short",
    "udp_keeps_its_limit_up_and_down",
    "what_a_killed_limiter_left_is_taken_away",
    "what_the_kernel_sends_itself_harms_nothing",
    "windows_of_a_killed_limiter_are_let_go",
];

/// What needs systemd.
pub const OF_SYSTEMD: &str = "the_unit_limits_a_unit_under_systemd";

/// Builds the tests and the program. Gives a command that runs them all, whatever fails, and the
/// names of the parts that it tells the end of.
///
/// # Errors
///
/// Something does not build, a program that the tests start is missing, or no test has such a name.
pub fn command(workspace: &Workspace, filters: &[String]) -> Result<(String, Vec<String>)> {
    setup::test_tools(setup::Mode::Install)?;
    let programs = test::programs(workspace)?;
    product::build(workspace, true, FromSource::IfNeeded)?;
    let directory = shell_quoted(&workspace.root.join("kernel-tests"))?;
    let mut command = format!(
        "echo '{BEGIN}' >/dev/kmsg\ncd {directory}\n\"$CHADTHROTTLE_BIN\" doctor\n{}",
        ended("doctor")
    );
    let mut parts = vec!["doctor".to_owned()];
    for program in programs.iter().filter(|program| program.needs_root) {
        if program.tests(filters)?.is_empty() {
            continue;
        }
        command += &format!("echo\necho {}\n", program.name);
        command += &shell_quoted(&program.path)?;
        // Transfers are measured: one must not take the other's share of the machine.
        command += " --test-threads=1";
        for filter in program.filters(filters) {
            command += &format!(" {}", shell_quoted(filter.as_ref())?);
        }
        command += &format!("\n{}", ended(&program.name));
        parts.push(program.name.clone());
    }
    for filter in filters {
        // A renamed test must not silently drop out of what is run.
        let one = std::slice::from_ref(filter);
        let met = (programs.iter().filter(|program| program.needs_root))
            .map(|program| program.tests(one));
        let met = met.collect::<Result<Vec<_>>>()?;
        ensure!(
            met.iter().any(|tests| !tests.is_empty()),
            "no kernel test has {filter} in its name"
        );
    }
    // A busy host makes CPUs of a machine stand still, which is no fault.
    command += &format!(
        "dmesg | sed '1,/{BEGIN}/d' | grep -E 'BUG:|WARNING:|Oops|general protection' | \
         grep -v 'soft lockup' | sed 's/^/{MARK}kernel /'\ntrue\n"
    );
    Ok((command, parts))
}

/// Tells how the command before this ended.
fn ended(part: &str) -> String {
    format!("echo \"{MARK}ended {part} $?\"\n")
}

/// Passes on whole lines, and counts what they say.
pub struct Report<'a> {
    tally: &'a mut Tally,
    /// Not yet whole.
    line: Vec<u8>,
    ended: BTreeSet<String>,
}

impl<'a> Report<'a> {
    pub fn new(tally: &'a mut Tally) -> Self {
        Self {
            tally,
            line: Vec::new(),
            ended: BTreeSet::new(),
        }
    }

    /// Takes what the machine printed.
    pub fn take(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                b'\n' => self.end_line(),
                _ => self.line.push(*byte),
            }
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        // What does not end its line shares it.
        let Some((before, marked)) = line.split_once(MARK) else {
            println!("{line}");
            self.tally.line(&line);
            return;
        };
        if !before.is_empty() {
            println!("{before}");
            self.tally.line(before);
        }
        if let Some(words) = marked.strip_prefix("kernel ") {
            self.tally.fail(&format!("the kernel says: {words}"));
        } else if let Some((part, code)) =
            (marked.strip_prefix("ended ")).and_then(|words| words.rsplit_once(' '))
        {
            self.tally
                .ended(&format!("{part}: exit code {code}"), code == "0");
            self.ended.insert(part.to_owned());
        }
    }

    /// Takes the end of the machine: parts that did not get to their end have failed.
    pub fn finish(mut self, parts: &[String]) {
        if !self.line.is_empty() {
            self.end_line();
        }
        for part in parts.iter().filter(|part| !self.ended.contains(*part)) {
            self.tally
                .ended(&format!("{part}: did not get to its end"), false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(output: &str) -> Tally {
        let mut tally = Tally::default();
        let mut report = Report::new(&mut tally);
        // As it comes: in pieces that are no lines.
        for piece in output.as_bytes().chunks(7) {
            report.take(piece);
        }
        report.finish(&["doctor".to_owned(), "one".to_owned()]);
        tally
    }

    #[test]
    fn what_a_machine_prints_is_counted() {
        let result = "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured";
        for (output, summary) in [
            (
                format!("ok\n{MARK}ended doctor 0\n{result}\n{MARK}ended one 0\n"),
                "2 passed, 0 failed, 0 skipped",
            ),
            (
                format!("no fq{MARK}ended doctor 1\n{result}\n{MARK}ended one 0"),
                "failed  doctor: exit code 1\n2 passed, 1 failed, 0 skipped",
            ),
            (
                format!("{MARK}ended doctor 0\nrunning 2 tests\ntest a ... "),
                "failed  one: did not get to its end\n0 passed, 1 failed, 0 skipped",
            ),
            (
                format!(
                    "{MARK}ended doctor 0\n{result}\n{MARK}ended one 0\n\
                     {MARK}kernel [ 1.0] WARNING: CPU: 0\n"
                ),
                "failed  the kernel says: [ 1.0] WARNING: CPU: 0\n2 passed, 1 failed, 0 skipped",
            ),
        ] {
            assert_eq!(tally(&output).to_string(), summary, "{output}");
        }
    }
}
