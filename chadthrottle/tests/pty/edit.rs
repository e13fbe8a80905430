//! `chadthrottle rules edit`, and what it asks.

use std::process::Command;

use anyhow::Result;
use pty_session::{Session, Size};

use crate::PROGRAM;

#[test]
fn a_broken_edit_of_the_rules_is_offered_again() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules.toml");
    let right = "[[rule]]\nname = \"a\"\nuser = \"root\"\nupload = \"1M\"\n";
    std::fs::write(&rules, right).unwrap();
    let edit = |editor: &str| {
        let mut command = Command::new(PROGRAM);
        command.args(["rules", "edit", "--config"]).arg(&rules);
        command.env("VISUAL", editor).env("TMPDIR", folder.path());
        command.env_remove("SUDO_UID");
        Session::start(command, Size::USUAL)
    };
    let contents = || std::fs::read_to_string(&rules).unwrap();
    // The first time it makes a mistake, the second time none.
    let mut session = edit("sed -i 's/uplaod/upload/;t;s/upload = .1M/uplaod = \"2M/'")?;
    session.wait_for_text("did you mean 'upload'?")?;
    session.wait_for_text("Edit it again? [Y/n]")?;
    assert_eq!(contents(), right);
    session.type_in("\n")?;
    session.wait_for_text("rules apply")?;
    assert!(session.end()?.success());
    assert_eq!(contents(), right.replace("1M", "2M"));
    // Ctrl-C is the editor's; then the answer is no.
    let script = "trap \"echo x >> $1; exit 0\" INT; echo ready; while :; do sleep 0.1; done";
    let mut session = edit(&format!("sh -c '{script}' sh"))?;
    session.wait_for_text("ready")?;
    session.type_in("\x03")?;
    session.wait_for_text("Edit it again? [Y/n]")?;
    session.type_in("n\n")?;
    session.wait_for_text("what you wrote is in")?;
    assert_eq!(session.end()?.code(), Some(1));
    assert_eq!(contents(), right.replace("1M", "2M"));
    Ok(())
}
