use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use chadthrottle_common::traffic::Direction;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::Size;

use super::*;
use crate::{
    demo::World,
    engine::snapshot::{LimitId, LimitState, Mechanism, PerDirection, ProcessRow, Snapshot},
    process::ProcessKey,
    rate::{Bytes, Rate},
    tui::keymap,
};

fn snapshot() -> Snapshot {
    let mut world = World::new(7, 20, UNIX_EPOCH);
    for _ in 0..5 {
        world.advance(Duration::from_secs(1));
    }
    world.snapshot().clone()
}

fn state() -> State {
    State::new(Arc::new(snapshot()), Size::new(80, 24), UNIX_EPOCH)
}

/// The same sample with one process changed.
fn changed(state: &State, key: ProcessKey, how: impl Fn(&mut ProcessRow)) -> Message {
    let mut snapshot = Snapshot::clone(&state.snapshot);
    snapshot
        .processes
        .iter_mut()
        .filter(|row| row.key == key)
        .for_each(how);
    Message::Snapshot(Arc::new(snapshot))
}

fn limit(download: u64) -> Option<LimitState> {
    Some(LimitState::new(
        LimitId(1),
        down(download),
        Mechanism::Pacing,
    ))
}

fn down(rate: u64) -> Limits {
    Limits {
        download: Some(Rate::from_bytes_per_second(rate)),
        upload: None,
    }
}

fn press(state: &mut State, code: KeyCode) -> Option<Effect> {
    let event = KeyEvent::new(code, KeyModifiers::NONE);
    let action = keymap::action(state.context(), event)?;
    update(state, Message::Act(action), UNIX_EPOCH)
}

fn type_in(state: &mut State, text: &str) {
    for c in text.chars() {
        assert_eq!(press(state, KeyCode::Char(c)), None);
    }
}

fn dialog(state: &State) -> &Dialog {
    match &state.overlay {
        Overlay::Dialog(dialog) => dialog,
        other => panic!("no dialog but {other:?}"),
    }
}

fn selected(state: &State) -> ProcessKey {
    state.selected().unwrap().key
}

#[test]
fn what_a_key_on_the_table_asks_for() {
    let limits = Limits::default();
    let mut state = state();
    let (key, subject) = (selected(&state), subject(state.selected().unwrap()));
    let message = changed(&state, key, |row| row.limit = limit(5));
    update(&mut state, message, UNIX_EPOCH);
    let remove = Effect::Ask(Ask {
        command: Command::limit(key, limits),
        subject,
        limits,
        dialog: None,
    });
    for (code, effect) in [
        (KeyCode::Char('q'), Some(Effect::Quit)),
        (KeyCode::Char('r'), Some(remove)),
        (KeyCode::Char('t'), None),
        (KeyCode::Char('L'), None),
        (KeyCode::Char('?'), None),
        (KeyCode::Char('x'), None),
        (KeyCode::Down, None),
        (KeyCode::Esc, None),
    ] {
        assert_eq!(press(&mut state.clone(), code), effect, "{code:?}");
    }
}

#[test]
fn a_limit_is_typed_and_applied() {
    let mut state = state();
    let key = selected(&state);
    press(&mut state, KeyCode::Char('t'));
    type_in(&mut state, "500K");
    let sentence = dialog(&state).sentence().unwrap();
    assert!(
        sentence.ends_with("to 500 KB/s down; upload unlimited"),
        "{sentence}"
    );
    let Some(Effect::Ask(ask)) = press(&mut state, KeyCode::Enter) else {
        panic!("nothing was asked");
    };
    assert_eq!(ask.command, Command::limit(key, down(500_000)));
    // A second Enter, and keys meanwhile, change nothing.
    assert_eq!(press(&mut state, KeyCode::Enter), None);
    type_in(&mut state, "9");
    assert_eq!(
        dialog(&state).fields.get(Direction::Download).value(),
        "500K"
    );
    update(&mut state, Message::Answered(ask, Ok(())), UNIX_EPOCH);
    assert!(matches!(state.overlay, Overlay::None));
    let notice = &state.notices.fresh(UNIX_EPOCH).unwrap().text;
    assert!(notice.starts_with("limited "), "{notice}");
}

#[test]
fn a_wrong_entry_asks_nothing_and_stays() {
    let mut state = state();
    press(&mut state, KeyCode::Char('t'));
    type_in(&mut state, "1M");
    press(&mut state, KeyCode::Tab);
    type_in(&mut state, "fast");
    press(&mut state, KeyCode::Up);
    assert_eq!(press(&mut state, KeyCode::Enter), None);
    let dialog = dialog(&state);
    assert_eq!(
        dialog.focus,
        Direction::Upload,
        "the wrong field has the focus"
    );
    assert!(dialog.insisted);
    assert_eq!(dialog.fields.get(Direction::Download).value(), "1M");
    assert_eq!(dialog.fields.get(Direction::Upload).value(), "fast");
}

#[test]
fn an_engine_error_stays_in_the_dialog() {
    let mut state = state();
    press(&mut state, KeyCode::Char('t'));
    update(
        &mut state,
        Message::Paste("\r 2MB/s\rmore".into()),
        UNIX_EPOCH,
    );
    let Some(Effect::Ask(ask)) = press(&mut state, KeyCode::Enter) else {
        panic!("nothing was asked");
    };
    let refused = Message::Answered(ask.clone(), Err("the kernel refused".into()));
    update(&mut state, refused.clone(), UNIX_EPOCH);
    assert_eq!(dialog(&state).error.as_deref(), Some("the kernel refused"));
    assert_eq!(
        dialog(&state).fields.get(Direction::Download).value(),
        "2MB/s"
    );
    // The answer to a dialog that was left comes as a notice, not into the next dialog.
    press(&mut state, KeyCode::Esc);
    press(&mut state, KeyCode::Char('t'));
    update(&mut state, refused, UNIX_EPOCH);
    assert_eq!(dialog(&state).error, None);
    assert_eq!(state.notices.all().len(), 3);
}

#[test]
fn the_present_limit_fills_the_dialog() {
    let mut state = state();
    let key = selected(&state);
    let message = changed(&state, key, |row| row.limit = limit(1_500_000));
    update(&mut state, message, UNIX_EPOCH);
    press(&mut state, KeyCode::Char('t'));
    assert_eq!(dialog(&state).limits(), Ok(down(1_500_000)));
    assert_eq!(
        dialog(&state).fields.get(Direction::Download).value(),
        "1.5M"
    );
}

#[test]
fn a_process_that_ends_under_the_dialog_is_not_limited() {
    let mut state = state();
    let key = selected(&state);
    press(&mut state, KeyCode::Char('t'));
    type_in(&mut state, "1M");
    let message = changed(&state, key, |row| row.ended = true);
    update(&mut state, message, UNIX_EPOCH);
    assert!(dialog(&state).ended);
    assert_eq!(press(&mut state, KeyCode::Enter), None);
    assert!(
        dialog(&state)
            .error
            .as_ref()
            .unwrap()
            .contains("nothing was limited")
    );
    assert_eq!(dialog(&state).fields.get(Direction::Download).value(), "1M");
}

#[test]
fn the_selection_follows_its_process() {
    let mut state = state();
    for _ in 0..4 {
        press(&mut state, KeyCode::Char('j'));
    }
    let key = selected(&state);
    assert_eq!(state.line(), 4);
    let message = changed(&state, key, |row| row.rate.download = Rate::MAX);
    update(&mut state, message, UNIX_EPOCH);
    assert_eq!((selected(&state), state.line()), (key, 0));
    // When it is gone, the selection stays where it was.
    let mut snapshot = Snapshot::clone(&state.snapshot);
    snapshot.processes.retain(|row| row.key != key);
    update(
        &mut state,
        Message::Snapshot(Arc::new(snapshot)),
        UNIX_EPOCH,
    );
    assert_eq!(state.line(), 0);
    assert_ne!(selected(&state), key);
}

#[test]
fn the_selection_stays_in_view() {
    let mut state = state();
    update(&mut state, Message::Resize(Size::new(40, 10)), UNIX_EPOCH);
    for code in [
        KeyCode::End,
        KeyCode::PageUp,
        KeyCode::Down,
        KeyCode::Home,
        KeyCode::PageDown,
    ] {
        press(&mut state, code);
        let shown = state.offset..state.offset + view::table_lines(state.size);
        assert!(
            shown.contains(&state.line()),
            "{code:?}: {} in {shown:?}",
            state.line()
        );
    }
}

#[test]
fn ties_are_ordered_by_total_then_by_id() {
    let mut snapshot = snapshot();
    for row in &mut snapshot.processes {
        row.rate = PerDirection::default();
        row.bytes = PerDirection::default();
    }
    snapshot.processes[3].bytes.upload = Bytes::new(1);
    let first = snapshot.processes[3].key;
    let state = State::new(Arc::new(snapshot), Size::new(80, 24), UNIX_EPOCH);
    let keys: Vec<_> = state.rows().map(|row| row.key).collect();
    assert_eq!(keys[0], first);
    assert!(keys[1..].is_sorted());
}

#[test]
fn a_notice_fades_but_can_still_be_read() {
    let mut state = state();
    press(&mut state, KeyCode::Char('r'));
    let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
    assert!(
        state
            .notices
            .fresh(at(7))
            .unwrap()
            .text
            .ends_with("is not limited")
    );
    assert_eq!(state.notices.fades_in(at(7)), Some(Duration::from_secs(1)));
    assert!(state.notices.fresh(at(8)).is_none());
    assert!(
        state
            .notices
            .all()
            .last()
            .unwrap()
            .text
            .ends_with("is not limited")
    );
}
