//! Takes the debug sections out of a built object, and nothing that loading it needs.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use object::{
    File, Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SectionKind,
    build::elf::{Builder, SectionData},
    elf::SHT_STRTAB,
};

/// The object without `.debug_*`, which the linker needed to make BTF and no one needs later.
///
/// # Errors
///
/// The object cannot be parsed, or something of it that is not debug information would be lost.
pub fn debug_sections(built: &[u8]) -> Result<Vec<u8>> {
    let mut builder = Builder::read(built).context("the linker's output is not an ELF file")?;
    for section in &mut builder.sections {
        let name = section.name.to_string();
        section.delete = is_debug(name.strip_prefix(".rel").unwrap_or(&name));
    }
    builder.delete_orphans();
    // A mangled name holds a hash of the directory it was built in; the same sources must give the
    // same object everywhere.
    for symbol in &mut builder.symbols {
        symbol.name = plain(&symbol.name.to_string()).into_bytes().into();
    }
    // LLVM keeps the names of sections and symbols in one table; the writer wants two.
    if !(builder.sections.iter()).any(|it| matches!(it.data, SectionData::SectionString)) {
        let names = builder.sections.add();
        names.name = b".shstrtab"[..].into();
        names.sh_type = SHT_STRTAB;
        names.sh_addralign = 1;
        names.data = SectionData::SectionString;
    }
    let mut stripped = Vec::new();
    builder
        .write(&mut stripped)
        .context("cannot write the object without its debug sections")?;

    let (before, after) = (sections(built)?, sections(&stripped)?);
    for (name, section) in &before {
        ensure!(
            after.get(name) == Some(section),
            "stripping the object would have changed its section {name}"
        );
    }
    aya_obj::Object::parse(&stripped).context("aya cannot load the object")?;
    Ok(stripped)
}

/// A symbol's name without the mangling.
fn plain(symbol: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(symbol))
}

fn is_debug(section: &str) -> bool {
    section.starts_with(".debug_")
}

#[derive(Debug, PartialEq, Eq)]
struct Section {
    contents: Vec<u8>,
    /// Offset, and the name of what is there.
    relocations: Vec<(u64, String)>,
}

/// What an object consists of apart from debug information and the tables of names.
fn sections(elf: &[u8]) -> Result<BTreeMap<String, Section>> {
    let file = File::parse(elf)?;
    let mut sections = BTreeMap::new();
    for section in file.sections() {
        let name = section.name()?;
        if is_debug(name) || section.kind() == SectionKind::Metadata {
            continue;
        }
        let relocations = (section.relocations())
            .map(|(offset, relocation)| {
                Ok(match relocation.target() {
                    RelocationTarget::Symbol(index) => {
                        let symbol = file.symbol_by_index(index)?;
                        let place = symbol.section_index().map(|it| file.section_by_index(it));
                        let place = place.transpose()?;
                        let place = place.as_ref().map(|it| it.name()).transpose()?;
                        let at = symbol.address();
                        (offset, format!("{place:?}+{at} {}", plain(symbol.name()?)))
                    }
                    other => (offset, format!("{other:?}")),
                })
            })
            .collect::<Result<_>>()?;
        let contents = section.data()?.to_owned();
        sections.insert(
            name.to_owned(),
            Section {
                contents,
                relocations,
            },
        );
    }
    Ok(sections)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMITTED: &[u8] = include_bytes!("../../chadthrottle/bpf/chadthrottle.o");

    #[test]
    fn what_is_stripped_keeps_what_loading_needs() {
        let kept = sections(COMMITTED).unwrap();
        for name in [
            "cgroup_skb/ingress",
            "cgroup_skb/egress",
            "cgroup/sock_create",
            ".maps",
            ".BTF",
            ".BTF.ext",
        ] {
            assert!(kept.contains_key(name), "no {name} in {:?}", kept.keys());
        }
        assert!(!kept["cgroup_skb/ingress"].relocations.is_empty());
        // Nothing is left to take away, so nothing may change.
        assert_eq!(debug_sections(COMMITTED).unwrap(), COMMITTED);
    }

    #[test]
    fn what_is_not_an_object_is_refused() {
        assert!(debug_sections(b"\x7fELF and then nothing").is_err());
        assert!(debug_sections(&COMMITTED[..COMMITTED.len() / 2]).is_err());
    }

    #[test]
    fn names_lose_what_differs_from_place_to_place() {
        for (mangled, name) in [
            (
                "_RNCNvNtCs7s617BN60DR_12chadthrottle8throttle6packet0B5_",
                "chadthrottle::throttle::packet::{closure#0}",
            ),
            ("chadthrottle_ingress", "chadthrottle_ingress"),
        ] {
            assert_eq!(plain(mangled), name);
        }
    }
}
