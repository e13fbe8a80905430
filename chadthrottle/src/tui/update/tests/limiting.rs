//! Limits: setting, removing and taking back.

use std::collections::HashSet;

use super::*;

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
fn the_row_that_a_key_was_for_stays_selected() {
    for key in ['1', '2', 'b', 't', 'r'] {
        let mut state = state();
        let meant = selected(&state);
        press(&mut state, KeyCode::Char(key));
        let message = changed(&state, meant, |row| row.rate = PerDirection::default());
        update(&mut state, message, UNIX_EPOCH);
        assert_eq!(selected(&state), meant, "{key}");
        assert_ne!(state.line(), 0, "{key}: nothing overtook it");
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

fn by_hand(target: impl Into<Target>, limits: Limits) -> Rule {
    Rule::by_hand(target, limits)
}

#[test]
fn a_limit_is_typed_and_applied() {
    let mut scene = Scene::new();
    let (key, name) = (scene.key(), subject(&scene.lead()));
    scene.press(KeyCode::Char('t'));
    scene.type_in("500K");
    assert_eq!(scene.sentence(), format!("{name} may download 500 KB/s."));
    let ask = asked(scene.press(KeyCode::Enter));
    assert_eq!(ask.commands, [set(key, down(500_000))]);
    // A second Enter asks nothing twice.
    assert_eq!(scene.press(KeyCode::Enter), None);
    scene.answer(&ask);
    assert!(matches!(scene.state.overlay, Overlay::None));
    assert!(said(&scene.state).starts_with("limited "));
    assert_eq!(scene.state.preferences.last_used, [down(500_000)]);
}

#[test]
fn what_it_applies_to_is_chosen_and_said() {
    let mut scene = Scene::new();
    let row = scene.lead();
    scene.press(KeyCode::Char('t'));
    scene.type_in("1M");
    for _ in 0..2 {
        scene.press(KeyCode::Tab);
    }
    let said = |scene: &mut Scene| {
        scene.press(KeyCode::Right);
        scene.sentence()
    };
    let (name, pid) = (&*row.name, row.pid());
    let same = |other: &&ProcessRow| other.name == row.name && !other.ended;
    let count = scene.state.snapshot.processes.iter().filter(same).count();
    assert_eq!(
        said(&mut scene),
        format!("{name} ({pid}) and its descendants together may download 1.00 MB/s.")
    );
    let run = if count == 1 { "runs" } else { "run" };
    assert_eq!(
        said(&mut scene),
        format!(
            "All processes of the program {name} together may download 1.00 MB/s; {count} {run} now."
        )
    );
    scene.press(KeyCode::Tab);
    assert!(said(&mut scene).contains("1.00 MB/s over the internet; "));
    scene.press(KeyCode::Tab);
    assert!(said(&mut scene).starts_with(&format!("Each process of the program {name} may ")));
    scene.carry_out(KeyCode::Enter);
    let rule = Rule {
        scope: Scope::Internet,
        ..by_hand(Target::program(name), down(1_000_000))
    };
    assert_eq!(scene.rules(), [rule]);
}

#[test]
fn changes_are_taken_back_one_by_one() {
    let mut scene = Scene::new();
    let key = scene.key();
    for entry in ["1M", "2M"] {
        scene.state.select(position(&scene.state, key));
        scene.press(KeyCode::Char('t'));
        empty_field(&mut scene.state);
        scene.type_in(entry);
        scene.carry_out(KeyCode::Enter);
    }
    assert_eq!(scene.rules(), [by_hand(key, down(2_000_000))]);
    scene.carry_out(KeyCode::Char('u'));
    assert_eq!(scene.rules(), [by_hand(key, down(1_000_000))]);
    let ask = scene.carry_out(KeyCode::Char('u'));
    assert!(matches!(ask.commands.as_slice(), [Command::Remove(_)]));
    assert_eq!(scene.rules(), []);
    assert_eq!(scene.press(KeyCode::Char('u')), None);
    assert_eq!(said(&scene.state), "there is nothing to take back");
}

#[test]
fn a_group_is_limited_by_one_rule_and_freed() {
    for (keys, sharing) in [("1M", Sharing::Shared), ("1M\t\t\t\t ", Sharing::Each)] {
        let mut scene = Scene::new();
        scene.press(KeyCode::Char('v'));
        let name = scene.lead().name.clone();
        scene.press(KeyCode::Char('t'));
        for c in keys.chars() {
            scene.press(if c == '\t' {
                KeyCode::Tab
            } else {
                KeyCode::Char(c)
            });
        }
        scene.carry_out(KeyCode::Enter);
        let rule = Rule {
            sharing,
            ..by_hand(Target::program(&name), down(1_000_000))
        };
        assert_eq!(scene.rules(), std::slice::from_ref(&rule));
        // It is all of the row: nothing is asked.
        scene.carry_out(KeyCode::Char('r'));
        assert_eq!(scene.rules(), []);
        scene.carry_out(KeyCode::Char('u'));
        assert_eq!(scene.rules(), [rule]);
    }
}

#[test]
fn units_and_users_are_targets() {
    let mut scene = Scene::new();
    for expected in ["unit ", "user "] {
        scene.press(KeyCode::Char('v'));
        if expected == "unit " {
            scene.press(KeyCode::Char('v'));
        }
        scene.press(KeyCode::Char('b'));
        scene.carry_out(KeyCode::Enter);
        let target = scene.rules()[0].target.to_string();
        assert!(target.starts_with(expected), "{target}");
        scene.carry_out(KeyCode::Char('u'));
    }
}

#[test]
fn what_is_tagged_has_limits_each_or_together() {
    for shared in [false, true] {
        let mut scene = Scene::new();
        let keys: Vec<ProcessKey> = (0..2)
            .map(|_| {
                let key = scene.key();
                scene.press(KeyCode::Char(' '));
                key
            })
            .collect();
        scene.press(KeyCode::Down);
        scene.press(KeyCode::Char('b'));
        if shared {
            let state = &mut scene.state;
            let Overlay::Dialog(dialog) = &mut state.overlay else {
                panic!("no dialog")
            };
            dialog.focus = Part::Choice(Choice::Sharing);
            press(state, KeyCode::Right);
        }
        let whom = [
            "Each of the 2 tagged processes",
            "The 2 tagged processes together",
        ];
        assert_eq!(
            scene.sentence(),
            format!(
                "{} may neither download nor upload; 2 run now.",
                whom[usize::from(shared)]
            )
        );
        scene.carry_out(KeyCode::Enter);
        assert!(scene.state.tags.is_empty());
        let rules = scene.rules();
        let targets: HashSet<ProcessKey> = rules
            .iter()
            .flat_map(|rule| rule.target.processes())
            .map(|id| keys.iter().copied().find(|key| id.is(*key)).unwrap())
            .collect();
        assert_eq!(targets, keys.iter().copied().collect());
        assert_eq!(rules.len(), if shared { 1 } else { 2 });
        assert!(rules.iter().all(|rule| rule.limits == BLOCKED));
        scene.carry_out(KeyCode::Char('u'));
        assert_eq!(scene.rules(), []);
    }
}

#[test]
fn removing_a_rule_of_more_than_the_row_asks_first() {
    let mut scene = Scene::new();
    let row = scene.lead();
    let rule = Rule {
        sharing: Sharing::Shared,
        ..by_hand(Target::program(&row.name), down(9_000_000))
    };
    scene.set(rule.clone());
    scene.state.select(position(&scene.state, row.key));
    assert_eq!(scene.press(KeyCode::Char('r')), None);
    let asked = question(&scene.state);
    let count = scene.state.snapshot.limits[0].members;
    assert!(asked.contains(&format!(
        "as part of the program {}: {count} process",
        row.name
    )));
    scene.press(KeyCode::Char('n'));
    assert_eq!(scene.rules(), std::slice::from_ref(&rule));
    scene.press(KeyCode::Char('r'));
    scene.carry_out(KeyCode::Char('y'));
    assert_eq!(scene.rules(), []);
    scene.carry_out(KeyCode::Char('u'));
    assert_eq!(scene.rules(), [rule]);
}

#[test]
fn a_rule_of_the_file_stays_but_a_limit_set_here_comes_before_it() {
    let mut scene = Scene::new();
    let row = scene.lead();
    let rule = Rule {
        origin: Origin::File("evening".into()),
        ..by_hand(Target::program(&row.name), down(9_000_000))
    };
    scene
        .world
        .apply(&Command::SetFile(vec![rule.clone()]))
        .unwrap();
    scene.show();
    scene.state.select(position(&scene.state, row.key));
    assert_eq!(scene.press(KeyCode::Char('r')), None);
    assert!(said(&scene.state).contains("the rule evening is in the rules file"));
    scene.press(KeyCode::Char('t'));
    scene.type_in("1K");
    scene.carry_out(KeyCode::Enter);
    assert_eq!(scene.rules(), [by_hand(row.key, down(1000)), rule.clone()]);
    scene.state.select(position(&scene.state, row.key));
    scene.carry_out(KeyCode::Char('r'));
    assert_eq!(scene.rules(), [rule]);
}

#[test]
fn removing_everything_asks_first_and_can_be_taken_back() {
    let mut scene = Scene::new();
    scene.press(KeyCode::Char('R'));
    assert_eq!(said(&scene.state), "nothing is limited");
    let key = scene.key();
    scene.set(by_hand(Target::program("curl"), down(7)));
    scene.set(by_hand(Target::program("nobody"), down(6)));
    scene.set(by_hand(key, down(5)));
    let before = scene.rules();
    assert_eq!(scene.press(KeyCode::Char('R')), None);
    assert!(question(&scene.state).contains("3 limits"));
    let ask = scene.carry_out(KeyCode::Char('y'));
    assert_eq!(ask.commands, [Command::RemoveAll]);
    assert_eq!(scene.rules(), []);
    scene.carry_out(KeyCode::Char('u'));
    assert_eq!(scene.rules(), before, "in the order there was");
}

#[test]
fn the_list_shows_changes_and_removes_limits_of_nobody() {
    let mut scene = Scene::new();
    scene.set(by_hand(Target::program("nobody"), down(5)));
    scene.press(KeyCode::Char('l'));
    assert_eq!(scene.state.selected_limit().unwrap().members, 0);
    scene.press(KeyCode::Enter);
    assert_eq!(dialog(&scene.state).limits(), Ok(down(5)));
    empty_field(&mut scene.state);
    scene.type_in("2M");
    // Other traffic: the rule is changed all the same, not a second one set.
    for _ in 0..3 {
        scene.press(KeyCode::Tab);
    }
    scene.press(KeyCode::Right);
    scene.carry_out(KeyCode::Enter);
    let changed = Rule {
        scope: Scope::Internet,
        ..by_hand(Target::program("nobody"), down(2_000_000))
    };
    assert_eq!(scene.rules(), std::slice::from_ref(&changed));
    // Back in the list.
    assert!(matches!(scene.state.overlay, Overlay::Limits(_)));
    scene.carry_out(KeyCode::Char('r'));
    assert_eq!(scene.rules(), []);
    assert_eq!(scene.press(KeyCode::Char('r')), None);
    scene.carry_out(KeyCode::Char('u'));
    assert_eq!(scene.rules(), [changed]);
    scene.carry_out(KeyCode::Char('u'));
    assert_eq!(scene.rules(), [by_hand(Target::program("nobody"), down(5))]);
    scene.press(KeyCode::Esc);
    assert!(matches!(scene.state.overlay, Overlay::None));
}

#[test]
fn what_carries_the_terminal_is_limited_on_probation() {
    let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
    for keeps in [false, true] {
        let mut scene = Scene::new();
        let key = scene.key();
        update(&mut scene.state, Message::Carriers(vec![key]), UNIX_EPOCH);
        scene.press(KeyCode::Char('t'));
        scene.type_in("1K");
        // Its program carries it as well.
        for _ in 0..2 {
            scene.press(KeyCode::Tab);
        }
        scene.press(KeyCode::Right);
        scene.press(KeyCode::Right);
        assert_eq!(scene.press(KeyCode::Enter), None);
        assert!(question(&scene.state).contains("carries this terminal"));
        scene.carry_out(KeyCode::Char('y'));
        let rules = scene.rules();
        assert_eq!(rules.len(), 1);
        let state = &mut scene.state;
        assert_eq!(update(state, Message::Tick, at(29)), None);
        assert_eq!(state.changes_in(at(29)), Some(Duration::from_secs(1)));
        if keeps {
            press_at(state, KeyCode::Char('K'), at(29));
            assert_eq!(update(state, Message::Tick, at(31)), None);
            assert_eq!(scene.rules(), rules);
        } else {
            let back = asked(update(state, Message::Tick, at(30)));
            scene.answer(&back);
            assert_eq!(scene.rules(), []);
        }
        assert!(scene.state.probation.is_none());
    }
}

#[test]
fn the_present_limit_fills_the_dialog() {
    let mut scene = Scene::new();
    let row = scene.lead();
    // The dialog changes what limits the row, and says so.
    for (target, words) in [
        (
            Target::program(&row.name),
            format!("the program {}", row.name),
        ),
        (row.key.into(), subject(&row)),
    ] {
        scene.set(Rule {
            scope: Scope::Internet,
            ..by_hand(target, down(1_500_000))
        });
        scene.state.select(position(&scene.state, row.key));
        scene.press(KeyCode::Char('t'));
        assert_eq!(dialog(&scene.state).limits(), Ok(down(1_500_000)));
        assert_eq!(dialog(&scene.state).words(), words);
        assert_eq!(dialog(&scene.state).scope, Scope::Internet);
        scene.press(KeyCode::Esc);
    }
}

#[test]
fn a_row_that_two_rules_limit_is_freed_of_both() {
    let mut scene = Scene::new();
    let row = scene.lead();
    // Whose command line this is, the table can't tell.
    let by_command_line = Target::Program {
        by: ProgramField::CommandLine,
        pattern: Pattern::exactly(&row.exe),
    };
    let up = Limits {
        upload: down(1_000).download,
        ..Limits::default()
    };
    scene.set(by_hand(by_command_line, up));
    scene.set(by_hand(row.key, down(9_000_000)));
    let before = scene.rules();
    assert_eq!(before.len(), 2);
    scene.state.select(position(&scene.state, row.key));
    // One of them is for others, too.
    assert_eq!(scene.press(KeyCode::Char('r')), None);
    assert!(question(&scene.state).contains("as part of the command line"));
    let ask = scene.carry_out(KeyCode::Char('y'));
    assert_eq!(ask.commands.len(), 2);
    assert_eq!(scene.rules(), []);
    scene.carry_out(KeyCode::Char('u'));
    assert_eq!(scene.rules(), before);
}
