//! Real clients, and what they themselves report.

use kernel_tests::{
    TestResult, clients, kernel_test,
    lab::Family,
    outcome::{self, expect_ratio, in_parallel},
};

fn is_there(program: &str) -> bool {
    let there = clients::is_there(program);
    if !there {
        outcome::skipped(&format!("needs {program}"));
    }
    there
}

#[test]
fn curl_reports_the_limit_as_its_speed() -> TestResult {
    kernel_test!();
    if !is_there("curl") {
        return Ok(());
    }
    in_parallel(&Family::ALL, |family| {
        let speed = clients::curl(*family)?;
        expect_ratio(&format!("{family:?}"), speed, 1e6, 0.85..=1.08)
    })
}

#[test]
fn wget_reports_the_limit_as_its_speed() -> TestResult {
    kernel_test!();
    if !is_there("wget") {
        return Ok(());
    }
    expect_ratio("wget", clients::wget(Family::V4)?, 1e6, 0.85..=1.08)
}
