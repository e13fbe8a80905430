//! `chadthrottle rules edit`: the rules file in an editor, which is a line of shell here.

// clippy.toml allows this in tests, and does not see that the functions tests share are tests.
#![allow(clippy::unwrap_used)]

use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

const RULES: &str = "# mine\n[[rule]]\nname = \"a\"\nprogram = \"curl\"\nupload = \"1M\"\n";

struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    fn new() -> Self {
        let home = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        // Whoever called sudo must get to the copies.
        fs::set_permissions(home.folder.path(), Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(home.copies()).unwrap();
        fs::set_permissions(home.copies(), Permissions::from_mode(0o1777)).unwrap();
        fs::write(home.rules(), RULES).unwrap();
        fs::set_permissions(home.rules(), Permissions::from_mode(0o640)).unwrap();
        home
    }

    fn rules(&self) -> PathBuf {
        self.folder.path().join("rules.toml")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.rules()).unwrap()
    }

    fn copies(&self) -> PathBuf {
        self.folder.path().join("copies")
    }

    fn command(&self, editor: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chadthrottle"));
        command
            .args(["rules", "edit", "--config"])
            .arg(self.rules())
            .env("TMPDIR", self.copies())
            .env("EDITOR", editor)
            .env_remove("VISUAL")
            .env_remove("SUDO_UID")
            .stdin(Stdio::null());
        command
    }

    fn edit(&self, editor: &str) -> (bool, String) {
        said(&self.command(editor).output().unwrap())
    }

    /// The copies that were kept.
    fn kept(&self) -> Vec<PathBuf> {
        let folders = fs::read_dir(self.copies()).unwrap();
        let file =
            |folder: std::io::Result<fs::DirEntry>| folder.unwrap().path().join("rules.toml");
        folders.map(file).collect()
    }
}

fn said(output: &Output) -> (bool, String) {
    let said = [output.stdout.as_slice(), &output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    (output.status.success(), said)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

#[test]
fn what_is_right_takes_the_files_place() {
    let home = Home::new();
    let (done, said) = home.edit("sed -i s/1M/2M/");
    assert!(done && said.contains("rules apply"), "{said}");
    assert_eq!(home.text(), RULES.replace("1M", "2M"));
    assert_eq!(mode(&home.rules()), 0o640);
    assert_eq!(home.kept(), <[PathBuf; 0]>::default());
    // VISUAL comes first.
    let mut visual = home.command("false");
    let (done, _) = said_by(visual.env("VISUAL", "sed -i s/2M/3M/"));
    assert!(done && home.text().contains("3M"));
    fs::remove_file(home.rules()).unwrap();
    let (done, said) = home.edit("sh -c 'printf \"[[rule]]\\nname = \\\"n\\\"\\nuser = \\\"root\\\"\\nblock = true\\n\" >> \"$0\"'");
    assert!(done && home.text().contains("name = \"n\""), "{said}");
}

fn said_by(command: &mut Command) -> (bool, String) {
    said(&command.output().unwrap())
}

#[test]
fn what_is_wrong_is_kept_beside_the_file_as_it_was() {
    let home = Home::new();
    let (done, said) = home.edit("sed -i s/upload/uplaod/");
    assert!(!done);
    let kept = home.kept();
    let [kept] = kept.as_slice() else {
        panic!("{kept:?}")
    };
    assert!(
        said.contains(&format!("what you wrote is in {}", kept.display())),
        "{said}"
    );
    assert!(
        said.contains("5:1: 'uplaod' is no key of a rule; did you mean 'upload'?"),
        "{said}"
    );
    assert_eq!(home.text(), RULES);
    assert!(fs::read_to_string(kept).unwrap().contains("uplaod"));
    assert_eq!((mode(kept), mode(kept.parent().unwrap())), (0o600, 0o700));
}

#[test]
fn who_gives_up_changes_nothing() {
    let home = Home::new();
    for (editor, succeeds, message) in [
        ("true", true, "nothing has changed"),
        ("false", false, "the editor 'false' failed"),
        ("no-such-editor", false, "EDITOR=nano"),
    ] {
        let (done, said) = home.edit(editor);
        assert!(done == succeeds && said.contains(message), "{said}");
        assert_eq!(home.text(), RULES);
        assert_eq!(home.kept(), <[PathBuf; 0]>::default());
    }
}

#[test]
fn what_somebody_else_wrote_meanwhile_stays() {
    let home = Home::new();
    let other = RULES.replace("1M", "7M");
    fs::write(home.folder.path().join("other"), &other).unwrap();
    let editor = format!(
        "cp {}/other {}; sed -i s/1M/2M/",
        home.folder.path().display(),
        home.rules().display()
    );
    let (done, said) = home.edit(&editor);
    assert!(!done && said.contains("has changed meanwhile"), "{said}");
    assert_eq!(home.text(), other);
    assert!(fs::read_to_string(&home.kept()[0]).unwrap().contains("2M"));
}

#[test]
fn a_copy_that_became_another_file_is_not_read() {
    let home = Home::new();
    let secret = home.folder.path().join("secret");
    fs::write(&secret, "password = 1\n").unwrap();
    let (done, said) = home.edit(&format!("ln -sf {}", secret.display()));
    assert!(!done && !said.contains("password"), "{said}");
    assert_eq!(home.text(), RULES);
    if rustix::process::geteuid().is_root() {
        // Another user's file under the copy's name, by a hard link.
        chown(&secret, Some(4242), None).unwrap();
        let (done, said) = home.edit(&format!("ln -f {}", secret.display()));
        assert!(!done && said.contains("another file now"), "{said}");
    }
}

#[test]
fn under_sudo_the_editor_is_the_users() {
    // The first user that every Debian and Fedora has besides root.
    const USER: u32 = 1;
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let home = Home::new();
    let told = home.copies().join("told");
    let editor = format!(
        "sh -c 'id -u > {}; stat -c %u \"$0\" >> {0}; sed -i s/1M/2M/ \"$0\"'",
        told.display()
    );
    let mut command = home.command(&editor);
    command
        .env("SUDO_UID", USER.to_string())
        .env("SUDO_GID", USER.to_string());
    let (done, said) = said_by(&mut command);
    assert!(done, "{said}");
    assert_eq!(fs::read_to_string(told).unwrap(), "1\n1\n");
    assert_eq!(home.text(), RULES.replace("1M", "2M"));
    assert_eq!(fs::metadata(home.rules()).unwrap().uid(), 0);
}

#[test]
fn a_name_that_is_no_rule_opens_no_editor() {
    let home = Home::new();
    let edit = |name: &str, file: &str| {
        fs::write(home.rules(), file).unwrap();
        let mut command = home.command("touch \"$TMPDIR/opened\"; true");
        let (success, words) = said(&command.arg(name).output().unwrap());
        let opened = fs::remove_file(home.copies().join("opened")).is_ok();
        (success, opened, words)
    };
    let two = format!("{RULES}{}", RULES.replace("\"a\"", "\"backup\""));
    let (success, opened, words) = edit("bakcup", &two);
    assert!(!success && !opened, "{words}");
    assert!(words.contains("did you mean 'backup'?"), "{words}");
    let (success, opened, words) = edit("backup", &two);
    assert!(success && opened, "{words}");
    // What is not right is for the editor.
    let (_, opened, words) = edit("backup", "[[rule]]\n");
    assert!(opened, "{words}");
}
