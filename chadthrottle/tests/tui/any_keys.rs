//! Whatever is pressed, whatever the engine shows, at whatever size: no panic, and a picture.

use std::sync::Arc;

use chadthrottle::{
    model::{
        process::{Pid, ProcessKey},
        snapshot::Snapshot,
    },
    rate::{Bytes, Rate},
    tui::{
        action::{Effect, Message, Mouse},
        view::theme::Palette,
    },
};
use crossterm::event::KeyCode;
use proptest::prelude::*;
use ratatui::layout::{Position, Size};

use crate::scene::{Person, busy, limit};

#[derive(Clone, Debug)]
enum Step {
    Press(KeyCode),
    Paste(String),
    Show(Arc<Snapshot>),
    Resize(Size),
    Point(Mouse, Position),
    Wait,
    Answer(Result<(), String>),
    Stop,
}

fn key() -> impl Strategy<Value = KeyCode> {
    use KeyCode::*;
    prop_oneof![
        3 => prop::sample::select("jkgGtrLh?q015.KMx -/sSivVfubRCmn+yK:!".chars().collect::<Vec<_>>()).prop_map(Char),
        1 => any::<char>().prop_map(Char),
        3 => prop::sample::select(vec![
            Up, Down, Left, Right, PageUp, PageDown, Home, End, Tab, BackTab, Enter, Esc,
            Backspace, Delete, F(1), Null,
        ]),
    ]
}

fn mouse() -> impl Strategy<Value = Mouse> {
    prop_oneof![
        3 => Just(Mouse::Press),
        1 => any::<bool>().prop_map(|up| Mouse::Wheel { up }),
    ]
}

fn size() -> impl Strategy<Value = Size> {
    prop_oneof![
        (0..300_u16, 0..80_u16).prop_map(|(width, height)| Size::new(width, height)),
        (38..64_u16, 9..16_u16).prop_map(|(width, height)| Size::new(width, height)),
    ]
}

prop_compose! {
    fn snapshot()(
        count in 0..40_usize,
        changes in prop::collection::vec(
            (
                any::<prop::sample::Index>(),
                "\\PC{0,20}",
                any::<u32>(),
                any::<(u64, u64)>(),
                any::<(Option<u64>, Option<u64>)>(),
                any::<bool>(),
            ),
            0..12,
        ),
    ) -> Arc<Snapshot> {
        let mut snapshot = busy(count);
        for (which, name, pid, (rate, bytes), (download, upload), ended) in changes {
            if snapshot.processes.is_empty() {
                break;
            }
            let row = which.index(snapshot.processes.len());
            let row = &mut snapshot.processes[row];
            row.key = ProcessKey { pid: Pid(pid), start_time: rate };
            row.name = name.as_str().into();
            row.user = name.as_str().into();
            row.connections = pid;
            row.rate.download = Rate::from_bytes_per_second(rate);
            row.bytes.upload = Bytes::new(bytes);
            row.limit = limit(download, upload).filter(|limit| !limit.limits.is_unlimited());
            row.ended = ended;
        }
        Arc::new(snapshot)
    }
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => key().prop_map(Step::Press),
        1 => ".{0,80}".prop_map(Step::Paste),
        2 => snapshot().prop_map(Step::Show),
        1 => size().prop_map(Step::Resize),
        3 => (mouse(), 0..220_u16, 0..70_u16)
            .prop_map(|(mouse, x, y)| Step::Point(mouse, Position::new(x, y))),
        1 => Just(Step::Wait),
        2 => prop::option::of("\\PC{0,200}")
            .prop_map(|error| Step::Answer(error.map_or(Ok(()), Err))),
        1 => Just(Step::Stop),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn nothing_panics(first in prop::option::of(snapshot()), size in size(), steps in prop::collection::vec(step(), 0..40)) {
        let mut person = match first {
            Some(first) => Person::before(Snapshot::clone(&first), size),
            None => Person::starting(size),
        };
        for step in steps {
            match step {
                Step::Press(code) => person.press(code),
                Step::Paste(text) => person.tell(Message::Paste(text)),
                Step::Show(snapshot) => person.show(snapshot),
                Step::Resize(size) => person.tell(Message::Resize(size)),
                Step::Answer(result) => match person.effects.pop() {
                    Some(Effect::Ask(ask)) => person.tell(Message::Answered(ask, result)),
                    _ => &mut person,
                },
                Step::Point(mouse, at) => person.tell(Message::Mouse(mouse, at)),
                Step::Wait => person.tell(Message::Tick),
                Step::Stop => person.tell(Message::EngineStopped),
            };
            person.picture(Palette::Dark);
            let rows = person.state.rows.len();
            prop_assert!(person.state.line() < rows.max(1));
        }
    }
}
