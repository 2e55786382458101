//! What any user of the machine sees: the arguments of all processes.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Looks at them over and over, until it is asked what it saw.
pub(crate) struct Processes {
    over: Arc<AtomicBool>,
    watcher: JoinHandle<HashSet<Vec<u8>>>,
}

impl Processes {
    pub(crate) fn watch() -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&over);
        let watcher = std::thread::spawn(move || {
            let mut seen = HashSet::new();
            while !end.load(Ordering::Relaxed) {
                let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
                for process in processes {
                    if let Ok(line) = std::fs::read(process.path().join("cmdline"))
                        && !line.is_empty()
                    {
                        seen.insert(line);
                    }
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            seen
        });
        Self { over, watcher }
    }

    /// Each command line once, one a line.
    pub(crate) fn seen(self) -> String {
        self.over.store(true, Ordering::Relaxed);
        let seen = self.watcher.join().expect("a thread");
        let lines: Vec<_> = seen
            .iter()
            .map(|line| String::from_utf8_lossy(line).replace('\0', " "))
            .collect();
        lines.join("\n")
    }
}
