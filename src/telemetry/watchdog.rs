//! Liveness: notices when threads that others wait for have stopped making progress.
//!
//! A deadlock or an endless loop in one task takes its worker thread out of service, and other tasks with it. No task can
//! report that, since it may wait behind the stuck one. So a thread of its own compares counters, once a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::RuntimeMetrics;

/// How often [`Watchdog::look`] is called.
pub const LOOK: Duration = Duration::from_secs(1);
/// Looks in a row at which a worker thread may be found in the same task.
const WORKER_PATIENCE: u32 = 10;

/// The progress of a thread that works through a queue. An even count waits for work, an odd one works.
#[derive(Debug, Default)]
pub struct Pulse {
    steps: AtomicU64,
    ended: AtomicBool,
}

impl Pulse {
    /// The thread has taken up work, or has put it down.
    pub fn turn(&self) {
        self.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// One step of the work is done.
    pub fn step(&self) {
        self.steps.fetch_add(2, Ordering::Relaxed);
    }

    /// The thread has ended.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    fn beat(&self) -> Beat {
        match self.steps.load(Ordering::Relaxed) {
            _ if self.ended.load(Ordering::Relaxed) => Beat::Ended,
            steps if steps % 2 == 0 => Beat::Waits,
            steps => Beat::Works(steps),
        }
    }
}

/// What a thread does at one look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beat {
    Waits,
    /// It works; the number changes with each step.
    Works(u64),
    Ended,
}

/// Looks after the runtime's worker threads and the store's writer.
pub struct Watchdog {
    subjects: Vec<Subject>,
}

struct Subject {
    name: String,
    beat: Box<dyn Fn() -> Beat + Send>,
    /// Looks in a row that may find it in the same step.
    patience: u32,
    last: Beat,
    still: u32,
}

impl Watchdog {
    /// `longest_wait` is how long one step of the writer may wait for another process's lock.
    pub fn new(runtime: &RuntimeMetrics, writer: Option<Arc<Pulse>>, longest_wait: Duration) -> Self {
        let workers = (0..runtime.num_workers()).map(|worker| {
            let runtime = runtime.clone();
            Subject::new(format!("worker thread {worker}"), WORKER_PATIENCE, move || worker_beat(&runtime, worker))
        });
        let patience = u32::try_from(2 * longest_wait.as_secs()).unwrap_or(u32::MAX).saturating_add(30);
        let writer = writer.map(|pulse| Subject::new("the store's writer".into(), patience, move || pulse.beat()));
        Self { subjects: workers.chain(writer).collect() }
    }

    /// Looks once, and says what has stopped making progress. Counts looks and not time, so that a pause of the whole
    /// process (a suspended machine, a debugger) raises no alarm.
    pub fn look(&mut self) -> Option<String> {
        // All of them are looked at, so that each count is of looks in a row.
        let found: Vec<_> = self.subjects.iter_mut().filter_map(Subject::look).collect();
        found.into_iter().next()
    }
}

impl Subject {
    fn new(name: String, patience: u32, beat: impl Fn() -> Beat + Send + 'static) -> Self {
        Self { name, beat: Box::new(beat), patience, last: Beat::Waits, still: 0 }
    }

    fn look(&mut self) -> Option<String> {
        let beat = (self.beat)();
        let moved = beat == Beat::Waits || beat != self.last;
        self.still = if moved { 0 } else { self.still.saturating_add(1) };
        self.last = beat;
        match beat {
            Beat::Ended => Some(format!("{} has ended", self.name)),
            _ if self.still >= self.patience => {
                Some(format!("{} has made no progress for {} s", self.name, u64::from(self.still) * LOOK.as_secs()))
            }
            _ => None,
        }
    }
}

/// The runtime adds to a worker's busy time after every 61 tasks and when none is left, and counts each time it goes to
/// sleep and wakes: a worker that is awake while neither number moves is inside one task.
fn worker_beat(runtime: &RuntimeMetrics, worker: usize) -> Beat {
    let sleeps = runtime.worker_park_unpark_count(worker);
    if sleeps % 2 == 1 {
        return Beat::Waits;
    }
    let busy = u64::try_from(runtime.worker_total_busy_duration(worker).as_nanos()).unwrap_or(u64::MAX);
    Beat::Works(busy.wrapping_add(sleeps))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_works_on_is_not_stuck_and_one_that_stands_still_is() {
        let pulse = Arc::new(Pulse::default());
        let beat = Arc::clone(&pulse);
        let mut subject = Subject::new("it".into(), 3, move || beat.beat());
        assert_eq!((0..10).find_map(|_| subject.look()), None, "waits for work");
        pulse.turn();
        assert_eq!((0..3).find_map(|_| subject.look()), None, "patience");
        pulse.step();
        assert_eq!((0..3).find_map(|_| subject.look()), None, "a step was done");
        assert_eq!(subject.look().as_deref(), Some("it has made no progress for 3 s"));
        pulse.turn();
        assert_eq!(subject.look(), None, "done after all");
        pulse.end();
        assert_eq!(subject.look().as_deref(), Some("it has ended"));
    }

    #[test]
    fn a_worker_inside_one_task_is_told_from_one_that_sleeps_and_one_that_is_busy() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let metrics = runtime.metrics();
        let look = |wait: u64| {
            let before = worker_beat(&metrics, 0);
            std::thread::sleep(Duration::from_millis(wait));
            before != Beat::Waits && before == worker_beat(&metrics, 0)
        };
        std::thread::sleep(Duration::from_millis(50));
        assert!(!look(50), "asleep");
        let (free, held) = std::sync::mpsc::sync_channel::<()>(0);
        let busy = runtime.spawn(async move {
            while held.try_recv().is_err() {
                std::thread::sleep(Duration::from_micros(50));
                tokio::task::yield_now().await;
            }
            // From here on it is stuck until the channel closes.
            let _ = held.recv();
        });
        std::thread::sleep(Duration::from_millis(50));
        assert!(!look(200), "busy with many short polls");
        free.send(()).ok();
        std::thread::sleep(Duration::from_millis(50));
        assert!(look(200), "in one poll");
        drop(free);
        runtime.block_on(busy).unwrap();
    }
}
