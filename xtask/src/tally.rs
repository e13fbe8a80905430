//! Reads what test programs print, and sums it up.

use std::fmt;

/// Results of all test programs so far.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tally {
    passed: usize,
    failed: Vec<String>,
    skipped: Vec<Skip>,
    current: Current,
    /// How many had failed when the current program started.
    failed_before: usize,
}

#[derive(Debug, PartialEq, Eq)]
struct Skip {
    name: String,
    reason: String,
}

/// What the test program that prints now has said.
#[derive(Debug, Default, PartialEq, Eq)]
struct Current {
    /// Between `failures:` and the result; libtest prints the heading twice, the list of names
    /// comes last.
    in_failures: bool,
    failures: Vec<String>,
    /// Skips that libtest counts as passed.
    skips: usize,
}

impl Tally {
    /// Takes a line that a test program printed.
    pub fn line(&mut self, line: &str) {
        // With one thread libtest writes `test name ... ` first and the test's own words follow.
        if let Some((_, skip)) = line.split_once("SKIPPED: ") {
            let (name, reason) = skip.split_once(": ").unwrap_or((skip, "no reason given"));
            self.skip(name, reason);
            self.current.skips += 1;
        } else if let Some(result) = line.strip_prefix("test result: ") {
            self.finish(result);
        } else if line == "failures:" {
            self.current.in_failures = true;
            self.current.failures.clear();
        } else if let (true, Some(name)) = (self.current.in_failures, line.strip_prefix("    ")) {
            self.current.failures.push(name.to_owned());
        } else if let Some((name, reason)) = ignored(line) {
            self.skip(name, reason);
        }
    }

    fn finish(&mut self, result: &str) {
        let current = std::mem::take(&mut self.current);
        self.passed += count(result, "passed").saturating_sub(current.skips);
        let failed = count(result, "failed");
        self.failed
            .extend(current.failures.into_iter().take(failed));
    }

    /// Takes the end of a test program, or of a cargo that ran several: one that fails without
    /// naming a test (killed, never built) is a failure itself.
    pub fn ended(&mut self, program: &str, success: bool) {
        self.current = Current::default();
        if !success && self.failed.len() == self.failed_before {
            self.fail(program);
        }
        self.failed_before = self.failed.len();
    }

    /// Counts a failure that no test program reports.
    pub fn fail(&mut self, what: &str) {
        self.failed.push(what.to_owned());
    }

    /// Counts a test that did not run.
    pub fn skip(&mut self, name: &str, reason: &str) {
        self.skipped.push(Skip {
            name: name.trim().to_owned(),
            reason: reason.trim().to_owned(),
        });
    }

    /// Adds the results of tests that ran elsewhere, naming the place.
    pub fn absorb(&mut self, place: &str, other: Self) {
        self.passed += other.passed;
        self.failed
            .extend(other.failed.iter().map(|name| format!("{place}: {name}")));
        for skip in other.skipped {
            self.skip(&format!("{place}: {}", skip.name), &skip.reason);
        }
        self.failed_before = self.failed.len();
    }

    /// The numbers alone.
    #[must_use]
    pub fn counts(&self) -> String {
        format!(
            "{} passed, {} failed, {} skipped",
            self.passed,
            self.failed.len(),
            self.skipped.len()
        )
    }

    /// Whether no test was met at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.passed == 0 && self.failed.is_empty() && self.skipped.is_empty()
    }

    /// Whether nothing failed.
    #[must_use]
    pub fn success(&self) -> bool {
        self.failed.is_empty()
    }
}

fn ignored(line: &str) -> Option<(&str, &str)> {
    let (name, rest) = line.strip_prefix("test ")?.split_once(" ... ignored")?;
    let reason = rest.trim_start_matches(", ");
    Some((name, if reason.is_empty() { "ignored" } else { reason }))
}

/// The number before a word, as in `ok. 5 passed; 0 failed;`.
fn count(result: &str, word: &str) -> usize {
    let words: Vec<_> = result.split([' ', ';']).collect();
    let number = words.windows(2).find(|pair| pair[1] == word);
    number.and_then(|pair| pair[0].parse().ok()).unwrap_or(0)
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for skip in &self.skipped {
            writeln!(f, "skipped {}: {}", skip.name, skip.reason)?;
        }
        for name in &self.failed {
            writeln!(f, "failed  {name}")?;
        }
        f.write_str(&self.counts())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(output: &str, success: bool) -> Tally {
        let mut tally = Tally::default();
        output.lines().for_each(|line| tally.line(line));
        tally.ended("the program", success);
        tally
    }

    #[test]
    fn every_kind_of_outcome_is_counted_once() {
        let all_well = "running 2 tests\ntest a ... ok\ntest b ... ok\n\n\
            test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out\n";
        let failures = "test a ... ok\ntest b ... FIGURE: b: 3\nFAILED\n\nfailures:\n\n\
            ---- b stdout ----\n    indented words of the test\n\n\nfailures:\n    b\n\n\
            test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out\n";
        let skips = "test a ... SKIPPED: a: no sch_fq: policing only\nok\n\
            SKIPPED: b: no reason known\ntest b ... ok\ntest c ... ok\n\
            test d ... ignored, too slow\ntest e ... ignored\n\n\
            test result: ok. 3 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out\n";
        let summary_of_skips = "skipped a: no sch_fq: policing only\nskipped b: no reason known\n\
            skipped d: too slow\nskipped e: ignored\n1 passed, 0 failed, 4 skipped";
        for (output, success, summary) in [
            (all_well, true, "2 passed, 0 failed, 0 skipped"),
            (failures, false, "failed  b\n1 passed, 1 failed, 0 skipped"),
            (skips, true, summary_of_skips),
            ("", true, "0 passed, 0 failed, 0 skipped"),
            // Killed in the middle, or never built.
            (
                "test a ... ok\n",
                false,
                "failed  the program\n0 passed, 1 failed, 0 skipped",
            ),
        ] {
            assert_eq!(tally(output, success).to_string(), summary, "{output}");
            assert_eq!(tally(output, success).success(), success, "{output}");
        }
    }

    #[test]
    fn places_add_up_by_name() {
        let mut all = Tally::default();
        let result = "SKIPPED: a: no sch_fq\nfailures:\n    b\n\n\
            test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured\n";
        all.absorb("5.10", tally(result, false));
        all.absorb("6.1", Tally::default());
        all.ended("what comes after", false);
        assert_eq!(
            all.to_string(),
            "skipped 5.10: a: no sch_fq\nfailed  5.10: b\nfailed  what comes after\n\
             2 passed, 2 failed, 1 skipped"
        );
    }

    #[test]
    fn programs_add_up() {
        let mut all = tally(
            "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured\n",
            true,
        );
        all.line("test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured");
        all.ended("the second", true);
        all.skip("c", "needs root");
        assert_eq!(
            all.to_string(),
            "skipped c: needs root\n7 passed, 0 failed, 1 skipped"
        );
    }
}
