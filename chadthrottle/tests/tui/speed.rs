//! A large machine on a large terminal: no key and no sample holds the screen up.
//!
//! The bounds are wide, because this may be built without optimisation and run beside others;
//! `benches/interface.rs` has the figures of the product.

use std::time::{Duration, Instant};

use chadthrottle::tui::{action::Message, view::theme::Palette};
use crossterm::event::KeyCode;
use ratatui::layout::Size;

use crate::scene::Large;

/// With optimisation it is some milliseconds.
const MOST: Duration = Duration::from_millis(1000);

#[test]
fn ten_thousand_processes_are_drawn_in_time() {
    let mut large = Large::new(Size::new(200, 60));
    for key in [
        KeyCode::Down,
        KeyCode::Char('s'),
        KeyCode::Char('v'),
        KeyCode::Char('/'),
    ] {
        let begin = Instant::now();
        large.person.press(key).picture(Palette::Dark);
        is_in_time(&format!("{key} to frame"), begin);
        large.watch();
        let sample = Message::Snapshot(large.next());
        let begin = Instant::now();
        large.person.tell(sample).picture(Palette::Dark);
        is_in_time("sample to frame", begin);
    }
}

fn is_in_time(what: &str, begin: Instant) {
    let took = begin.elapsed();
    println!("FIGURE: {what} at 200x60, 10,000 processes: {took:?}");
    assert!(took < MOST, "{what}: {took:?}");
}
