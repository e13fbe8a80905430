//! The pictures in README and docs, made from the real screen so that they never lie.
//!
//! `CHADTHROTTLE_PICTURES=write cargo test -p chadthrottle --test tui picture` makes them anew.

use std::{env, fmt::Write as _, fs, path::Path, sync::Arc, time::Duration};

use chadthrottle::{
    demo::World,
    model::{command::Command, connections::Watch, snapshot::Snapshot},
    tui::view::theme::Palette,
};
use crossterm::event::KeyCode;
use ratatui::{
    buffer::{Buffer, Cell},
    layout::Size,
    style::{Color, Modifier},
};

use crate::scene::{Person, limit, now, nth};

/// Pixels of a cell.
const CELL: (f32, f32) = (8.4, 18.0);

const FOREGROUND: &str = "#d0d4d8";
const BACKGROUND: &str = "#12161b";

/// A minute in which a person has limited two processes and blocked a third.
fn world() -> (Vec<Arc<Snapshot>>, Snapshot) {
    let mut past = Vec::new();
    let mut world = World::new(11, 20, now() - Duration::from_secs(60));
    let mut pass = |seconds: u64, limited: &[(usize, Option<u64>, Option<u64>)]| {
        for &(n, download, upload) in limited {
            let mut snapshot = world.snapshot().clone();
            let key = nth(&mut snapshot, n).key;
            let limits = limit(download, upload).unwrap().limits;
            let command = Command::limit(key, limits);
            world.apply(&command).unwrap();
        }
        for _ in 0..seconds {
            world.advance(Duration::from_secs(1));
            past.push(Arc::new(world.snapshot().clone()));
        }
    };
    pass(40, &[]);
    pass(
        20,
        &[
            (1, Some(5_000_000), None),
            (3, Some(1_500_000), Some(250_000)),
            (8, Some(0), Some(0)),
        ],
    );
    let mut snapshot = world.snapshot().clone();
    let watch = Watch {
        process: Some(nth(&mut snapshot, 1).key),
        ports: false,
    };
    world.apply(&Command::Watch(watch)).unwrap();
    snapshot = world.snapshot().clone();
    snapshot.notices.clear();
    (past, snapshot)
}

#[test]
fn the_pictures_are_the_screen() {
    let (past, snapshot) = world();
    for (name, size, keys) in [
        ("interface", Size::new(120, 28), "jjjjj"),
        ("interface-details", Size::new(120, 28), "j\n"),
        ("interface-dialog", Size::new(100, 24), "vt3M\t\t\t "),
    ] {
        let mut person = Person::after(&past, snapshot.clone(), size);
        for c in keys.chars() {
            person.press(match c {
                '\n' => KeyCode::Enter,
                '\t' => KeyCode::Tab,
                c => KeyCode::Char(c),
            });
        }
        is_kept(name, &svg(&person.picture(Palette::Dark)));
    }
}

fn is_kept(name: &str, made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../docs/{name}.svg"));
    if env::var_os("CHADTHROTTLE_PICTURES").is_some() {
        fs::write(&path, made).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == made,
        "docs/{name}.svg is not what the screen looks like; make it anew with\n\
         CHADTHROTTLE_PICTURES=write cargo test -p chadthrottle --test tui picture"
    );
}

/// A terminal's picture.
fn svg(picture: &Buffer) -> String {
    let (width, height) = (
        f32::from(picture.area.width),
        f32::from(picture.area.height),
    );
    let (right, bottom) = (width * CELL.0 + 20.0, height * CELL.1 + 20.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {right:.0} {bottom:.0}\" \
         font-family=\"DejaVu Sans Mono, Menlo, Consolas, monospace\" \
         font-size=\"14\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{BACKGROUND}\"/>\n"
    );
    let columns = usize::from(picture.area.width);
    for (y, line) in picture.content.chunks(columns).enumerate() {
        let mut x = 0;
        for run in line.chunk_by(same_style) {
            draw(&mut svg, run, x, y);
            x += run.len();
        }
    }
    svg + "</svg>\n"
}

fn same_style(a: &Cell, b: &Cell) -> bool {
    (a.fg, a.modifier) == (b.fg, b.modifier)
}

fn draw(svg: &mut String, run: &[Cell], x: usize, y: usize) {
    let (left, top) = (x as f32 * CELL.0 + 10.0, y as f32 * CELL.1 + 10.0);
    let width = run.len() as f32 * CELL.0;
    let has = |modifier| run[0].modifier.contains(modifier);
    let mut ink = match run[0].fg {
        Color::Cyan => "#35b5c9",
        Color::Magenta => "#c678dd",
        Color::Yellow => "#d7a13b",
        Color::Red => "#e0605e",
        _ => FOREGROUND,
    };
    if has(Modifier::REVERSED) {
        let height = CELL.1;
        writeln!(svg, "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height}\" fill=\"{ink}\"/>").unwrap();
        ink = BACKGROUND;
    }
    let weight = if has(Modifier::BOLD) {
        " font-weight=\"bold\""
    } else {
        ""
    };
    let opacity = if has(Modifier::DIM) {
        " opacity=\"0.55\""
    } else {
        ""
    };
    let base = top + 13.5;
    // Each word stands where its cells are, so that columns hold with any font.
    let mut column = x;
    for word in run.chunk_by(|a, b| (a.symbol() == " ") == (b.symbol() == " ")) {
        let (left, width) = (column as f32 * CELL.0 + 10.0, word.len() as f32 * CELL.0);
        column += word.len();
        let text: String = word.iter().map(Cell::symbol).collect();
        if text.trim().is_empty() {
            continue;
        }
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        writeln!(
            svg,
            "<text x=\"{left:.1}\" y=\"{base:.1}\" textLength=\"{width:.1}\" fill=\"{ink}\"{weight}{opacity}>{text}</text>"
        )
        .unwrap();
    }
}
