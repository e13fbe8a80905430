//! A made-up world at a fixed time, and a person who presses keys.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use chadthrottle::{
    demo::World,
    engine::{
        command::Command,
        snapshot::{
            LimitId, LimitState, Limits, Mechanism, Notice, ProcessRow, Severity, Snapshot,
        },
    },
    process::ProcessKey,
    rate::{Bytes, Rate},
    rules::{
        rule::{Origin, Rule, Scope, Sharing},
        target::Target,
    },
    tui::{
        action::{Effect, Message},
        keymap,
        preferences::Preferences,
        state::State,
        update::update,
        view::{
            self,
            theme::{Palette, Theme},
        },
    },
};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::{Terminal, backend::TestBackend, buffer::Buffer, layout::Size};
use unicode_width::UnicodeWidthStr;

/// When it is.
pub fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

/// A world after ten seconds.
pub fn busy(processes: usize) -> Snapshot {
    Snapshot::clone(&past(processes)[9])
}

/// The ten seconds.
fn past(processes: usize) -> Vec<Arc<Snapshot>> {
    let mut world = World::new(7, processes, now() - Duration::from_secs(10));
    let moment = |_| {
        world.advance(Duration::from_secs(1));
        Arc::new(world.snapshot().clone())
    };
    (0..10).map(moment).collect()
}

/// The busiest process, the second, and so on.
pub fn nth(snapshot: &mut Snapshot, n: usize) -> &mut ProcessRow {
    let mut rows: Vec<&mut ProcessRow> = snapshot.processes.iter_mut().collect();
    rows.sort_by_key(|row| std::cmp::Reverse(row.total_rate()));
    rows.swap_remove(n)
}

/// A limit that is in force.
pub fn limit(download: Option<u64>, upload: Option<u64>) -> Option<LimitState> {
    let limits = limits(download, upload);
    Some(LimitState::new(LimitId(1), limits, Mechanism::Policing))
}

/// Rules in force in a world after ten seconds, and two more.
pub fn with_rules(rules: Vec<Rule>) -> Snapshot {
    let mut world = World::new(7, 30, now() - Duration::from_secs(12));
    for second in 0..12 {
        if second == 10 {
            for rule in &rules {
                world.apply(&Command::Set(Box::new(rule.clone()))).unwrap();
            }
        }
        world.advance(Duration::from_secs(1));
    }
    world.snapshot().clone()
}

/// Limits, by rates in both directions.
pub fn limits(download: Option<u64>, upload: Option<u64>) -> Limits {
    Limits {
        download: download.map(Rate::from_bytes_per_second),
        upload: upload.map(Rate::from_bytes_per_second),
    }
}

/// Some limited, some blocked; by rules for one process and for several, here and in a file.
pub fn limited() -> Snapshot {
    let mut busy = busy(30);
    let mut key = |n| nth(&mut busy, n).key;
    let process = |key: ProcessKey, download, upload| Rule::by_hand(key, limits(download, upload));
    let shared = |target, download, upload| Rule {
        sharing: Sharing::Shared,
        ..Rule::by_hand(target, limits(download, upload))
    };
    let backup = Rule {
        origin: Origin::File("backup-by-day".into()),
        scope: Scope::Internet,
        ..shared(Target::program("rsync"), None, Some(2_000_000))
    };
    let local = Rule {
        scope: Scope::Local,
        ..shared(Target::Unit("nginx.service".into()), None, Some(5_000_000))
    };
    with_rules(vec![
        process(key(1), Some(5_000_000), None),
        process(key(2), Some(1_500_000), Some(100_000)),
        process(key(3), None, Some(0)),
        process(key(4), Some(0), Some(0)),
        process(key(5), None, Some(25_000_000)),
        shared(Target::program("curl"), Some(3_000_000), None),
        shared(Target::program("borg"), Some(1_000_000), Some(1_000_000)),
        local,
        backup,
    ])
}

/// Much that belongs to nobody, and a limit that does not hold.
pub fn degraded() -> Snapshot {
    let mut snapshot = limited();
    snapshot.unattributed.download = Bytes::new(snapshot.total.download.count() / 4);
    let mut rows = snapshot.processes.iter_mut();
    let limit = rows.find_map(|row| row.limit.as_mut().filter(|limit| limit.id == LimitId(1)));
    let why = Some("another program was attached to its cgroup first".to_owned());
    limit.unwrap().effect.not_enforced.clone_from(&why);
    let mut limits = snapshot.limits.iter_mut();
    let limit = limits.find(|limit| limit.id == LimitId(1)).unwrap();
    limit.effect.not_enforced = why;
    snapshot.notices.push(Notice {
        id: 1,
        time: now(),
        severity: Severity::Warning,
        text: "sockets of process 812 could not be read: operation not permitted".into(),
    });
    snapshot
}

/// The screen and who sits before it.
pub struct Person {
    pub state: State,
    pub effects: Vec<Effect>,
}

impl Person {
    pub fn before(snapshot: Snapshot, size: Size) -> Self {
        // The others of the same world: there is something behind the present rates.
        let past = past(snapshot.processes.len());
        Self::after(&past[..9], snapshot, size)
    }

    pub fn after(past: &[Arc<Snapshot>], snapshot: Snapshot, size: Size) -> Self {
        let preferences = Preferences::default();
        Self {
            state: State::new(Arc::new(snapshot), size, now(), preferences, past),
            effects: Vec::new(),
        }
    }

    pub fn press(&mut self, code: KeyCode) -> &mut Self {
        let event = KeyEvent::new(code, KeyModifiers::NONE);
        if let Some(action) = keymap::action(self.state.context(), event) {
            self.tell(Message::Act(action));
        }
        self
    }

    pub fn type_in(&mut self, text: &str) -> &mut Self {
        text.chars().for_each(|c| {
            self.press(KeyCode::Char(c));
        });
        self
    }

    pub fn tell(&mut self, message: Message) -> &mut Self {
        self.effects.extend(update(&mut self.state, message, now()));
        self
    }

    /// The engine refuses the last thing asked of it.
    pub fn refuse(&mut self, error: &str) -> &mut Self {
        let Some(Effect::Ask(ask)) = self.effects.pop() else {
            panic!("nothing was asked");
        };
        self.tell(Message::Answered(ask, Err(error.into())))
    }

    pub fn read_log(&mut self) -> &mut Self {
        let lines = (0..40).map(|n| {
            format!("[2027-01-15T08:00:{n:02}Z DEBUG chadthrottle::kernel] line {n} of the log, long enough to need a second line where the terminal is narrow")
        });
        let path = PathBuf::from("/run/chadthrottle/chadthrottle.log");
        self.tell(Message::Log(lines.collect(), Some(path)))
    }

    pub fn picture(&self, palette: Palette) -> Buffer {
        let Size { width, height } = self.state.size;
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let theme = Theme::new(palette);
        terminal
            .draw(|frame| view::render(frame, &self.state, &theme))
            .unwrap();
        terminal.backend().buffer().clone()
    }
}

/// The characters of a picture.
pub fn text(picture: &Buffer) -> String {
    let width = usize::from(picture.area.width.max(1));
    let lines = picture.content.chunks(width).map(|line| {
        // A wide character covers the cell after its own.
        let mut covered = 0;
        let mut text = String::new();
        for cell in line {
            if covered == 0 {
                text.push_str(cell.symbol());
                covered = cell.symbol().width();
            }
            covered = covered.saturating_sub(1);
        }
        text.trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}
