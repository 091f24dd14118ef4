//! The store as a state machine: what is kept, which locks are held, and how far each writer is.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use loginsync_pipeline::decision::{self, Act, Applied, By, Changes, Facts, Kept, Needs, Question, Unfinished};
use loginsync_pipeline::ids::{Target, Timestamp, UserId};
use loginsync_pipeline::mapping::{RuleSet, candidates};
use loginsync_pipeline::record::Record;
use stateright::Property;

use crate::world::{Case, NOW, World, group, provider, rules};

/// What a writer wants.
#[derive(Debug, Clone)]
pub enum Task {
    Login(Case),
    Act(UserId, Act, Timestamp),
    /// Ends leases and denies that have ended.
    Lapse(UserId, Timestamp),
}

impl Task {
    fn user(&self) -> UserId {
        match self {
            Self::Login(case) => crate::world::user(case.user),
            Self::Act(user, ..) | Self::Lapse(user, _) => user.clone(),
        }
    }

    fn token(&self) -> Option<&str> {
        match self {
            Self::Login(case) => Some(&case.token),
            _ => None,
        }
    }

    /// The real decision. The first of the pair: a login was committed.
    fn decide(&self, kept: &Kept, rules: &RuleSet, facts: &Facts) -> Result<(bool, Changes), Needs> {
        match self {
            Self::Login(case) => {
                let (login, claims) = case.login();
                let candidates = candidates(rules, &login.provider, &Arc::new(claims));
                let (applied, changes) =
                    decision::login(kept, &login, &candidates, rules, facts, &mut Unfinished::default())?;
                Ok((matches!(applied, Applied::Committed(_)), changes))
            }
            Self::Act(_, act, now) => match decision::act(kept, act, &By::operator("test"), *now) {
                Err(Needs::Undone(_)) => Ok((false, Changes::default())),
                decided => Ok((false, decided?)),
            },
            Self::Lapse(_, now) => Ok((false, decision::reap(kept, rules, facts, *now)?.1)),
        }
    }
}

/// What stands between what was read and what is written.
#[derive(Debug, Clone, Copy)]
pub struct Guards {
    /// A row is written if it has the version that was read.
    pub compares: bool,
    /// A token is noted as spent if no other commit has noted it.
    pub spends_once: bool,
    /// Writers who ask about one target wait for each other.
    pub locks_targets: bool,
}

impl Default for Guards {
    fn default() -> Self {
        Self { compares: true, spends_once: true, locks_targets: true }
    }
}

#[derive(Debug, Clone, PartialEq)]
enum Phase {
    /// Reads without a lock.
    Begins,
    Decided(Box<Decided>),
    /// Will lock its user and these targets.
    Waits(BTreeSet<Target>),
    /// Holds its user and all targets before this place.
    Locks(BTreeSet<Target>, usize),
    /// Holds them, has read, and answers what was asked.
    Reads(BTreeSet<Target>, Box<Read>),
    Done {
        committed: bool,
    },
}

#[derive(Debug, Clone)]
struct Read {
    kept: Kept,
    version: u64,
    facts: Facts,
    asked: BTreeSet<Question>,
}

#[derive(Debug, Clone)]
struct Decided {
    read: Read,
    committed: bool,
    changes: Changes,
    /// What it holds.
    locked: Option<BTreeSet<Target>>,
}

// Equal in what a reader would see.
impl PartialEq for Read {
    fn eq(&self, other: &Self) -> bool {
        format!("{self:?}") == format!("{other:?}")
    }
}

impl PartialEq for Decided {
    fn eq(&self, other: &Self) -> bool {
        format!("{self:?}") == format!("{other:?}")
    }
}

#[derive(Debug, Clone)]
pub struct State {
    world: World,
    versions: BTreeMap<UserId, u64>,
    users: BTreeMap<UserId, usize>,
    targets: BTreeMap<Target, usize>,
    phases: Vec<Phase>,
    /// Tokens by which a login was committed.
    spent: Vec<String>,
    /// A login took the watermark of its provider back.
    went_back: bool,
}

impl State {
    fn told(&self) -> String {
        format!(
            "{:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?}",
            kept(&self.world),
            self.world.windows,
            self.versions,
            self.users,
            self.targets,
            self.phases,
            self.spent,
            self.went_back
        )
    }

    fn is_over(&self) -> bool {
        self.phases.iter().all(|phase| matches!(phase, Phase::Done { .. }))
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.told() == other.told()
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.told().hash(hasher);
    }
}

/// What a store keeps, without the order of the audit. Of how many members a window of the brake is counted from is a matter of the
/// moment: a user who joins takes no lock, so that the brake may count one fewer and stop sooner.
fn kept(world: &World) -> String {
    let windows: Vec<_> = world.windows.iter().map(|(key, window)| (key, window.began_at, window.losses)).collect();
    format!("{:?} {:?} {:?} {:?}", world.records, world.erased, world.tokens, windows)
}

fn held(world: &World) -> String {
    let of = |record: &Record| {
        let grants = record.holdings.keys().map(|grant| format!("{grant:?}")).collect::<Vec<_>>();
        (grants, record.denies.keys().cloned().collect::<Vec<_>>(), record.disabled.is_some())
    };
    format!("{:?}", world.records.iter().map(|(user, record)| (user, of(record))).collect::<Vec<_>>())
}

pub struct Model {
    tasks: Vec<Task>,
    rules: RuleSet,
    guards: Guards,
    begins: World,
    /// What each order of the writers, one after another, leaves.
    ends: BTreeSet<String>,
    /// The same, as far as it is who holds and is denied what.
    held: BTreeSet<String>,
    /// Protected targets that were held at the beginning.
    protected: Vec<Target>,
}

impl Model {
    pub fn new(before: &[Task], tasks: Vec<Task>, guards: Guards) -> Self {
        let (rules, mut begins) = (rules(), World::default());
        for task in before {
            alone(&mut begins, task, &rules);
        }
        let ends = orders(tasks.len()).into_iter().map(|order| {
            let mut world = begins.clone();
            order.into_iter().for_each(|writer| alone(&mut world, &tasks[writer], &rules));
            (kept(&world), held(&world))
        });
        let (ends, held) = ends.unzip();
        let protected = ["A", "B"].map(group).into_iter().filter(|it| !begins.holders(&rules, it, NOW).is_empty());
        let protected = protected.collect();
        Self { tasks, rules, guards, begins, ends, held, protected }
    }

    /// Who holds and is denied what after each order of the writers.
    pub fn held_at_the_end(self) -> BTreeSet<String> {
        self.held
    }

    fn read(&self, state: &State, writer: usize) -> Read {
        let (user, token) = (self.tasks[writer].user(), self.tasks[writer].token().unwrap_or_default());
        let version = state.versions.get(&user).copied().unwrap_or_default();
        Read { kept: state.world.kept(&user, token), version, facts: Facts::default(), asked: BTreeSet::new() }
    }

    /// The decision on what was read, and where the writer goes on.
    fn decide(&self, writer: usize, mut read: Read, locked: Option<BTreeSet<Target>>) -> Phase {
        match self.tasks[writer].decide(&read.kept, &self.rules, &read.facts) {
            Ok((committed, changes)) => Phase::Decided(Box::new(Decided { read, committed, changes, locked })),
            Err(Needs::Facts(asked)) => {
                let about: BTreeSet<Target> = asked.iter().map(target_of).collect();
                match locked {
                    Some(locked) if about.is_subset(&locked) => {
                        read.asked = asked;
                        Phase::Reads(locked, Box::new(read))
                    }
                    locked => Phase::Waits(locked.into_iter().flatten().chain(about).collect()),
                }
            }
            Err(other) => panic!("{other}"),
        }
    }

    /// Whether what was read is as it was.
    fn stands(&self, state: &State, writer: usize, decided: &Decided) -> bool {
        let version = state.versions.get(&self.tasks[writer].user()).copied().unwrap_or_default();
        let writes = decided.changes.record.is_some() || decided.changes.erased.is_some();
        let spent = self.tasks[writer].token().and_then(|token| state.world.tokens.get(token)).copied();
        let (spent, noted, seen) = (spent.unwrap_or_default(), decided.changes.token, decided.read.kept.token);
        let twice = (noted.spent && !seen.spent && spent.spent) || (noted.refused && !seen.refused && spent.refused);
        let changed = self.guards.compares && writes && version != decided.read.version;
        let spent = self.guards.spends_once && twice;
        !changed && !spent
    }

    fn commit(&self, state: &mut State, writer: usize, decided: Decided) {
        let task = &self.tasks[writer];
        let Decided { read, committed, changes, .. } = decided;
        if changes.record.is_some() || changes.erased.is_some() {
            *state.versions.entry(task.user()).or_default() += 1;
        }
        let watermark = |world: &World, case: &Case| {
            let logins = world.records.get(&task.user()).map(|record| &record.logins);
            logins.and_then(|logins| logins.get(&provider(case.provider))).map(|login| login.issued_at)
        };
        let before = state.world.clone();
        state.world.commit(&read.kept, changes, task.token());
        if let Task::Login(case) = task {
            state.went_back |= watermark(&state.world, case) < watermark(&before, case);
            state.spent.extend(committed.then(|| case.token.clone()));
        }
        state.phases[writer] = Phase::Done { committed };
    }
}

impl stateright::Model for Model {
    type State = State;
    /// The writer that takes its next step.
    type Action = usize;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            world: self.begins.clone(),
            versions: self.begins.records.keys().map(|user| (user.clone(), 1)).collect(),
            users: BTreeMap::new(),
            targets: BTreeMap::new(),
            phases: vec![Phase::Begins; self.tasks.len()],
            spent: Vec::new(),
            went_back: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<usize>) {
        let is_free = |writer: usize| state.users.get(&self.tasks[writer].user()).is_none_or(|of| *of == writer);
        actions.extend((0..self.tasks.len()).filter(|writer| match &state.phases[*writer] {
            Phase::Begins | Phase::Reads(..) => true,
            Phase::Decided(_) | Phase::Waits(_) => is_free(*writer),
            Phase::Locks(targets, at) => targets.iter().nth(*at).is_none_or(|it| !state.targets.contains_key(it)),
            Phase::Done { .. } => false,
        }));
    }

    fn next_state(&self, last: &State, writer: usize) -> Option<State> {
        let mut state = last.clone();
        let release = |state: &mut State| {
            state.users.retain(|_, of| *of != writer);
            state.targets.retain(|_, of| *of != writer);
        };
        match last.phases[writer].clone() {
            Phase::Begins => state.phases[writer] = self.decide(writer, self.read(last, writer), None),
            Phase::Waits(targets) => {
                state.users.insert(self.tasks[writer].user(), writer);
                state.phases[writer] = Phase::Locks(targets, 0);
            }
            Phase::Locks(targets, at) => match targets.iter().nth(at) {
                Some(target) if self.guards.locks_targets => {
                    state.targets.insert(target.clone(), writer);
                    state.phases[writer] = Phase::Locks(targets, at + 1);
                }
                Some(_) => state.phases[writer] = Phase::Locks(targets, at + 1),
                None => state.phases[writer] = self.decide(writer, self.read(last, writer), Some(targets)),
            },
            Phase::Reads(targets, mut read) => {
                for question in std::mem::take(&mut read.asked) {
                    last.world.answer(Some(&self.tasks[writer].user()), question, &mut read.facts);
                }
                state.phases[writer] = self.decide(writer, *read, Some(targets));
            }
            Phase::Decided(decided) if !self.stands(last, writer, &decided) => {
                release(&mut state);
                state.phases[writer] = Phase::Waits(decided.locked.unwrap_or_default());
            }
            Phase::Decided(decided) => {
                self.commit(&mut state, writer, *decided);
                release(&mut state);
            }
            Phase::Done { .. } => return None,
        }
        if matches!(state.phases[writer], Phase::Waits(_)) {
            release(&mut state);
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let once = |_: &Self, state: &State| {
            let different: BTreeSet<&String> = state.spent.iter().collect();
            different.len() == state.spent.len()
        };
        let stays = |model: &Self, state: &State| {
            let held = |it: &Target| !state.world.holders(&model.rules, it, NOW).is_empty();
            model.protected.iter().all(held)
        };
        let serial = |model: &Self, state: &State| !state.is_over() || model.ends.contains(&kept(&state.world));
        let goes_on = |model: &Self, state: &State| {
            let mut actions = Vec::new();
            stateright::Model::actions(model, state, &mut actions);
            state.is_over() || !actions.is_empty()
        };
        vec![
            Property::always("an older login overwrites no newer one", |_, state: &State| !state.went_back),
            Property::always("a token is spent once", once),
            Property::always("the last protected holder stays", stays),
            Property::always("the end is that of some order", serial),
            Property::always("no two writers wait for each other", goes_on),
        ]
    }
}

/// One writer alone, from its first step to its last.
fn alone(world: &mut World, task: &Task, rules: &RuleSet) {
    let kept = world.kept(&task.user(), task.token().unwrap_or_default());
    let mut facts = Facts::default();
    let changes = loop {
        match task.decide(&kept, rules, &facts) {
            Ok((_, changes)) => break changes,
            Err(Needs::Facts(asked)) => {
                asked.into_iter().for_each(|it| world.answer(Some(&task.user()), it, &mut facts))
            }
            Err(other) => panic!("{other}"),
        }
    };
    world.commit(&kept, changes, task.token());
}

fn target_of(question: &Question) -> Target {
    match question {
        Question::Window(_, target) | Question::Members(_, target) | Question::Others { of: target, .. } => {
            target.clone()
        }
        other => panic!("nothing here asks {other:?}"),
    }
}

fn orders(count: usize) -> Vec<Vec<usize>> {
    let mut orders = vec![Vec::new()];
    for _ in 0..count {
        let longer = |order: &Vec<usize>| {
            let rest = (0..count).filter(|next| !order.contains(next)).collect::<Vec<_>>();
            rest.into_iter().map(|next| [order.as_slice(), &[next]].concat()).collect::<Vec<_>>()
        };
        orders = orders.iter().flat_map(longer).collect();
    }
    orders
}
