//! The first file system of a VM: busybox, a script, and the modules it takes to reach the rest.

use std::{
    collections::HashMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::kernels::Unpacked;
use crate::setup;

/// What the script needs before the kernel can load modules by itself, and what must be there for
/// it to go well: the host's files, and a way to print.
const MODULES: [&str; 5] = [
    "virtio_pci",
    "virtio_console",
    "9pnet_virtio",
    "9p",
    "overlay",
];

/// Runs as the first program.
const INIT: &str = include_str!("init.sh");

/// Makes the archive, unless it is there from before.
///
/// # Errors
///
/// The kernel lacks a module, or something can't be written.
pub fn provide(kernel: &Unpacked) -> Result<()> {
    let archive = kernel.initramfs();
    let modules = Modules::read(&kernel.modules())?.in_order(&MODULES)?;
    let busybox = busybox()?;
    let fingerprint = format!(
        "{}\n{INIT}\n{modules:?}\n{busybox:?} {:?}\n",
        kernel.release,
        fs::metadata(&busybox).and_then(|file| file.modified()).ok()
    );
    let made_of = kernel.directory.join("initramfs.made-of");
    if archive.exists() && fs::read_to_string(&made_of).is_ok_and(|old| old == fingerprint) {
        return Ok(());
    }
    let tree = kernel.directory.join("initramfs");
    let _leftover = fs::remove_dir_all(&tree);
    fill(&tree, &modules, &busybox).with_context(|| format!("cannot fill {}", tree.display()))?;
    pack(&tree, &archive)?;
    fs::remove_dir_all(&tree).with_context(|| format!("cannot remove {}", tree.display()))?;
    fs::write(&made_of, fingerprint).with_context(|| format!("cannot write {}", made_of.display()))
}

/// One that runs where there are no libraries.
fn busybox() -> Result<PathBuf> {
    use object::read::elf::{ElfFile64, ProgramHeader as _};
    let path = setup::program("busybox")?;
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let elf: ElfFile64 = ElfFile64::parse(bytes.as_slice())
        .with_context(|| format!("{} is no 64-bit program", path.display()))?;
    let linked = (elf.elf_program_headers().iter())
        .any(|header| header.p_type(elf.endian()) == object::elf::PT_INTERP);
    ensure!(
        !linked,
        "{} needs libraries: install busybox-static",
        path.display()
    );
    Ok(path)
}

fn fill(tree: &Path, modules: &[PathBuf], busybox: &Path) -> Result<()> {
    for directory in [
        "bin", "modules", "proc", "sys", "dev", "host", "memory", "root",
    ] {
        fs::create_dir_all(tree.join(directory))?;
    }
    fs::copy(busybox, tree.join("bin/busybox"))?;
    let mut order = String::new();
    for (number, module) in modules.iter().enumerate() {
        let name = format!("{number}.ko");
        fs::write(tree.join("modules").join(&name), plain(module)?)?;
        order += &format!("{name}\n");
    }
    fs::write(tree.join("modules/order"), order)?;
    let init = tree.join("init");
    fs::write(&init, INIT)?;
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// A module's bytes; many kernels have them compressed.
fn plain(module: &Path) -> Result<Vec<u8>> {
    let unpack = match module.extension().and_then(|extension| extension.to_str()) {
        Some("ko") => return fs::read(module).context("cannot read a module"),
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => bail!("{} is packed in a way unknown here", module.display()),
    };
    let mut command = Command::new(setup::program(unpack)?);
    let output = command
        .args(["--decompress", "--stdout"])
        .arg(module)
        .output()
        .with_context(|| format!("cannot start {unpack}"))?;
    ensure!(
        output.status.success(),
        "{unpack} cannot unpack {}",
        module.display()
    );
    Ok(output.stdout)
}

fn pack(tree: &Path, archive: &Path) -> Result<()> {
    let mut names = Vec::new();
    list(tree, Path::new(""), &mut names)?;
    let out =
        fs::File::create(archive).with_context(|| format!("cannot write {}", archive.display()))?;
    let mut cpio = Command::new(setup::program("cpio")?)
        .args(["--create", "--format=newc", "--owner=0:0", "--quiet"])
        .current_dir(tree)
        .stdin(Stdio::piped())
        .stdout(out)
        .spawn()
        .context("cannot start cpio")?;
    let mut stdin = cpio.stdin.take().context("a pipe was asked for")?;
    for name in names {
        writeln!(stdin, "{}", name.display()).context("cannot tell cpio a name")?;
    }
    drop(stdin);
    let status = cpio.wait().context("cannot wait for cpio")?;
    ensure!(status.success(), "cpio failed ({status})");
    Ok(())
}

/// Directories before what is in them.
fn list(tree: &Path, below: &Path, names: &mut Vec<PathBuf>) -> Result<()> {
    let directory = tree.join(below);
    let entries =
        fs::read_dir(&directory).with_context(|| format!("cannot list {}", directory.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list {}", directory.display()))?;
        let name = below.join(entry.file_name());
        names.push(name.clone());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            list(tree, &name, names)?;
        }
    }
    Ok(())
}

/// A kernel's modules and what each of them needs.
#[derive(Debug, Default)]
struct Modules {
    directory: PathBuf,
    /// By name: the file, and the files it needs.
    files: HashMap<String, (PathBuf, Vec<PathBuf>)>,
    builtin: Vec<String>,
}

impl Modules {
    fn read(directory: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = directory.join(name);
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
        };
        Ok(Self::parse(
            directory,
            &read("modules.dep")?,
            &read("modules.builtin")?,
        ))
    }

    fn parse(directory: &Path, dependencies: &str, builtin: &str) -> Self {
        let files = dependencies.lines().filter_map(|line| {
            let (file, needs) = line.split_once(':')?;
            let needs = needs.split_whitespace().map(PathBuf::from).collect();
            Some((name(Path::new(file)), (PathBuf::from(file), needs)))
        });
        Self {
            directory: directory.to_owned(),
            files: files.collect(),
            builtin: builtin.lines().map(|line| name(Path::new(line))).collect(),
        }
    }

    /// The files of these modules and of all they need, in an order in which they can be loaded.
    fn in_order(&self, wanted: &[&str]) -> Result<Vec<PathBuf>> {
        let mut order = Vec::new();
        for wanted in wanted {
            if self.builtin.iter().any(|name| name == wanted) {
                continue;
            }
            let (file, needs) = (self.files.get(*wanted))
                .with_context(|| format!("the kernel has no module {wanted}"))?;
            // depmod lists all that is needed, the deepest last.
            for file in needs.iter().rev().chain([file]) {
                let path = self.directory.join(file);
                if !order.contains(&path) {
                    order.push(path);
                }
            }
        }
        Ok(order)
    }
}

/// Files have dashes where modules have underscores, or not.
fn name(file: &Path) -> String {
    let file = file.file_name().unwrap_or_default().to_string_lossy();
    let name = file.split_once(".ko").map_or(&*file, |(name, _)| name);
    name.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_come_after_what_they_need_and_once() -> Result<()> {
        let modules = Modules::parse(
            Path::new("/m"),
            "fs/9p.ko.xz: fs/netfs.ko.xz net/9pnet.ko.xz\n\
             net/9pnet.ko.xz:\nfs/netfs.ko.xz:\n\
             net/9pnet-virtio.ko.xz: net/9pnet.ko.xz drivers/ring.ko.xz drivers/virtio.ko.xz\n",
            "kernel/fs/overlay.ko\n",
        );
        let order = modules.in_order(&["9pnet_virtio", "9p", "overlay"])?;
        let expected = [
            "drivers/virtio.ko.xz",
            "drivers/ring.ko.xz",
            "net/9pnet.ko.xz",
            "net/9pnet-virtio.ko.xz",
            "fs/netfs.ko.xz",
            "fs/9p.ko.xz",
        ]
        .map(|file| Path::new("/m").join(file));
        assert_eq!(order, expected);
        assert!(modules.in_order(&["nonesuch"]).is_err());
        Ok(())
    }
}
