//! A large machine on a large terminal: no key and no sample holds the screen up.
//!
//! The bounds are wide, because this may be built without optimisation and run beside others.

use std::time::{Duration, Instant};

use chadthrottle::{demo::World, tui::view::theme::Palette};
use crossterm::event::KeyCode;
use ratatui::layout::Size;

use crate::scene::{Person, now};

/// With optimisation it is some milliseconds.
const MOST: Duration = Duration::from_millis(1000);

#[test]
fn ten_thousand_processes_are_drawn_in_time() {
    let mut world = World::new(7, 10_000, now());
    world.advance(Duration::from_secs(1));
    let snapshot = world.snapshot().clone();
    let sockets: u32 = snapshot.processes.iter().map(|row| row.connections).sum();
    assert!(sockets > 100_000, "{sockets}");
    let mut person = Person::after(&[], snapshot, Size::new(200, 60));
    for key in [
        KeyCode::Down,
        KeyCode::Char('s'),
        KeyCode::Char('v'),
        KeyCode::Char('/'),
    ] {
        let begin = Instant::now();
        person.press(key).picture(Palette::Dark);
        let took = begin.elapsed();
        println!("FIGURE: {key} to frame at 200x60, 10,000 processes: {took:?}");
        assert!(took < MOST, "{key}: {took:?}");
    }
}
