//! What the helper's processes cost, seen from outside of their containers.

use std::{
    collections::HashMap,
    fs,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

const PAUSE: Duration = Duration::from_millis(20);
/// The names of helpers, as the kernel cuts them.
const NAMES: [&str; 2] = ["gantry-helper", "gitlab-runner-h"];
/// Of `/proc/<pid>/stat`, on Linux everywhere.
const TICKS: f64 = 100.0;

/// Watches the helpers whose containers mount something below a folder, until dropped.
pub(crate) struct Watch {
    seen: Arc<Mutex<Seen>>,
    over: Arc<AtomicBool>,
}

#[derive(Default)]
struct Seen {
    /// By pid: whether it is one of ours, and its processor time when last seen.
    processes: HashMap<u32, Option<f64>>,
    /// Of those that are gone.
    gone: f64,
    peak: f64,
}

impl Watch {
    pub(crate) fn start(folder: &Path) -> Self {
        let (seen, over) = (Arc::<Mutex<Seen>>::default(), Arc::<AtomicBool>::default());
        let watch = Self {
            seen: Arc::clone(&seen),
            over: Arc::clone(&over),
        };
        let folder = folder.display().to_string();
        thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                look(
                    &folder,
                    &mut seen.lock().unwrap_or_else(PoisonError::into_inner),
                );
                thread::sleep(PAUSE);
            }
        });
        watch
    }

    /// Seconds of all processors that they used so far.
    pub(crate) fn processor_time(&self) -> f64 {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.gone + seen.processes.values().flatten().sum::<f64>()
    }

    /// Greatest resident memory of one of them, MB.
    pub(crate) fn memory(&self) -> f64 {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.peak
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

fn look(folder: &str, seen: &mut Seen) {
    let mut now = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let proc = entry.path();
        let name = fs::read_to_string(proc.join("comm")).unwrap_or_default();
        if !NAMES.contains(&name.trim_end()) {
            continue;
        }
        let ours = match seen.processes.get(&pid) {
            Some(known) => known.is_some(),
            None => fs::read_to_string(proc.join("mountinfo"))
                .is_ok_and(|mounts| mounts.contains(folder)),
        };
        let time = ours.then(|| processor_time(&proc)).flatten();
        let before = seen.processes.get(&pid).copied().flatten();
        now.insert(pid, ours.then(|| time.or(before).unwrap_or_default()));
        if ours {
            seen.peak = seen.peak.max(peak(&proc).unwrap_or_default());
        }
    }
    for (pid, time) in &seen.processes {
        if !now.contains_key(pid) {
            seen.gone += time.unwrap_or_default();
        }
    }
    seen.processes = now;
}

/// User and system time.
fn processor_time(proc: &Path) -> Option<f64> {
    let stat = fs::read_to_string(proc.join("stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS)
}

fn peak(proc: &Path) -> Option<f64> {
    let status = fs::read_to_string(proc.join("status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes / 1024.0)
}
