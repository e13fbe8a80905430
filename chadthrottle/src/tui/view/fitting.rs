//! Which columns of a list fit.

/// Takes columns away, in the order in which they give way, until the rest fit with a space between
/// two. What is left of the width is returned.
pub(super) fn fit<C: PartialEq>(
    columns: &mut Vec<(C, u16)>,
    width: u16,
    giving_way: impl IntoIterator<Item = C>,
) -> u16 {
    // No space after the last.
    let width = width.saturating_add(1);
    let mut giving_way = giving_way.into_iter();
    loop {
        let needed = columns.iter().map(|(_, width)| width + 1).sum();
        if let Some(spare) = width.checked_sub(needed) {
            return spare;
        }
        let Some(gone) = giving_way.next() else {
            return 0;
        };
        columns.retain(|(column, _)| *column != gone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_give_way_in_their_order() {
        for (width, kept, spare) in [
            (20, "abc", 4),
            (16, "abc", 0),
            (15, "ac", 2),
            (13, "ac", 0),
            (12, "c", 3),
            (3, "c", 0),
        ] {
            let mut columns = vec![('a', 3), ('b', 2), ('c', 9)];
            assert_eq!(fit(&mut columns, width, ['b', 'a']), spare, "{width}");
            let left: String = columns.into_iter().map(|(name, _)| name).collect();
            assert_eq!(left, kept, "{width}");
        }
    }
}
