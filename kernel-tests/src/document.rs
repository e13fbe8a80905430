//! Documents that commands write: what was not measured again stays as it was, with its date and commit.

/// How a section begins.
const SECTION: &str = "\n## ";

/// The sections of a document, each with its title and all of its text, title included.
pub fn sections(document: &str) -> impl Iterator<Item = (&str, String)> {
    let sections = document.split(SECTION).skip(1);
    sections.map(|section| {
        let title = section.lines().next().unwrap_or_default();
        (title, format!("{SECTION}{section}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_together_are_the_document() {
        let document = "# Head\n\ntext\n\n## One\n\n### Part\n\na\n\n## Two\nb\n";
        let found: Vec<_> = sections(document).collect();
        assert_eq!(
            found.iter().map(|(title, _)| *title).collect::<Vec<_>>(),
            ["One", "Two"]
        );
        let together: String = found.into_iter().map(|(_, text)| text).collect();
        assert_eq!(format!("# Head\n\ntext\n{together}"), document);
        assert_eq!(sections("").count(), 0);
    }
}
