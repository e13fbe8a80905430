//! Real clients, and what they themselves report.

use kernel_tests::{
    TestResult, clients, kernel_test,
    lab::Family,
    outcome::{expect_ratio, in_parallel},
};

#[test]
fn curl_reports_the_limit_as_its_speed() -> TestResult {
    kernel_test!();
    if clients::is_missing("curl") {
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
    if clients::is_missing("wget") {
        return Ok(());
    }
    expect_ratio("wget", clients::wget(Family::V4)?, 1e6, 0.85..=1.08)
}
