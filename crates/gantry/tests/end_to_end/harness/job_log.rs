//! A job's log taken apart, as GitLab shows it.

use std::fmt::Write as _;

use gantry_testkit::JobRecord;

/// A log by streams. Each line stands without its time, without colours and without carriage returns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct JobLog {
    /// What the runner itself says.
    pub(crate) runner: Vec<String>,
    /// What scripts and the helper wrote to stdout.
    pub(crate) stdout: Vec<String>,
    /// The same of stderr.
    pub(crate) stderr: Vec<String>,
    /// What services wrote.
    pub(crate) services: Vec<String>,
    /// All of it in order.
    pub(crate) all: Vec<String>,
}

impl JobLog {
    /// Takes a log with timestamps apart.
    ///
    /// # Panics
    /// If a line has no header.
    pub(crate) fn of(job: &JobRecord) -> Self {
        let mut log = Self::default();
        let text = job.log();
        for line in text.strip_suffix('\n').unwrap_or(&text).split('\n') {
            let (stream, continues, text) = header(line)
                .unwrap_or_else(|| panic!("a log line without header: {line:?} of\n{text}"));
            let lines = match stream {
                "00O" => &mut log.runner,
                "01O" => &mut log.stdout,
                "01E" => &mut log.stderr,
                "0fO" => &mut log.services,
                other => panic!("a line of stream {other}: {line:?}"),
            };
            let text = plain(text);
            if continues && let Some(last) = lines.last_mut() {
                last.push_str(&text);
            } else {
                lines.push(text.clone());
            }
            if continues && let Some(last) = log.all.last_mut() {
                last.push_str(&text);
            } else {
                log.all.push(text);
            }
        }
        log
    }

    /// All lines as text.
    pub(crate) fn text(&self) -> String {
        self.all.join("\n")
    }

    /// Whether some line has these words.
    pub(crate) fn says(&self, words: &str) -> bool {
        self.all.iter().any(|line| line.contains(words))
    }

    /// Asserts that some line has these words.
    pub(crate) fn assert_says(&self, words: &str) {
        assert!(self.says(words), "{words:?} is not in\n{}", self.text());
    }

    /// Asserts that no line has these words.
    pub(crate) fn assert_never_says(&self, words: &str) {
        assert!(!self.says(words), "{words:?} is in\n{}", self.text());
    }

    /// Whether stdout has this line.
    pub(crate) fn prints(&self, line: &str) -> bool {
        self.stdout.iter().any(|printed| printed == line)
    }

    /// Asserts that stdout has this line.
    pub(crate) fn assert_prints(&self, line: &str) {
        assert!(self.prints(line), "no line {line:?} in\n{}", self.text());
    }

    /// Names of sections in the order they start.
    pub(crate) fn sections(&self) -> Vec<String> {
        let starts = self.runner.iter().flat_map(|line| {
            line.match_indices("section_start:").map(|(at, word)| {
                let rest = &line[at + word.len()..];
                let name = rest.split(':').nth(1).unwrap_or_default();
                let end = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
                let name = &name[..name.find(end).unwrap_or(name.len())];
                // The title follows on the same line.
                let title = name.find(char::is_uppercase).unwrap_or(name.len());
                name[..title].to_owned()
            })
        });
        starts.collect()
    }

    /// The log with what differs between two runs of one job replaced: times of sections, ids of requests.
    pub(crate) fn comparable(&self, replace: &[(&str, &str)]) -> Self {
        let change = |lines: &[String]| {
            let lines = lines.iter().map(|line| {
                let mut line = without_times(line);
                for (from, to) in replace {
                    line = line.replace(from, to);
                }
                if let Some((before, _)) = line.split_once("Gitaly correlation ID: ") {
                    line = format!("{before}Gitaly correlation ID: X");
                }
                line
            });
            lines.collect()
        };
        Self {
            runner: change(&self.runner),
            stdout: change(&self.stdout),
            stderr: change(&self.stderr),
            services: change(&self.services),
            // The order between streams is chance.
            all: Vec::new(),
        }
    }
}

/// Stream, whether the line continues the one before, and text.
fn header(line: &str) -> Option<(&str, bool, &str)> {
    let (time, rest) = (line.get(..27)?, line.get(28..)?);
    let (stream, flag, text) = (rest.get(..3)?, rest.get(3..4)?, rest.get(4..)?);
    let shape = time.bytes().zip(b"dddd-dd-ddTdd:dd:dd.ddddddZ".iter());
    let good = shape
        .into_iter()
        .all(|(byte, shape)| byte == *shape || *shape == b'd' && byte.is_ascii_digit());
    let continues = match flag {
        " " => false,
        "+" => true,
        _ => return None,
    };
    (good && line.as_bytes()[27] == b' ').then_some((stream, continues, text))
}

fn without_times(line: &str) -> String {
    let mut text = line;
    let mut result = String::new();
    while let Some(at) = text.find("section_") {
        let (before, rest) = text.split_at(at);
        let Some((word, after)) = rest.split_once(':') else {
            break;
        };
        let digits = after.find(|c: char| !c.is_ascii_digit());
        let after = &after[digits.unwrap_or(after.len())..];
        // Writing to a string cannot fail.
        write!(result, "{before}{word}:T").ok();
        text = after;
    }
    result + text
}

/// Text without escape sequences and carriage returns.
pub(crate) fn plain(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\x1b' => {
                // `ESC [ … letter`
                if rest.next() == Some('[') {
                    rest.by_ref().find(char::is_ascii_alphabetic);
                }
            }
            '\r' => {}
            c => result.push(c),
        }
    }
    result
}

#[test]
fn a_log_is_taken_apart_by_streams_and_continuations() {
    let time = "2026-01-02T03:04:05.123456Z";
    let log = format!(
        "{time} 00O \x1b[0KRunning\x1b[0;m\n{time} 00O section_start:1700000000:step_script\r\x1b[0K\n\
         {time} 00O+\x1b[0K\x1b[36;1mExecuting\x1b[0;m\n{time} 01O out\n{time} 01E err\n"
    );
    let mut taken = JobLog::default();
    for line in log.lines() {
        let (stream, continues, text) = header(line).unwrap();
        assert_eq!(continues, text.contains("Executing"));
        if stream == "00O" {
            taken.runner.push(plain(text));
        }
    }
    assert_eq!(
        without_times(&taken.runner[1]),
        "section_start:T:step_script"
    );
    assert_eq!(taken.sections(), ["step_script"]);
}
