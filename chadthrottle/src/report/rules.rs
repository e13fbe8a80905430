//! `chadthrottle rules`: shows, checks and changes the rules file.

mod editor;

use std::{collections::BTreeSet, path::Path};

use anyhow::Context as _;
use jiff::Zoned;
use serde::Serialize;

use super::{record::describe, table::table};
use crate::{
    cli::rules::{RulesAction, RulesArgs},
    model::{
        direction::Limits,
        rule::{Scope, Sharing},
    },
    rules::{
        file::{
            FileRule, FileTarget, RulesFile, SystemUsers,
            document::{HEADER, Position, RulesDocument},
            mistake::Mistakes,
            read,
            store::{self, StoreError},
        },
        ledger::Ledger,
        plan::{Standing, State, plan},
        quota::Quota,
    },
};

/// Does what was asked for with the file itself; `apply` is the daemon's.
///
/// # Errors
///
/// The file can't be used, a change that makes no sense, and standard output's.
pub fn run(args: &RulesArgs) -> anyhow::Result<()> {
    let path = args.file.path();
    match &args.action {
        RulesAction::List { json } => list(&load(path)?, *json)?,
        RulesAction::Check => check(path)?,
        RulesAction::Apply => {}
        RulesAction::Add {
            name,
            rule,
            first,
            before,
        } => {
            let rule = rule.rule(name).map_err(anyhow::Error::msg)?;
            let position = match before {
                Some(name) => Position::Before(name),
                None if *first => Position::First,
                None => Position::Last,
            };
            change(path, |document| Ok(document.add(&rule, position)?))?;
            changed(path, &format!("added '{name}'"))?;
        }
        RulesAction::Edit {
            name,
            rule: args,
            rename,
            unset,
        } => {
            if args.is_empty() && rename.is_none() && unset.is_empty() {
                if let Some(name) = name {
                    is_there(path, name)?;
                }
                return editor::edit(path);
            }
            let name = name
                .as_ref()
                .context("which rule? Add its name; `chadthrottle rules list` shows them")?;
            change(path, |document| {
                let mut rule = match document.rules().rule(name) {
                    Some(rule) => rule.clone(),
                    // For the error that says so.
                    None => return Ok(document.remove(name)?),
                };
                unset.iter().for_each(|unset| unset.apply(&mut rule));
                args.change(&mut rule).map_err(anyhow::Error::msg)?;
                if let Some(rename) = rename {
                    rule.name = rename.as_str().into();
                }
                Ok(document.replace(name, &rule)?)
            })?;
            changed(path, &format!("changed '{name}'"))?;
        }
        RulesAction::Remove { name } => {
            change(path, |document| Ok(document.remove(name)?))?;
            changed(path, &format!("removed '{name}'"))?;
        }
    }
    Ok(())
}

fn changed(path: &Path, what: &str) -> std::io::Result<()> {
    let path = path.display();
    super::line(&format!(
        "{what} in {path}; `chadthrottle rules apply` puts it in force in a running daemon"
    ))
}

fn mistakes(path: &Path, mistakes: &Mistakes) -> anyhow::Error {
    anyhow::anyhow!("the rules are not right:\n{}", mistakes.in_file(path))
}

fn load(path: &Path) -> anyhow::Result<RulesFile> {
    let text = match store::read(path) {
        Err(error @ StoreError::Missing(_)) => {
            return Err(error).context("no rules; `chadthrottle rules add` makes the first");
        }
        text => text?,
    };
    read(&text).map_err(|found| mistakes(path, &found))
}

/// Sees to it that there is a rule of this name, unless the file is first to be set right.
fn is_there(path: &Path, name: &str) -> anyhow::Result<()> {
    let text = match store::read(path) {
        Err(StoreError::Missing(_)) => String::new(),
        text => text?,
    };
    if let Ok(document) = text.parse::<RulesDocument>() {
        document.place(name)?;
    }
    Ok(())
}

fn check(path: &Path) -> anyhow::Result<()> {
    let file = load(path)?;
    let mut warnings = 0;
    let plan = planned(&file);
    for (rule, standing) in file.rules.iter().zip(&plan) {
        if standing.state == State::NoSuchUser
            && let FileTarget::User(user) = &rule.target
        {
            warnings += 1;
            super::line(&format!(
                "{}: rule '{}': there is no user '{user}' here; it waits until there is",
                path.display(),
                rule.name
            ))?;
        }
    }
    let count = file.rules.len();
    let rules = if count == 1 { "rule" } else { "rules" };
    let warned = match warnings {
        0 => "all right",
        _ => "right, but for the above",
    };
    super::line(&format!("{}: {count} {rules}, {warned}", path.display()))?;
    Ok(())
}

fn change(
    path: &Path,
    change: impl FnOnce(&mut RulesDocument) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    make_folder(path)?;
    store::update(path, |text| {
        let mut document: RulesDocument = text
            .unwrap_or(HEADER)
            .parse()
            .map_err(|found| mistakes(path, &found))?;
        change(&mut document)?;
        Ok(document.text())
    })
}

/// Only the usual folder is made: a name that was mistyped should not make others.
fn make_folder(path: &Path) -> anyhow::Result<()> {
    if path != Path::new(crate::rules::file::DEFAULT) {
        return Ok(());
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    match std::fs::create_dir(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("{} can't be made; are you root?", folder.display()))
        }
        _ => Ok(()),
    }
}

fn planned(file: &RulesFile) -> Vec<Standing> {
    let nothing_moved = Ledger::default();
    let nothing_paused = BTreeSet::new();
    plan(
        file,
        &nothing_moved,
        &SystemUsers,
        &nothing_paused,
        &Zoned::now(),
    )
    .standings
}

/// A rule as JSON has it.
#[derive(Serialize)]
struct RuleRecord<'a> {
    name: &'a str,
    target: &'a FileTarget,
    traffic: Scope,
    limits: Limits,
    sharing: Sharing,
    schedule: String,
    quota: Option<Quota>,
    state: State,
}

fn list(file: &RulesFile, json: bool) -> std::io::Result<()> {
    let standings = planned(file);
    let rules = || file.rules.iter().zip(&standings);
    if json {
        let records: Vec<RuleRecord<'_>> = rules()
            .map(|(rule, standing)| RuleRecord {
                name: &rule.name,
                target: &rule.target,
                traffic: rule.scope,
                limits: rule.limits,
                sharing: rule.sharing,
                schedule: rule.schedule.to_string(),
                quota: rule.quota,
                state: standing.state,
            })
            .collect();
        return super::json_line(&records);
    }
    let head = ["RULE", "TARGET", "LIMITS", "WHEN", "QUOTA", "NOW"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for (rule, standing) in rules() {
        let (key, aim) = rule.target.key_and_value();
        rows.push(vec![
            rule.name.to_string(),
            format!("{key} {aim}"),
            limits(rule),
            rule.schedule.to_string(),
            rule.quota
                .map_or("-".to_owned(), |quota| quota_words(&quota)),
            match standing.state {
                State::InForce => "due".to_owned(),
                waits => waits.words().to_owned(),
            },
        ]);
    }
    super::line(table(&rows).trim_end())
}

fn limits(rule: &FileRule) -> String {
    let mut words = describe(rule.terms());
    if rule.scope != Scope::All {
        words += &format!(", {}", rule.scope);
    }
    if rule.sharing == Sharing::Shared {
        words += ", shared";
    }
    words
}

fn quota_words(quota: &Quota) -> String {
    let count = match quota.count {
        crate::rules::quota::Count::Both => String::new(),
        direction => format!(" {direction}"),
    };
    format!("{}{count}, then {}", quota.allowance(), quota.then)
}
