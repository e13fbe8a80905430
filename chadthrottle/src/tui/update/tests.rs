mod limiting;
mod prioritizing;

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use chadthrottle_common::traffic::Direction;
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::{Position, Size};

use super::*;
use crate::{
    demo::World,
    listing::{column::Column, rows::View},
    model::{
        command::Command,
        direction::{Limits, PerDirection},
        limit::{LimitState, Mechanism},
        pattern::Pattern,
        process::ProcessKey,
        rule::{Origin, Rule, Scope, Sharing},
        snapshot::{ProcessRow, Snapshot},
        target::{ProgramField, Target},
    },
    rate::{Bytes, Rate, Units},
    tui::{
        action::{Ask, Mouse},
        dialog::{BLOCKED, Button, Choice, Dialog, Part},
        keymap,
        preferences::Preferences,
        text::subject,
    },
};

fn snapshot() -> Snapshot {
    let mut world = World::new(7, 20, UNIX_EPOCH);
    for _ in 0..5 {
        world.advance(Duration::from_secs(1));
    }
    world.snapshot().clone()
}

fn state() -> State {
    state_of(snapshot())
}

fn state_of(snapshot: Snapshot) -> State {
    let mut state = State::new(Size::new(80, 24), UNIX_EPOCH, Preferences::default());
    state.start(Arc::new(snapshot), &[], Keeper::This);
    state
}

/// The interface over a made-up world that does what it is asked.
struct Scene {
    world: World,
    state: State,
}

impl Scene {
    fn new() -> Self {
        let mut world = World::new(7, 20, UNIX_EPOCH);
        for _ in 0..5 {
            world.advance(Duration::from_secs(1));
        }
        let state = state_of(world.snapshot().clone());
        Self { world, state }
    }

    fn press(&mut self, code: KeyCode) -> Option<Effect> {
        press(&mut self.state, code)
    }

    fn type_in(&mut self, text: &str) {
        type_in(&mut self.state, text);
    }

    fn show(&mut self) {
        let snapshot = Arc::new(self.world.snapshot().clone());
        update(&mut self.state, Message::Snapshot(snapshot), UNIX_EPOCH);
    }

    /// A key after which the engine is asked, and does it.
    fn carry_out(&mut self, code: KeyCode) -> Ask {
        let ask = asked(self.press(code));
        self.answer(&ask);
        ask
    }

    fn answer(&mut self, ask: &Ask) {
        for command in &ask.commands {
            self.world.apply(command).unwrap();
        }
        self.show();
        agree(&mut self.state, ask.clone());
    }

    /// Limits set elsewhere.
    fn set(&mut self, rule: Rule) {
        self.world.apply(&Command::Set(Box::new(rule))).unwrap();
        self.show();
    }

    fn rules(&self) -> Vec<Rule> {
        let limits = self.world.snapshot().limits.iter();
        limits.map(|limit| limit.rule.clone()).collect()
    }

    fn sentence(&self) -> String {
        dialog(&self.state).sentence(Units::default()).unwrap()
    }

    fn key(&self) -> ProcessKey {
        selected(&self.state)
    }

    fn lead(&self) -> ProcessRow {
        self.state.selected().unwrap().clone()
    }
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
    Some(LimitState::new(down(download), Mechanism::Pacing))
}

fn down(rate: u64) -> Limits {
    Limits {
        download: Some(Rate::from_bytes_per_second(rate)),
        upload: None,
    }
}

fn press(state: &mut State, code: KeyCode) -> Option<Effect> {
    press_at(state, code, UNIX_EPOCH)
}

fn press_at(state: &mut State, code: KeyCode, now: SystemTime) -> Option<Effect> {
    let event = KeyEvent::new(code, KeyModifiers::NONE);
    let action = keymap::action(state.context(), event)?;
    update(state, Message::Act(action), now)
}

/// What the engine is asked to do.
fn asked(effect: Option<Effect>) -> Ask {
    match effect {
        Some(Effect::Ask(ask)) => ask,
        other => panic!("nothing was asked but {other:?}"),
    }
}

fn agree(state: &mut State, ask: Ask) {
    update(state, Message::Answered(ask, Ok(())), UNIX_EPOCH);
}

fn set(key: ProcessKey, limits: Limits) -> Command {
    Command::limit(key, limits)
}

fn question(state: &State) -> String {
    match &state.overlay {
        Overlay::Question(question) => question.text.join(" "),
        other => panic!("no question but {other:?}"),
    }
}

fn said(state: &State) -> &str {
    &state.notices.all().last().unwrap().text
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

fn empty_field(state: &mut State) {
    let event = KeyEvent::new(KeyCode::Char('u'), KeyModifiers::CONTROL);
    let action = keymap::action(state.context(), event).unwrap();
    update(state, Message::Act(action), UNIX_EPOCH);
}

#[test]
fn what_a_key_on_the_table_asks_for() {
    let mut scene = Scene::new();
    let (key, words) = (scene.key(), subject(&scene.lead()));
    scene.set(Rule::by_hand(key, down(5)));
    for code in "tL?x jukKsSivVfb/n+-mCl".chars() {
        assert_eq!(
            press(&mut scene.state.clone(), KeyCode::Char(code)),
            None,
            "{code}"
        );
    }
    scene.state.select(position(&scene.state, key));
    let ask = scene.carry_out(KeyCode::Char('r'));
    assert!(matches!(ask.commands.as_slice(), [Command::Remove(_)]));
    assert_eq!(ask.subject, words);
    assert_eq!(scene.rules(), []);
}

fn position(state: &State, key: ProcessKey) -> usize {
    let mut rows = state.rows.iter();
    rows.position(|row| state.lead(row).unwrap().key == key)
        .unwrap()
}

#[test]
fn quitting_asks_when_limits_end_with_it() {
    let mut scene = Scene::new();
    assert_eq!(scene.press(KeyCode::Char('q')), Some(Effect::Quit));
    // Of a program that does not run: it limits those to come.
    scene.set(Rule::by_hand(Target::program("nobody"), down(5)));
    let state = &mut scene.state;
    assert_eq!(press(state, KeyCode::Char('q')), None);
    assert!(question(state).starts_with("1 limit in force ends"));
    assert_eq!(press(state, KeyCode::Char('n')), None);
    assert!(matches!(state.overlay, Overlay::None));
    press(state, KeyCode::Char('q'));
    assert_eq!(press(state, KeyCode::Char('y')), Some(Effect::Quit));
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
    let state = state_of(snapshot);
    let keys: Vec<_> = state
        .rows
        .iter()
        .map(|row| state.lead(row).unwrap().key)
        .collect();
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

#[test]
fn the_filter_works_while_it_is_typed() {
    let mut state = state();
    press(&mut state, KeyCode::Char('/'));
    type_in(&mut state, "CURL");
    let names = |state: &State| -> Vec<String> {
        let rows = state.rows.iter();
        rows.map(|row| row.name(&state.snapshot).to_owned())
            .collect()
    };
    assert!(!names(&state).is_empty());
    assert!(names(&state).iter().all(|name| name == "curl"));
    press(&mut state, KeyCode::Enter);
    assert!(state.editing.is_none());
    assert_eq!(state.filter.text(), "CURL");
    press(&mut state, KeyCode::Esc);
    assert_eq!(state.rows.len(), state.snapshot.processes.len());
    press(&mut state, KeyCode::Char('/'));
    type_in(&mut state, "port:443");
    assert!(state.watch().ports);
    press(&mut state, KeyCode::Esc);
    assert!(!state.watch().ports && state.filter.is_empty());
}

#[test]
fn groups_add_up_and_open() {
    let mut state = state();
    let total: u64 = state
        .snapshot
        .processes
        .iter()
        .map(ProcessRow::total_rate)
        .sum();
    for view in View::ALL {
        assert_eq!(state.preferences.view, view);
        let rates = state.rows.iter().map(|row| {
            let rate = row.rate.map(Rate::bytes_per_second);
            rate.download + rate.upload
        });
        assert_eq!(rates.sum::<u64>(), total, "{view:?}");
        let processes: u32 = state.rows.iter().map(|row| row.processes).sum();
        assert_eq!(processes as usize, state.snapshot.processes.len());
        press(&mut state, KeyCode::Char('v'));
    }
    press(&mut state, KeyCode::Char('V'));
    let members = state.rows[0].processes as usize;
    press(&mut state, KeyCode::Enter);
    assert_eq!(state.preferences.view, View::Processes);
    assert_eq!(state.rows.len(), members);
    press(&mut state, KeyCode::Esc);
    assert_eq!(state.preferences.view, View::Users);
    assert!(state.filter.is_empty());
}

#[test]
fn orders_go_round_and_are_turned() {
    let mut state = state();
    let ids = |state: &State| -> Vec<ProcessKey> {
        let rows = state.rows.iter();
        rows.map(|row| state.lead(row).unwrap().key).collect()
    };
    let by_activity = ids(&state);
    while state.preferences.sort.by != Some(Column::Id) {
        press(&mut state, KeyCode::Char('s'));
    }
    assert!(ids(&state).is_sorted());
    press(&mut state, KeyCode::Char('i'));
    assert!(ids(&state).is_sorted_by(|a, b| a >= b));
    while state.preferences.sort.by.is_some() {
        press(&mut state, KeyCode::Char('S'));
    }
    assert_eq!(ids(&state), by_activity);
}

#[test]
fn a_frozen_picture_stands_still_but_shows_limits() {
    let mut state = state();
    let key = selected(&state);
    press(&mut state, KeyCode::Char('f'));
    let mut later = Snapshot::clone(&state.snapshot);
    later.sequence += 1;
    for row in &mut later.processes {
        row.rate = PerDirection::default();
    }
    let before = state.selected().unwrap().rate;
    update(
        &mut state,
        Message::Snapshot(Arc::new(later.clone())),
        UNIX_EPOCH,
    );
    assert_eq!(state.selected().unwrap().rate, before);
    later
        .processes
        .iter_mut()
        .find(|row| row.key == key)
        .unwrap()
        .limit = limit(9);
    update(&mut state, Message::Snapshot(Arc::new(later)), UNIX_EPOCH);
    let row = state.selected().unwrap();
    assert_eq!((row.rate, row.limit.is_some()), (before, true));
    press(&mut state, KeyCode::Char('f'));
    let rows = &state.snapshot.processes;
    assert!(rows.iter().all(|row| row.rate == PerDirection::default()));
}

#[test]
fn details_watch_their_process_only_while_they_are_open() {
    let mut state = state();
    let key = selected(&state);
    assert_eq!(state.watch().process, None);
    press(&mut state, KeyCode::Enter);
    assert_eq!(state.watch().process, Some(key));
    press(&mut state, KeyCode::Esc);
    assert_eq!(state.watch().process, None);
}

#[test]
fn the_mouse_selects_sorts_and_presses() {
    let mut state = state();
    let click = |state: &mut State, x, y| {
        update(
            state,
            Message::Mouse(Mouse::Press, Position::new(x, y)),
            UNIX_EPOCH,
        )
    };
    // Three lines of header, one of headings.
    click(&mut state, 20, 6);
    assert_eq!(state.line(), 2);
    update(
        &mut state,
        Message::Mouse(Mouse::Wheel { up: false }, Position::new(1, 1)),
        UNIX_EPOCH,
    );
    assert_eq!(state.line(), 5);
    click(&mut state, 7, 3);
    assert_eq!(state.preferences.sort.by, Some(Column::Id));
    click(&mut state, 7, 3);
    assert!(state.preferences.sort.reversed);
    click(&mut state, 7, 3);
    assert_eq!(state.preferences.sort, Default::default());
    press(&mut state, KeyCode::Char('t'));
    let places = (0..24).flat_map(|y| (0..80).map(move |x| Position::new(x, y)));
    let block = places
        .clone()
        .find(|at| view::spot(&state, *at) == Some(view::Spot::Part(Part::Button(Button::Block))))
        .unwrap();
    click(&mut state, block.x, block.y);
    assert_eq!(dialog(&state).limits(), Ok(BLOCKED));
    let apply = places
        .clone()
        .find(|at| view::spot(&state, *at) == Some(view::Spot::Part(Part::Button(Button::Apply))))
        .unwrap();
    asked(click(&mut state, apply.x, apply.y));
}
