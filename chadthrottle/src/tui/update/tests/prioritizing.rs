//! Priorities, by keys and in the dialog.

use super::*;
use crate::model::priority::Priority;

#[test]
fn a_key_sends_to_the_background_and_back() {
    let mut state = state();
    let ask = asked(press(&mut state, KeyCode::Char('1')));
    let [Command::Set(rule)] = &ask.commands[..] else {
        panic!("{ask:?}")
    };
    assert!(rule.is_background());
    assert!(
        ask.done
            .ends_with("in the background, has what others leave")
    );
    let target = rule.target.clone();
    agree(&mut state, ask);
    let ask = asked(press(&mut state, KeyCode::Char('2')));
    let back = Command::limit(target, Limits::default());
    assert_eq!(ask.commands, [back]);
}

#[test]
fn a_priority_is_chosen_in_the_dialog() {
    let mut scene = Scene::new();
    let row = scene.lead();
    let (name, pid) = (row.name.to_string(), row.pid());
    let priority = |scene: &mut Scene, key| {
        scene.press(KeyCode::Char('t'));
        for _ in 0..5 {
            scene.press(KeyCode::Tab);
        }
        scene.press(key);
        let sentence = scene.sentence();
        scene.carry_out(KeyCode::Enter);
        sentence
    };
    assert_eq!(
        priority(&mut scene, KeyCode::Right),
        format!("{name} ({pid}) may have what it wants, before everybody else over the internet.")
    );
    assert_eq!(scene.rules(), [Rule::with_high_priority(row.key)]);
    // From high to normal: it is as everybody again.
    priority(&mut scene, KeyCode::Left);
    assert_eq!(scene.rules(), []);
    priority(&mut scene, KeyCode::Left);
    assert!(scene.rules()[0].is_background());
    // A number besides.
    scene.press(KeyCode::Char('t'));
    scene.type_in("1M");
    scene.carry_out(KeyCode::Enter);
    let rule = &scene.rules()[0];
    assert!(rule.is_background());
    assert_eq!(rule.ceiling, down(1_000_000));
    // What has nothing is in no background.
    scene.press(KeyCode::Char('t'));
    empty_field(&mut scene.state);
    scene.type_in("0");
    assert_eq!(scene.press(KeyCode::Enter), None);
    let error = dialog(&scene.state).error.as_deref();
    assert!(error.is_some_and(|error| error.contains("what is blocked has nothing")));
}

/// One priority is about all traffic, and another about that of the internet.
#[test]
fn a_priority_takes_the_place_of_every_other_one() {
    let keys = ['1', '2', '3'];
    for (first, second) in keys.iter().flat_map(|a| keys.map(|b| (*a, b))) {
        let mut scene = Scene::new();
        scene.carry_out(KeyCode::Char(first));
        scene.carry_out(KeyCode::Char(second));
        let rules = scene.rules();
        let priorities: Vec<Priority> = rules.iter().map(|rule| rule.priority).collect();
        let expected: &[Priority] = match second {
            '1' => &[Priority::Background],
            '3' => &[Priority::High],
            _ => &[],
        };
        assert_eq!(priorities, expected, "{first}, {second}");
    }
}
