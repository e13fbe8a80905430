//! Every part of the screen in every state, at the sizes that matter.

use chadthrottle::{
    model::{
        direction::PerDirection,
        rule::Rule,
        snapshot::Snapshot,
        target::Target,
        uplink::{Devices, Uplink},
    },
    rate::{Bytes, Rate},
    tui::{Keeper, Phase, action::Message, view::theme::Palette},
};
use crossterm::event::KeyCode::{Char, Down, End, Enter, PageDown, PageUp, Tab};
use insta::assert_snapshot;
use ratatui::{
    layout::Size,
    style::{Color, Modifier},
};

use crate::scene::{Person, busy, degraded, limited, limits, nth, styled, text, with_rules};

const SIZES: [Size; 5] = [
    Size::new(40, 10),
    Size::new(60, 20),
    Size::new(80, 24),
    Size::new(120, 40),
    Size::new(200, 60),
];

/// The same scene at every size, below each other.
fn at_all_sizes(snapshot: &Snapshot, act: impl Fn(&mut Person)) -> String {
    let pictures = SIZES.map(|size| {
        let mut person = Person::before(snapshot.clone(), size);
        act(&mut person);
        titled(&person)
    });
    pictures.concat()
}

fn titled(person: &Person) -> String {
    let Size { width, height } = person.state.size;
    let picture = text(&person.picture(Palette::Dark));
    format!("── {width}×{height} ──\n{picture}\n")
}

#[test]
fn table() {
    assert_snapshot!("table_empty", at_all_sizes(&busy(0), |_| {}));
    assert_snapshot!("table_busy", at_all_sizes(&busy(70), |_| {}));
    assert_snapshot!("table_limited", at_all_sizes(&limited(), |_| {}));
    assert_snapshot!(
        "table_degraded",
        at_all_sizes(&degraded(), |person| {
            person.read_log();
        })
    );
    assert_snapshot!(
        "table_end",
        at_all_sizes(&busy(70), |person| {
            person.press(End);
        })
    );
}

#[test]
fn table_with_an_ended_process() {
    let mut snapshot = limited();
    for n in [0, 2] {
        nth(&mut snapshot, n).ended = true;
    }
    assert_snapshot!("table_ended", at_all_sizes(&snapshot, |_| {}));
}

#[test]
fn why_a_limit_does_not_hold_is_said_beside_it() {
    let mut snapshot = degraded();
    snapshot.notices.clear();
    assert_snapshot!(
        "not_enforced",
        at_all_sizes(&snapshot, |person| {
            person.press(Char('j'));
        })
    );
}

#[test]
fn what_devices_carried_for_nobody_is_said_beside_the_coverage() {
    let mut snapshot = limited();
    let both = |rate: u64| PerDirection::of(|_| Rate::from_bytes_per_second(rate));
    snapshot.devices = Devices {
        uplinks: vec![Uplink {
            name: "enp3s0".into(),
            bytes: PerDirection::of(|_| Bytes::new(9_000_000_000)),
            rate: both(12_300_000),
            unaccounted: PerDirection::of(|_| Bytes::new(2_000_000_000)),
            unaccounted_rate: both(1_100_000),
        }],
        loopback: Rate::from_bytes_per_second(340_000_000),
    };
    assert_snapshot!("strangers", at_all_sizes(&snapshot, |_| {}));
}

#[test]
fn a_limit_that_settles_is_not_said_to_be_exceeded() {
    let mut snapshot = limited();
    let limits = snapshot.processes.iter_mut().flat_map(|row| &mut row.limit);
    for limit in limits {
        limit.effect.settling = true;
        limit.effect.achieved = limit
            .effect
            .achieved
            .map(|_| Rate::from_bytes_per_second(1 << 30));
    }
    let screens = at_all_sizes(&snapshot, |person| {
        person.press(Char('j'));
    });
    assert!(screens.contains("settling") && !screens.contains("999%"));
    assert_snapshot!("settling", screens);
}

#[test]
fn names_that_fit_nowhere() {
    let mut snapshot = busy(6);
    nth(&mut snapshot, 0).name = "\u{1b}[31mred\n".into();
    nth(&mut snapshot, 1).name = "浏览器进程的名字很长".into();
    nth(&mut snapshot, 2).user = "a-user-with-a-very-long-name".into();
    nth(&mut snapshot, 3).key.pid.0 = 4_194_303;
    nth(&mut snapshot, 3).connections = 1_000_000;
    assert_snapshot!("odd_names", at_all_sizes(&snapshot, |_| {}));
}

#[test]
fn dialog() {
    let unlimited = busy(30);
    assert_snapshot!(
        "dialog_empty",
        at_all_sizes(&unlimited, |person| {
            person.press(Char('t'));
        })
    );
    assert_snapshot!(
        "dialog_typed",
        at_all_sizes(&unlimited, |person| {
            person
                .press(Char('t'))
                .type_in("500K")
                .press(Tab)
                .type_in("0");
        })
    );
    assert_snapshot!(
        "dialog_wrong_entry",
        at_all_sizes(&unlimited, |person| {
            person.press(Char('t')).type_in("8Mbps").press(Enter);
        })
    );
    assert_snapshot!(
        "dialog_engine_error",
        at_all_sizes(&unlimited, |person| {
            person.press(Char('t')).type_in("1MiB").press(Enter);
            person.refuse("the kernel refused: attaching to /sys/fs/cgroup/system.slice/curl.service: operation not permitted");
        })
    );
    let busiest = nth(&mut unlimited.clone(), 0).key;
    let rule = Rule::by_hand(busiest, limits(Some(1_500_000), Some(250_000)));
    let snapshot = with_rules(vec![rule]);
    assert_snapshot!(
        "dialog_prefilled",
        at_all_sizes(&snapshot, |person| {
            person.press(Char('t'));
        })
    );
}

#[test]
fn dialog_of_a_process_that_ends() {
    let running = busy(30);
    let mut ended = running.clone();
    nth(&mut ended, 0).ended = true;
    assert_snapshot!(
        "dialog_ended",
        at_all_sizes(&running, |person| {
            person.press(Char('t')).type_in("500K");
            person.tell(Message::Snapshot(ended.clone().into()));
        })
    );
}

#[test]
fn help_and_log() {
    assert_snapshot!(
        "help",
        at_all_sizes(&busy(10), |person| {
            person.press(Char('?'));
        })
    );
    assert_snapshot!(
        "help_end",
        at_all_sizes(&busy(10), |person| {
            person.press(Char('h')).press(End);
        })
    );
    assert_snapshot!(
        "log",
        at_all_sizes(&degraded(), |person| {
            person.read_log().press(Char('L'));
        })
    );
    assert_snapshot!(
        "log_scrolled",
        at_all_sizes(&degraded(), |person| {
            person.read_log().press(Char('L')).press(PageUp);
        })
    );
    assert_snapshot!(
        "log_notices",
        at_all_sizes(&degraded(), |person| {
            person.read_log().press(Char('L')).press(Tab);
        })
    );
}

#[test]
fn limits_in_force() {
    assert_snapshot!(
        "limits_empty",
        at_all_sizes(&busy(10), |person| {
            person.press(Char('l'));
        })
    );
    assert_snapshot!(
        "limits_limited",
        at_all_sizes(&limited(), |person| {
            person.press(Char('l')).press(Down);
        })
    );
    assert_snapshot!(
        "limits_degraded",
        at_all_sizes(&degraded(), |person| {
            person.press(Char('l')).press(End);
        })
    );
    assert_snapshot!(
        "limits_dialog",
        at_all_sizes(&limited(), |person| {
            person.press(Char('l')).press(End).press(Enter);
        })
    );
}

#[test]
fn details_questions_groups_filters_and_tags() {
    let limited = limited();
    let curl = |person: &mut Person| {
        person.type_in("/curl limited").press(Enter);
    };
    assert_snapshot!(
        "details_busy",
        at_all_sizes(&busy(30), |person| {
            person.press(Enter);
        })
    );
    assert_snapshot!(
        "details_limited",
        at_all_sizes(&limited, |person| {
            curl(person);
            person.press(Enter);
        })
    );
    assert_snapshot!(
        "dialog_of_a_program",
        at_all_sizes(&limited, |person| {
            curl(person);
            person.type_in("t").press(Tab).press(Tab);
        })
    );
    assert_snapshot!(
        "question_of_more",
        at_all_sizes(&limited, |person| {
            curl(person);
            person.press(Char('r'));
        })
    );
    assert_snapshot!(
        "groups",
        at_all_sizes(&limited, |person| {
            person.type_in("v");
        })
    );
    assert_snapshot!(
        "units",
        at_all_sizes(&limited, |person| {
            person.type_in("vv");
        })
    );
    assert_snapshot!(
        "tags_and_filter",
        at_all_sizes(&limited, |person| {
            person.type_in("  /curl");
        })
    );
    assert_snapshot!(
        "dialog_of_tagged",
        at_all_sizes(&limited, |person| {
            person.type_in("   t2M");
        })
    );
}

#[test]
fn details_of_a_limit_that_does_not_hold() {
    assert_snapshot!(
        "details_degraded",
        at_all_sizes(&degraded(), |person| {
            person.press(Down).press(Enter);
        })
    );
    let mut ended = limited();
    nth(&mut ended, 0).ended = true;
    assert_snapshot!(
        "details_ended",
        at_all_sizes(&ended, |person| {
            person.press(Enter);
        })
    );
}

#[test]
fn details_tell_why_background_traffic_has_what_it_has() {
    let name = nth(&mut busy(30), 0).name.clone();
    let background = with_rules(vec![Rule::in_background(Target::program(&name))]);
    assert_snapshot!(
        "details_background",
        at_all_sizes(&background, |person| {
            person.type_in("/limited").press(Enter).press(Enter);
        })
    );
}

#[test]
fn details_name_the_rule_of_each_direction() {
    let key = nth(&mut busy(30), 0).key;
    let name = nth(&mut busy(30), 0).name.clone();
    let by = |target: Target, download, upload| Rule::by_hand(target, limits(download, upload));
    let snapshot = with_rules(vec![
        by(Target::program(&name), Some(2_000_000), Some(1_000_000)),
        by(key.into(), Some(5_000_000), None),
    ]);
    let mut person = Person::before(snapshot, SIZES[2]);
    person.type_in("/limited").press(Enter);
    for _ in 0..30 {
        if person.state.selected().unwrap().key != key {
            person.press(Down);
        }
    }
    person.press(Enter);
    let shown = text(&person.picture(Palette::Dark));
    let lines: Vec<&str> = shown
        .lines()
        .map(|line| line.trim_matches(['│', ' ']))
        .collect();
    assert!(
        lines.contains(&"download for this process, set 2 s ago"),
        "{shown}"
    );
    let other = format!("upload for each process of the program {name}, set 2 s ago, by pacing");
    assert!(lines.contains(&&*other), "{shown}");
}

#[test]
fn before_and_after_the_engine() {
    let starting = SIZES.map(|size| titled(&Person::starting(size)));
    assert_snapshot!("starting", starting.concat());
    assert_snapshot!(
        "engine_stopped",
        at_all_sizes(&busy(10), |person| {
            person.tell(Message::EngineStopped);
        })
    );
}

#[test]
fn leaving_says_what_becomes_of_limits() {
    assert_snapshot!(
        "quit",
        at_all_sizes(&limited(), |person| {
            person.type_in("q");
        })
    );
}

#[test]
fn limits_of_a_daemon_stay() {
    let of_daemon = |person: &mut Person| {
        person.state.phase = Phase::Running(Keeper::Daemon { pid: 4242 });
    };
    assert_snapshot!(
        "daemon_quit",
        at_all_sizes(&limited(), |person| {
            of_daemon(person);
            person.type_in("q");
        })
    );
    // The first is so narrow that the help's words are broken.
    for size in &SIZES[1..] {
        let mut person = Person::before(busy(10), *size);
        of_daemon(&mut person);
        person.type_in("?");
        let mut seen = String::new();
        for _ in 0..20 {
            seen += &text(&person.picture(Palette::Dark));
            person.press(PageDown);
        }
        assert!(seen.contains("the daemon keeps its limits"), "{seen}");
        assert!(!seen.contains("limits end with it"), "{seen}");
    }
    assert_snapshot!(
        "daemon_stopped",
        at_all_sizes(&limited(), |person| {
            of_daemon(person);
            person.tell(Message::EngineStopped);
        })
    );
}

/// What stands in which style where.
fn in_colours(palette: Palette) -> String {
    let size = Size::new(100, 24);
    let pictures = ["", "t", "\n", "l", "/x"].map(|keys| {
        let mut person = Person::before(degraded(), size);
        for key in keys.chars() {
            person.press(match key {
                '\n' => Enter,
                key => Char(key),
            });
        }
        let picture = person.picture(palette);
        for cell in &picture.content {
            // The terminal's own, so that they fit its scheme, and 16 colours are enough.
            let own = |colour| !matches!(colour, Color::Rgb(..) | Color::Indexed(_));
            assert!(own(cell.fg) && own(cell.bg), "{cell:?}");
        }
        format!("── {keys:?} ──\n{}\n", styled(&picture))
    });
    pictures.concat()
}

#[test]
fn colours() {
    assert_snapshot!("colours_dark", in_colours(Palette::Dark));
    assert_snapshot!("colours_light", in_colours(Palette::Light));
    assert_snapshot!("colours_plain", in_colours(Palette::Plain));
}

#[test]
fn on_a_light_background_everything_can_be_read() {
    for keys in ["", "t", "l", "?", "L"] {
        let mut person = Person::before(degraded(), Size::new(120, 40));
        for cell in &person.type_in(keys).picture(Palette::Light).content {
            let pale = [
                Color::Yellow,
                Color::Cyan,
                Color::White,
                Color::Gray,
                Color::LightYellow,
                Color::LightCyan,
                Color::LightGreen,
            ];
            assert!(!pale.contains(&cell.fg), "{cell:?}");
            assert!(!cell.modifier.contains(Modifier::DIM), "{cell:?}");
        }
    }
}

#[test]
fn terminals_that_are_too_small_say_so() {
    for (width, height) in [(39, 10), (40, 9), (20, 5), (1, 1), (0, 0), (200, 2)] {
        let mut person = Person::before(busy(10), Size::new(width, height));
        person.press(Char('t'));
        let shown = text(&person.picture(Palette::Dark));
        let said = shown.contains(&format!("{width}×{height}"));
        assert!(said || width < 20 || height == 0, "{shown}");
    }
}

#[test]
fn without_colours_everything_is_still_told_apart() {
    for act in ["", "t", "tx", "?", "L"] {
        let mut person = Person::before(degraded(), Size::new(120, 40));
        let picture = person.type_in(act).picture(Palette::Plain);
        for cell in &picture.content {
            assert_eq!((cell.fg, cell.bg), (Color::Reset, Color::Reset));
        }
    }
    let mut snapshot = degraded();
    nth(&mut snapshot, 6).ended = true;
    let shown = text(&Person::before(snapshot, Size::new(80, 24)).picture(Palette::Plain));
    for mark in [" ▽", " ▼", " ■", " !", " †"] {
        let rows = shown.lines().skip(3).filter(|line| line.starts_with(mark));
        assert!(rows.count() > 0, "{mark} in\n{shown}");
    }
}
