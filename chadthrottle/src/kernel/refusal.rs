//! Why the kernel refused a program, in a line.

use aya::programs::ProgramError;

/// The reason that the kernel gave. What else its verifier said is written to the log, for
/// `RUST_LOG=debug`: it may be thousands of lines.
pub(super) fn why(error: ProgramError) -> anyhow::Error {
    let ProgramError::LoadError {
        io_error,
        verifier_log,
    } = error
    else {
        return error.into();
    };
    let log = verifier_log.to_string();
    let reason = match reason(&log) {
        Some(line) => format!("the verifier says: {line}"),
        // It was refused before anything was verified.
        None => "the kernel does not allow it".to_owned(),
    };
    log::debug!("a program was refused: {io_error}\n{log}");
    anyhow::Error::from(io_error).context(reason)
}

/// The line of the verifier's output that says what it did not like: its last but for what it says
/// of its own work, in `bpf_check` and `print_verification_stats` of the kernel's `verifier.c`.
fn reason(log: &str) -> Option<&str> {
    const OF_ITS_WORK: [&str; 3] = ["verification time", "stack depth", "processed "];
    log.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .rfind(|line| !OF_ITS_WORK.iter().any(|start| line.starts_with(start)))
}

#[cfg(test)]
mod tests {
    use super::reason;

    #[test]
    fn the_reason_stands_before_what_the_verifier_says_of_its_work() {
        let log = "22: (bf) r2 = r6\n24: (85) call bpf_sk_storage_get#107\n\
                   unknown func bpf_sk_storage_get#107\nverification time 10087 usec\n\
                   stack depth 120+0\nprocessed 23 insns (limit 1000000) max_states_per_insn 0\n";
        assert_eq!(reason(log), Some("unknown func bpf_sk_storage_get#107"));
        assert_eq!(reason(""), None);
        assert_eq!(reason("processed 0 insns\n"), None);
    }
}
