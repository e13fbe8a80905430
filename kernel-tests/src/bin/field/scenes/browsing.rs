//! A browser.

use std::process::Command;

use anyhow::Result;
use kernel_tests::process::Process;

use super::{CLIENT, Scene, web};
use crate::stage::Post;

pub fn scenes() -> Vec<Scene> {
    vec![Scene {
        name: "Chromium",
        needs: &["chromium", "nginx"],
        carrier: "chromium",
        command: "*chromium*",
        server: page,
        client: chromium,
        ..CLIENT
    }]
}

const PAGE: &str = "<!doctype html><script>
(async () => {
    const reader = (await fetch('/large')).body.getReader();
    while (!(await reader.read()).done);
})();
</script>";

fn page(post: &Post<'_>) -> Result<Process> {
    std::fs::write(post.shared().join("page.html"), PAGE)?;
    web::other_nginx(post)
}

fn chromium(post: &Post<'_>) -> Result<Process> {
    let mut chromium = Command::new(post.program("chromium")?);
    chromium.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--no-proxy-server",
    ]);
    chromium.args(["--disable-dev-shm-usage", "--remote-debugging-port=9222"]);
    chromium.arg(format!(
        "--user-data-dir={}",
        post.folder().join("profile").display()
    ));
    chromium.arg(format!("http://{}:{}/page.html", post.server(), web::PORT));
    chromium.env("TMPDIR", post.folder());
    post.start(chromium)
}
