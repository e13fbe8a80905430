//! What the kernel has loaded for a process, seen from outside.

use std::{collections::BTreeSet, fs, process::Command, thread, time::Duration};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::{
    moment::until,
    process::{Place, run},
};

/// IDs of the BPF programs that a process holds, itself or by a link.
pub fn programs_of(pid: u32) -> Result<BTreeSet<u64>> {
    Ok(descriptors_of(pid)?
        .iter()
        .filter_map(|info| program(info))
        .collect())
}

/// IDs of the BPF programs that a process holds by links of this kind.
pub fn linked_programs_of(pid: u32, kind: &str) -> Result<BTreeSet<u64>> {
    let is_kind = |line: &str| line.strip_prefix("link_type:").map(str::trim) == Some(kind);
    Ok(descriptors_of(pid)?
        .iter()
        .filter(|info| info.lines().any(is_kind))
        .filter_map(|info| program(info))
        .collect())
}

/// What the kernel tells of a process's descriptors.
fn descriptors_of(pid: u32) -> Result<Vec<String>> {
    let directory = format!("/proc/{pid}/fdinfo");
    let entries = fs::read_dir(&directory).with_context(|| format!("can't read {directory}"))?;
    // A descriptor may be closed meanwhile.
    Ok(entries
        .filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok())
        .collect())
}

fn program(info: &str) -> Option<u64> {
    id(info, "prog_id:")
}

fn id(info: &str, key: &str) -> Option<u64> {
    let id = info.lines().find_map(|line| line.strip_prefix(key))?;
    id.trim().parse().ok()
}

/// Whether bpftool is there to look.
pub fn can_list_programs() -> bool {
    Command::new("bpftool")
        .arg("version")
        .output()
        .is_ok_and(|output| output.status.success())
}

/// IDs of all loaded BPF programs.
pub fn loaded_programs() -> Result<BTreeSet<u64>> {
    let list = bpftool(&["-j", "prog", "show"])?;
    Ok(ids(&list))
}

/// IDs of all BPF programs attached to cgroups, directly or by a link. Linux 5.10 does not list
/// the latter with the cgroup.
pub fn attached_programs() -> Result<BTreeSet<u64>> {
    let tree = bpftool(&["-j", "cgroup", "tree"])?;
    let links = bpftool(&["-j", "link", "list"])?;
    let by_link = numbers(&links, "prog_id");
    Ok(entries(&tree)
        .iter()
        .flat_map(|cgroup| ids(&cgroup["programs"]))
        .chain(by_link)
        .collect())
}

/// Waits until none of these programs is loaded or attached; the kernel frees them a little after
/// their last descriptor is closed.
pub fn until_gone(programs: &BTreeSet<u64>) -> Result<()> {
    until("the BPF programs are gone", Duration::from_secs(5), || {
        Ok(
            programs.is_disjoint(&loaded_programs()?)
                && programs.is_disjoint(&attached_programs()?),
        )
    })
}

/// How many entries all hash maps of a process have.
pub fn map_entries_of(pid: u32) -> Result<usize> {
    let maps: BTreeSet<u64> = (descriptors_of(pid)?.iter())
        .filter_map(|info| id(info, "map_id:"))
        .collect();
    let mut count = 0;
    for id in maps {
        let id = id.to_string();
        let map = bpftool(&["-j", "map", "show", "id", &id])?;
        if map["type"] == "hash" {
            count += entries(&bpftool(&["-j", "map", "dump", "id", &id])?).len();
        }
    }
    Ok(count)
}

fn ids(list: &Value) -> BTreeSet<u64> {
    numbers(list, "id")
}

/// What every entry of a list has under `key`.
fn numbers(list: &Value, key: &str) -> BTreeSet<u64> {
    let numbers = entries(list).iter().map(|entry| entry[key].as_u64());
    numbers.flatten().collect()
}

fn entries(list: &Value) -> &[Value] {
    list.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn bpftool(arguments: &[&str]) -> Result<Value> {
    let mut tries = 0;
    let output = loop {
        let mut command = Command::new("bpftool");
        command.args(arguments);
        match run(command, "", Place::default()) {
            Ok(output) => break output,
            // It fails when it meets a link that is just being made (EAGAIN): one of 5,000 lists did.
            Err(_) if tries < 5 => tries += 1,
            Err(error) => return Err(error),
        }
        thread::sleep(Duration::from_millis(50));
    };
    serde_json::from_str(&output).with_context(|| format!("not JSON from bpftool: {output}"))
}
