//! A made-up world at a fixed time, and a person who presses keys.

use std::{
    fmt::Write as _,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use chadthrottle::{
    demo::World,
    model::{
        command::Command,
        direction::Limits,
        limit::{Effect as LimitEffect, LimitId, LimitState, Mechanism},
        notice::{Notice, Severity},
        process::ProcessKey,
        rule::{Origin, Rule, Scope, Sharing},
        snapshot::{ProcessRow, Snapshot},
        target::Target,
    },
    rate::{Bytes, Rate},
    tui::{
        Keeper, Phase,
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
use ratatui::{Terminal, backend::TestBackend, buffer::Buffer, layout::Size, style::Color};
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
    Some(LimitState::new(limits, Mechanism::Policing))
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
    let alone = "the qdisc htb was chosen for the device and is left alone";
    snapshot.mechanism = Mechanism::Mixed;
    snapshot.why_policing = Some(alone.into());
    let fail = |effect: &mut LimitEffect| {
        effect.mechanism = Mechanism::Policing;
        effect.why_policing = Some(alone.into());
        effect.not_enforced = Some("another program was attached to its cgroup first".into());
        effect.dropped.download = Bytes::new(1_230_000);
    };
    let rows = snapshot.processes.iter_mut();
    let first = rows.filter(|row| row.limits.ids().contains(&LimitId(1)));
    for limit in first.flat_map(|row| &mut row.limit) {
        fail(&mut limit.effect);
    }
    let limits = snapshot.limits.iter_mut();
    let first = limits.filter(|limit| limit.id == LimitId(1));
    first.for_each(|limit| fail(&mut limit.effect));
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
        let mut person = Self::starting(size);
        person.state.start(Arc::new(snapshot), past, Keeper::This);
        person
    }

    /// While the engine is being loaded.
    pub fn starting(size: Size) -> Self {
        Self {
            state: State::new(size, now(), Preferences::default()),
            effects: Vec::new(),
        }
    }

    /// The engine shows its first sample, or its next.
    pub fn show(&mut self, snapshot: Arc<Snapshot>) -> &mut Self {
        self.tell(match self.state.phase {
            Phase::Starting => Message::Started {
                snapshot,
                past: Vec::new(),
                keeper: Keeper::This,
            },
            _ => Message::Snapshot(snapshot),
        })
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

/// A person before a large machine: 10,000 processes with 100,000 sockets.
pub struct Large {
    world: World,
    pub person: Person,
}

impl Large {
    pub fn new(size: Size) -> Self {
        let mut world = World::new(7, 10_000, now());
        world.advance(Duration::from_secs(1));
        let person = Person::after(&[], world.snapshot().clone(), size);
        let large = Self { world, person };
        assert!(large.sockets() > 100_000, "{}", large.sockets());
        large
    }

    pub fn sockets(&self) -> u32 {
        let rows = self.world.snapshot().processes.iter();
        rows.map(|row| row.connections).sum()
    }

    /// A second later.
    pub fn next(&mut self) -> Arc<Snapshot> {
        self.world.advance(Duration::from_secs(1));
        Arc::new(self.world.snapshot().clone())
    }

    /// The engine learns what the screen wants to see besides the table.
    pub fn watch(&mut self) {
        let watch = Command::Watch(self.person.state.watch());
        self.world.apply(&watch).unwrap();
    }
}

/// The characters of a picture at this size, each line above the letters of its styles; then what
/// the letters stand for.
pub fn styled(picture: &Buffer) -> String {
    let mut legend: Vec<String> = Vec::new();
    let mut lines = String::new();
    let width = usize::from(picture.area.width.max(1));
    for (line, cells) in text(picture).lines().zip(picture.content.chunks(width)) {
        let letters = cells.iter().map(|cell| {
            let colour = |colour: Color| match colour {
                Color::Reset => String::new(),
                colour => format!(" {colour}"),
            };
            let (fg, bg) = (colour(cell.fg), colour(cell.bg));
            let style = format!("{:?}{fg}{}", cell.modifier, bg.replace(' ', " on "));
            if style == "NONE" {
                return ' ';
            }
            let known = legend.iter().position(|known| *known == style);
            let number = known.unwrap_or_else(|| {
                legend.push(style);
                legend.len() - 1
            });
            char::from(b'a' + number as u8)
        });
        let letters: String = letters.collect();
        let _ = writeln!(lines, "{}", format!("  {line}").trim_end());
        if !letters.trim().is_empty() {
            let _ = writeln!(lines, "~ {}", letters.trim_end());
        }
    }
    for (letter, style) in ('a'..).zip(legend) {
        let _ = writeln!(lines, "{letter}: {style}");
    }
    lines
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
