//! Removes what was built.

use anyhow::{Result, ensure};

use crate::workspace::{Workspace, succeed};

/// Removes the target directory and nothing else.
///
/// # Errors
///
/// Some of it can't be removed, such as files that root made.
pub fn run() -> Result<()> {
    let workspace = Workspace::find()?;
    println!("Removing {}", workspace.target.display());
    succeed(&mut workspace.cargo(&["clean"]))?;
    ensure!(
        !workspace.target.exists(),
        "something in {} is still there: remove it by hand",
        workspace.target.display()
    );
    Ok(())
}
