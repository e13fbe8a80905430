//! The rules while the daemon runs: read, read again, and brought into force when their time comes
//! or their quota is used up.

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use jiff::Zoned;

use crate::{
    model::{notice::Severity, rule::Rule, snapshot::Snapshot},
    rules::{
        file::{
            RulesFile, SystemUsers, Users, read,
            store::{self, StoreError},
        },
        ledger::{Ledger, LedgerError, Meter},
        plan::{Plan, plan},
        quota::Then,
    },
};

/// How often what was moved is written down: so much may be lost when the machine loses power.
const SAVE_EVERY: Duration = Duration::from_secs(5);

/// A plan that did not come into force is tried again after this time, and a user who was not
/// there is looked for again.
const AGAIN: Duration = Duration::from_secs(30);

/// Something that people should know.
pub type Said = (Severity, String);

/// The rules, and what has come of them so far.
pub struct Keeper {
    path: PathBuf,
    ledger_path: PathBuf,
    file: RulesFile,
    read_at: Option<SystemTime>,
    error: Option<String>,
    ledger: Ledger,
    /// Since when something of the ledger is not written down.
    unsaved: Option<Instant>,
    saving_fails: bool,
    meter: Meter,
    paused: BTreeSet<Arc<str>>,
    users: KnownUsers,
    plan: Plan,
    /// Whether the engine did what the plan says; if not, when to try again.
    in_force: Result<(), Instant>,
}

impl Keeper {
    /// Reads the rules, and what was moved so far.
    ///
    /// # Errors
    ///
    /// The rules are not right, or `must_exist` and there are none.
    pub fn start(path: &Path, must_exist: bool, state: &Path) -> anyhow::Result<(Self, Vec<Said>)> {
        let mut said = Vec::new();
        let (file, read_at) = match load(path) {
            Ok(file) => (file, Some(SystemTime::now())),
            Err(LoadError::Store(error @ StoreError::Missing(_))) if !must_exist => {
                let text = format!("{error}; only what is set by hand is in force");
                said.push((Severity::Info, text));
                (RulesFile::default(), None)
            }
            Err(error) => return Err(error.into()),
        };
        let ledger_path = state.join("quotas.json");
        let ledger = open_ledger(&ledger_path, &mut said);
        let mut keeper = Self {
            path: path.to_owned(),
            ledger_path,
            file,
            read_at,
            error: None,
            ledger,
            unsaved: None,
            saving_fails: false,
            meter: Meter::default(),
            paused: BTreeSet::new(),
            users: KnownUsers::default(),
            plan: Plan::default(),
            in_force: Ok(()),
        };
        let names = |name: &str| keeper.file.rule(name).is_some();
        keeper.ledger.close_old(names, Zoned::now().date());
        Ok((keeper, said))
    }

    /// Reads the rules again. If that fails, the old ones stay. What was ended by hand is in force
    /// again.
    ///
    /// # Errors
    ///
    /// What is wrong, in words.
    pub fn reload(&mut self) -> Result<(), String> {
        match load(&self.path) {
            Ok(file) => {
                self.file = file;
                self.read_at = Some(SystemTime::now());
                self.error = None;
                self.paused.clear();
                self.users = KnownUsers::default();
                // A rule may have failed for what has been set right since.
                self.in_force = Err(Instant::now());
                Ok(())
            }
            Err(error) => {
                let text = error.to_string();
                self.error = Some(text.clone());
                Err(text)
            }
        }
    }

    /// Takes in what rules have moved.
    pub fn observe(&mut self, snapshot: &Snapshot, now: &Zoned) -> Vec<Said> {
        let mut said = Vec::new();
        for (name, moved) in self.meter.read(snapshot) {
            // A rule may have lost its quota since.
            let rule = self.file.rule(&name);
            let Some(quota) = rule.and_then(|rule| rule.quota.as_ref()) else {
                continue;
            };
            self.ledger.add(&name, quota.period, now.date(), moved);
            self.unsaved.get_or_insert_with(Instant::now);
        }
        for rule in &self.file.rules {
            let Some(quota) = &rule.quota else {
                continue;
            };
            if self.ledger.is_news(&rule.name, quota, now.date()) {
                self.unsaved.get_or_insert_with(Instant::now);
                let consequence = match quota.then {
                    Then::Limit => "its limits are in force",
                    Then::Block => "it is blocked",
                    Then::Notify => "nothing else is done",
                };
                let text = format!(
                    "rule '{}' has used up its {} this {}; {consequence}",
                    rule.name, quota.amount, quota.period
                );
                said.push((Severity::Warning, text));
            }
        }
        if self
            .unsaved
            .is_some_and(|since| since.elapsed() >= SAVE_EVERY)
        {
            said.extend(self.save());
        }
        said
    }

    /// Writes down what was moved. What can't be written is kept, and tried again.
    pub fn save(&mut self) -> Option<Said> {
        self.unsaved?;
        match self.ledger.write(&self.ledger_path) {
            Ok(()) => {
                self.unsaved = None;
                let again = std::mem::take(&mut self.saving_fails);
                again.then(|| {
                    let text = "what quotas have counted is written down again".to_owned();
                    (Severity::Info, text)
                })
            }
            Err(error) => {
                self.unsaved = Some(Instant::now());
                let news = !std::mem::replace(&mut self.saving_fails, true);
                news.then(|| {
                    let text = format!(
                        "what quotas have counted can't be written down, and would be lost with \
                         the daemon: {error}"
                    );
                    (Severity::Warning, text)
                })
            }
        }
    }

    /// The rules to put in force, if those in force are others.
    pub fn due(&mut self, now: &Zoned) -> Option<Vec<Rule>> {
        let new = plan(&self.file, &self.ledger, &self.users, &self.paused, now);
        let same = new.rules == self.plan.rules;
        self.plan = new;
        let again = self.in_force.is_err_and(|when| when <= Instant::now());
        (!same || again).then(|| self.plan.rules.clone())
    }

    /// What came of putting them in force.
    pub fn put_in_force(&mut self, succeeded: bool) {
        self.in_force = if succeeded {
            Ok(())
        } else {
            Err(Instant::now() + AGAIN)
        };
    }

    /// A rule was ended by hand: it stays so until the rules are read again.
    pub fn pause(&mut self, name: &Arc<str>) {
        self.paused.insert(Arc::clone(name));
    }

    /// What the rules say.
    pub fn file(&self) -> &RulesFile {
        &self.file
    }

    /// Where they are, when they were read, and why they could not be read again.
    pub fn source(&self) -> (&Path, Option<SystemTime>, Option<&str>) {
        (&self.path, self.read_at, self.error.as_deref())
    }

    /// What is in force, and how each rule stands.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }
}

#[derive(Debug, thiserror::Error)]
enum LoadError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{0}")]
    Mistakes(String),
}

fn load(path: &Path) -> Result<RulesFile, LoadError> {
    let text = store::read(path)?;
    read(&text).map_err(|mistakes| LoadError::Mistakes(mistakes.in_file(path).to_string()))
}

/// Reads what was moved. What makes no sense is put aside, to be looked at.
fn open_ledger(path: &Path, said: &mut Vec<Said>) -> Ledger {
    match Ledger::read(path) {
        Ok(ledger) => return ledger,
        Err(LedgerError::Nonsense(error)) => {
            let aside = path.with_extension("broken");
            let moved = std::fs::rename(path, &aside);
            let place = if moved.is_ok() { &aside } else { path };
            let text = format!(
                "quotas count from nothing: what was written makes no sense ({error}); see {}",
                place.display()
            );
            said.push((Severity::Warning, text));
        }
        Err(error) => {
            said.push((
                Severity::Warning,
                format!("quotas count from nothing: {error}"),
            ));
        }
    }
    Ledger::default()
}

/// Users as they were found: asking may go over the network, and rules are looked at every second.
#[derive(Default)]
struct KnownUsers {
    found: RefCell<HashMap<String, (Option<u32>, Instant)>>,
}

impl Users for KnownUsers {
    fn uid(&self, name: &str) -> Option<u32> {
        let mut found = self.found.borrow_mut();
        if let Some((uid, asked)) = found.get(name)
            && (uid.is_some() || asked.elapsed() < AGAIN)
        {
            return *uid;
        }
        let uid = SystemUsers.uid(name);
        found.insert(name.to_owned(), (uid, Instant::now()));
        uid
    }
}

#[cfg(test)]
mod tests;
