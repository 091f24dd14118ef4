//! What became of each login, so that the demo can print it.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::login::Reason;
use crate::login::outcome::Observer;
use crate::pipeline::ids::{ProviderName, UserId};
use crate::pipeline::plan::Plan;

/// What became of a login.
#[derive(Debug, Clone)]
pub enum Event {
    /// Durably written.
    Committed(Box<Plan>),
    /// Not written, and why, in words.
    Refused { who: String, why: String },
}

/// How many events are remembered.
const KEPT: usize = 200;

/// What has happened so far, oldest first.
pub struct Journal {
    kept: Mutex<VecDeque<Event>>,
    count: watch::Sender<usize>,
}

impl Default for Journal {
    fn default() -> Self {
        Self { kept: Mutex::new(VecDeque::new()), count: watch::channel(0).0 }
    }
}

impl Journal {
    fn note(&self, event: Event) {
        let mut kept = self.lock();
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(event);
        self.count.send_modify(|count| *count += 1);
    }

    /// How many events there were.
    pub fn count(&self) -> usize {
        *self.count.borrow()
    }

    /// Tells whenever there is another.
    pub fn watch(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    /// The events after the first `seen`.
    pub fn after(&self, seen: usize) -> Vec<Event> {
        let kept = self.lock();
        let new = self.count().saturating_sub(seen).min(kept.len());
        kept.iter().skip(kept.len() - new).cloned().collect()
    }

    /// The newest plan of one user.
    pub fn last_plan_of(&self, user: &UserId) -> Option<Plan> {
        self.lock().iter().rev().find_map(|event| match event {
            Event::Committed(plan) if plan.user == *user => Some((**plan).clone()),
            _ => None,
        })
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Event>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Journal {
    fn committed(&self, plan: &Plan) {
        self.note(Event::Committed(Box::new(plan.clone())));
    }

    fn refused(&self, provider: Option<&ProviderName>, reason: &Reason) {
        let who = provider.map_or_else(|| String::from("a login"), |provider| format!("a login through {provider}"));
        self.note(Event::Refused { who, why: reason.to_string() });
    }
}
