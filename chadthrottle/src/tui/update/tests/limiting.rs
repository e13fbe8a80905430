//! Limits: setting, removing and taking back.

use super::*;

#[test]
fn a_limit_is_typed_and_applied() {
    let mut state = state();
    let key = selected(&state);
    press(&mut state, KeyCode::Char('t'));
    type_in(&mut state, "500K");
    let sentence = dialog(&state).sentence(Units::default()).unwrap();
    assert!(
        sentence.ends_with("to 500 KB/s down; upload unlimited"),
        "{sentence}"
    );
    let ask = asked(press(&mut state, KeyCode::Enter));
    assert_eq!(ask.commands, [set(key, down(500_000))]);
    // A second Enter asks nothing twice.
    assert_eq!(press(&mut state, KeyCode::Enter), None);
    agree(&mut state, ask);
    assert!(matches!(state.overlay, Overlay::None));
    assert!(said(&state).starts_with("limited "), "{}", said(&state));
    assert_eq!(state.preferences.last_used, [down(500_000)]);
}

#[test]
fn keys_typed_before_the_answer_are_not_lost() {
    let mut state = state();
    press(&mut state, KeyCode::Char('t'));
    type_in(&mut state, "500K");
    let first = asked(press(&mut state, KeyCode::Enter));
    press(&mut state, KeyCode::Backspace);
    type_in(&mut state, "M");
    agree(&mut state, first);
    assert_eq!(
        dialog(&state).fields.get(Direction::Download).value(),
        "500M"
    );
    let second = asked(press(&mut state, KeyCode::Enter));
    assert_eq!(second.commands.len(), 1);
    agree(&mut state, second);
    assert!(matches!(state.overlay, Overlay::None));
}

#[test]
fn changes_are_taken_back_one_by_one() {
    let mut state = state();
    let key = selected(&state);
    for entry in ["1M", "2M"] {
        press(&mut state, KeyCode::Char('t'));
        let field = KeyEvent::new(KeyCode::Char('u'), KeyModifiers::CONTROL);
        let action = keymap::action(state.context(), field).unwrap();
        update(&mut state, Message::Act(action), UNIX_EPOCH);
        type_in(&mut state, entry);
        let ask = asked(press(&mut state, KeyCode::Enter));
        let Command::Set(rule) = &ask.commands[0] else {
            panic!("{:?}", ask.commands)
        };
        let limits = rule.limits;
        agree(&mut state, ask);
        let message = changed(&state, key, |row| {
            row.limit = Some(LimitState::new(LimitId(1), limits, Mechanism::Pacing));
        });
        update(&mut state, message, UNIX_EPOCH);
    }
    for before in [down(1_000_000), Limits::default()] {
        let ask = asked(press(&mut state, KeyCode::Char('u')));
        assert_eq!(ask.commands, [set(key, before)]);
        agree(&mut state, ask);
    }
    assert_eq!(press(&mut state, KeyCode::Char('u')), None);
    assert_eq!(said(&state), "there is nothing to take back");
}

#[test]
fn what_is_tagged_is_limited_together() {
    let mut state = state();
    let keys: Vec<ProcessKey> = (0..2)
        .map(|_| {
            let key = selected(&state);
            press(&mut state, KeyCode::Char(' '));
            key
        })
        .collect();
    press(&mut state, KeyCode::Down);
    press(&mut state, KeyCode::Char('b'));
    let sentence = dialog(&state).sentence(Units::default()).unwrap();
    assert_eq!(sentence, "blocks 2 tagged processes, both ways");
    let ask = asked(press(&mut state, KeyCode::Enter));
    let mut limited: Vec<Command> = keys.iter().map(|key| set(*key, BLOCKED)).collect();
    let place = |command: &Command| ask.commands.iter().position(|c| c == command);
    limited.sort_by_key(place);
    assert_eq!(ask.commands, limited);
    agree(&mut state, ask);
    assert!(state.tags.is_empty());
}

#[test]
fn removing_everything_asks_first_and_can_be_taken_back() {
    let mut state = state();
    press(&mut state, KeyCode::Char('R'));
    assert_eq!(said(&state), "nothing is limited");
    let key = selected(&state);
    let message = changed(&state, key, |row| row.limit = limit(5));
    update(&mut state, message, UNIX_EPOCH);
    assert_eq!(press(&mut state, KeyCode::Char('R')), None);
    assert!(question(&state).contains("1 limit"));
    let ask = asked(press(&mut state, KeyCode::Char('y')));
    assert_eq!(ask.commands, [Command::RemoveAll]);
    agree(&mut state, ask);
    let back = asked(press(&mut state, KeyCode::Char('u')));
    assert_eq!(back.commands, [set(key, down(5))]);
}

#[test]
fn what_carries_the_terminal_is_limited_on_probation() {
    let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
    for keeps in [false, true] {
        let mut state = state();
        let key = selected(&state);
        update(&mut state, Message::Carriers(vec![key]), UNIX_EPOCH);
        press(&mut state, KeyCode::Char('t'));
        type_in(&mut state, "1K");
        assert_eq!(press(&mut state, KeyCode::Enter), None);
        assert!(question(&state).contains("carries this terminal"));
        let ask = asked(press(&mut state, KeyCode::Char('y')));
        assert_eq!(ask.commands, [set(key, down(1000))]);
        agree(&mut state, ask);
        assert_eq!(update(&mut state, Message::Tick, at(29)), None);
        assert_eq!(state.changes_in(at(29)), Some(Duration::from_secs(1)));
        if keeps {
            press_at(&mut state, KeyCode::Char('K'), at(29));
            assert_eq!(update(&mut state, Message::Tick, at(31)), None);
        } else {
            let back = asked(update(&mut state, Message::Tick, at(30)));
            assert_eq!(back.commands, [set(key, Limits::default())]);
        }
        assert!(state.probation.is_none());
    }
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
        Part::Rate(Direction::Upload),
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
    let ask = asked(press(&mut state, KeyCode::Enter));
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
    assert!(dialog(&state).ended());
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
fn a_group_is_limited_process_by_process() {
    let mut state = state();
    press(&mut state, KeyCode::Char('v'));
    let members = state.rows[0].processes as usize;
    press(&mut state, KeyCode::Char('t'));
    type_in(&mut state, "1M");
    let ask = asked(press(&mut state, KeyCode::Enter));
    assert_eq!(ask.commands.len(), members);
}
