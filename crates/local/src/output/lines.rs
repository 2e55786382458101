//! One job's log as lines with its name in front.

use tokio::time::Instant;

use super::{
    Style, ansi,
    fold::{self, Fold},
};

/// Colours of names, none of them red: that is for failures.
const COLOURS: [u8; 10] = [36, 35, 33, 34, 32, 96, 95, 93, 94, 92];
/// Longest name that is shown whole.
const LONGEST_NAME: usize = 28;
/// A line without an end is shown in parts of this size.
const LONGEST_LINE: usize = 64 * 1024;

/// How the lines of one job begin.
#[derive(Debug, Clone)]
pub(crate) struct Label {
    text: Vec<u8>,
    style: Style,
}

impl Label {
    /// Labels of jobs, in their order, all of one width.
    pub(crate) fn of_jobs<'a>(names: impl IntoIterator<Item = &'a str>, style: Style) -> Vec<Self> {
        let names: Vec<_> = names.into_iter().map(shortened).collect();
        let width = names.iter().map(|name| name.chars().count()).max();
        let width = width.unwrap_or_default();
        names
            .iter()
            .enumerate()
            .map(|(index, name)| {
                let text = if style.colour {
                    let colour = COLOURS[index % COLOURS.len()];
                    format!("\x1b[{colour}m{name:width$}\x1b[0m \x1b[2m|\x1b[0m")
                } else {
                    format!("{name:width$} |")
                };
                Self {
                    text: text.into_bytes(),
                    style,
                }
            })
            .collect()
    }
}

/// The name as it fits; what a terminal would act on is left out.
fn shortened(name: &str) -> String {
    let name: String = name
        .chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect();
    if name.chars().count() <= LONGEST_NAME {
        return name;
    }
    let start: String = name.chars().take(LONGEST_NAME - 1).collect();
    format!("{start}…")
}

/// Turns a job's log into lines. Bytes may come in any pieces.
#[derive(Debug)]
pub(crate) struct JobLines {
    label: Label,
    /// Of a line whose end has not come yet.
    pending: Vec<u8>,
    /// Colour sequences that are in force at the start of the next line.
    colours: Vec<u8>,
    fold: Fold,
}

impl JobLines {
    pub(crate) fn new(label: Label) -> Self {
        Self {
            fold: Fold::new(label.style.verbose),
            label,
            pending: Vec::new(),
            colours: Vec::new(),
        }
    }

    /// Adds what is whole now to `out`.
    pub(crate) fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut rest = bytes;
        while let Some(at) = rest.iter().position(|&byte| byte == b'\n') {
            if self.pending.is_empty() {
                self.line(&rest[..at], out);
            } else {
                let mut line = std::mem::take(&mut self.pending);
                line.extend_from_slice(&rest[..at]);
                self.line(&line, out);
                line.clear();
                self.pending = line;
            }
            rest = &rest[at + 1..];
        }
        self.pending.extend_from_slice(rest);
        while self.pending.len() > LONGEST_LINE {
            let after = self
                .pending
                .split_off(character_start(&self.pending, LONGEST_LINE));
            let line = std::mem::replace(&mut self.pending, after);
            self.line(&line, out);
        }
    }

    /// Adds a last line that has no end.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        let line = std::mem::take(&mut self.pending);
        if !line.is_empty() {
            self.line(&line, out);
        }
        self.fold.end(out);
    }

    /// When [`JobLines::show`] is to be called, unless more is pushed before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.fold.deadline()
    }

    /// Adds what was hidden because it seemed to be done soon.
    pub(crate) fn show(&mut self, out: &mut Vec<u8>) {
        self.fold.show(out);
    }

    fn line(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let mut line = line;
        while let Some((before, mark)) = fold::find(line) {
            if !before.is_empty() {
                self.text(before, out);
            }
            self.fold.mark(&mark, Instant::now());
            line = mark.after;
            if line.is_empty() {
                return;
            }
        }
        self.text(line, out);
    }

    fn text(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let out = self.fold.place(line, out);
        let line = after_returns(line);
        out.extend_from_slice(&self.label.text);
        out.push(b' ');
        let start = out.len();
        if self.label.style.colour {
            out.extend_from_slice(&self.colours);
            let colours = &mut self.colours;
            ansi::copy(line, out, |sequence, out| {
                match ansi::reset(sequence) {
                    (true, false) => colours.clear(),
                    (true, true) => {
                        colours.clear();
                        colours.extend_from_slice(sequence);
                    }
                    (false, _) => colours.extend_from_slice(sequence),
                }
                // No program needs so many; they are not to fill the memory.
                if colours.len() > 256 {
                    colours.clear();
                }
                out.extend_from_slice(sequence);
            });
            if !self.colours.is_empty() {
                out.extend_from_slice(b"\x1b[0m");
            }
        } else {
            ansi::copy(line, out, |_, _| {});
        }
        if out.len() == start {
            out.pop();
        }
        out.push(b'\n');
    }
}

/// What a terminal shows in the end of a line that was written over: the part after the last
/// carriage return, but for those at the end.
fn after_returns(line: &[u8]) -> &[u8] {
    let mut line = line;
    while let [rest @ .., b'\r'] = line {
        line = rest;
    }
    let start = line.iter().rposition(|&byte| byte == b'\r');
    &line[start.map_or(0, |at| at + 1)..]
}

/// The start of the character that `at` lies in; `at` itself in what is not UTF-8.
fn character_start(text: &[u8], at: usize) -> usize {
    (at.saturating_sub(3)..=at)
        .rev()
        .find(|&place| text[place] & 0xc0 != 0x80)
        .unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn shown(colour: bool, pieces: &[&[u8]]) -> String {
        let style = Style {
            colour,
            verbose: false,
        };
        let label = Label::of_jobs(["job"], style).remove(0);
        let mut lines = JobLines::new(label);
        let mut out = Vec::new();
        for piece in pieces {
            lines.push(piece, &mut out);
        }
        lines.finish(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[rstest]
    #[case::whole(&[b"one\ntwo\n".as_slice()], "job | one\njob | two\n")]
    #[case::in_pieces(&[b"on".as_slice(), b"e\nt", b"wo\n"], "job | one\njob | two\n")]
    #[case::last_line_without_end(&[b"one\ntwo".as_slice()], "job | one\njob | two\n")]
    #[case::empty_line(&[b"\n\n".as_slice()], "job |\njob |\n")]
    #[case::nothing(&[b"".as_slice()], "")]
    #[case::colours_go(&[b"\x1b[0K\x1b[32;1m$ make\x1b[0;m\n".as_slice()], "job | $ make\n")]
    #[case::progress_bar(&[b"10%\r".as_slice(), b"20%\r", b"done\n"], "job | done\n")]
    #[case::windows_end(&[b"one\r\n".as_slice()], "job | one\n")]
    #[case::section(&[b"section_start:1:a\r\x1b[0KTitle\n".as_slice()], "job | Title\n")]
    fn lines_outside_of_terminals_are_text(#[case] pieces: &[&[u8]], #[case] expected: &str) {
        assert_eq!(shown(false, pieces), expected);
    }

    #[test]
    fn a_colour_ends_with_its_line_and_goes_on_after_the_next_name() {
        let label = "\x1b[36mjob\x1b[0m \x1b[2m|\x1b[0m";
        assert_eq!(
            shown(true, &[b"\x1b[0K\x1b[31mred\nstill\x1b[0m not\nplain\n"]),
            format!(
                "{label} \x1b[31mred\x1b[0m\n{label} \x1b[31mstill\x1b[0m not\n{label} plain\n"
            )
        );
    }

    #[test]
    fn names_are_padded_to_the_longest_and_cut_where_they_are_too_long() {
        let long = "a".repeat(40);
        let labels = Label::of_jobs(["a", "b c", &long], Style::default());
        let texts: Vec<_> = labels
            .iter()
            .map(|label| String::from_utf8_lossy(&label.text).into_owned())
            .collect();
        assert_eq!(texts[0], format!("{:28} |", "a"));
        assert_eq!(texts[2], format!("{}… |", "a".repeat(27)));
        assert_eq!(shortened("a\x1b[2Jb"), "a [2Jb");
    }

    const PREPARE: &[u8] = b"section_start:1:prepare_executor\r\x1b[0K\x1b[0K\x1b[36;1mPreparing\x1b[0;m\n\x1b[0Kimage\x1b[0;m\n";
    const SCRIPT: &[u8] = b"section_end:2:prepare_executor\r\x1b[0Ksection_start:2:step_script\r\x1b[0K\x1b[0KExecuting\x1b[0;m\nout\n";

    #[rstest]
    #[case::what_goes_well_is_hidden(&[PREPARE, SCRIPT], "job | Executing\njob | out\n")]
    #[case::a_warning_shows_its_section(
        &[PREPARE, b"\x1b[0;33mWARNING: odd\x1b[0;m\nmore\n", SCRIPT],
        "job | Preparing\njob | image\njob | WARNING: odd\njob | more\njob | Executing\njob | out\n"
    )]
    #[case::what_fails_in_the_helper_shows_its_section(
        &[PREPARE, b"\x1b[31;1mFATAL: not an archive\x1b[0;m \n", SCRIPT],
        "job | Preparing\njob | image\njob | FATAL: not an archive \njob | Executing\njob | out\n"
    )]
    #[case::a_service_that_is_not_up_shows_its_section(
        &[PREPARE, b"\n\x1b[0;33m*** WARNING:\x1b[0;m Service s\n", SCRIPT],
        "job | Preparing\njob | image\njob |\njob | *** WARNING: Service s\njob | Executing\njob | out\n"
    )]
    #[case::what_a_service_prints_shows_its_section(
        &[PREPARE, b"\x1b[0;37m[service:db] t up\x1b[0;m\n", SCRIPT],
        "job | Preparing\njob | image\njob | [service:db] t up\njob | Executing\njob | out\n"
    )]
    #[case::an_error_right_after_it_shows_it(
        &[PREPARE, b"section_end:2:prepare_executor\r\x1b[0K\x1b[31;1mERROR: Job failed\x1b[0;m\n"],
        "job | Preparing\njob | image\njob | ERROR: Job failed\n"
    )]
    #[case::an_end_in_it_shows_it(&[PREPARE], "job | Preparing\njob | image\n")]
    #[case::an_error_after_the_script_shows_no_old_lines(
        &[PREPARE, SCRIPT, b"\x1b[31;1mERROR: Job failed\x1b[0;m\n"],
        "job | Executing\njob | out\njob | ERROR: Job failed\n"
    )]
    #[case::the_clean_up_has_no_say(
        &[SCRIPT, b"section_end:2:step_script\r\x1b[0Ksection_start:3:cleanup_file_variables\r\x1b[0Ktitle\nsection_end:3:cleanup_file_variables\r\x1b[0K\x1b[31;1mERROR: Job failed\x1b[0;m\n"],
        "job | Executing\njob | out\njob | ERROR: Job failed\n"
    )]
    #[case::output_without_end_before_a_mark(
        &[SCRIPT, b"no end", b"section_end:2:step_script\r\x1b[0Ksection_start:3:cleanup_file_variables\r\x1b[0Ktitle\nsection_end:3:cleanup_file_variables\r\x1b[0Kdone\n"],
        "job | Executing\njob | out\njob | no end\njob | done\n"
    )]
    #[case::sections_of_scripts_are_titles(
        &[b"section_start:1:mine[collapsed=true]\r\x1b[0KTitle\nsection_end:1:mine\r\x1b[0K\n".as_slice()],
        "job | Title\njob |\n"
    )]
    fn sections_of_the_runner_show_where_they_matter(
        #[case] pieces: &[&[u8]],
        #[case] expected: &str,
    ) {
        assert_eq!(shown(false, pieces), expected);
    }

    #[test]
    fn everything_shows_on_request() {
        let style = Style {
            colour: false,
            verbose: true,
        };
        let mut lines = JobLines::new(Label::of_jobs(["job"], style).remove(0));
        let mut out = Vec::new();
        lines.push(PREPARE, &mut out);
        assert_eq!(lines.deadline(), None);
        assert_eq!(out, b"job | Preparing\njob | image\n");
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_long_shows_as_it_comes() {
        let mut lines = JobLines::new(Label::of_jobs(["job"], Style::default()).remove(0));
        let mut out = Vec::new();
        assert_eq!(lines.deadline(), None);
        lines.push(PREPARE, &mut out);
        assert!(out.is_empty());
        let deadline = lines.deadline().unwrap();
        assert_eq!(deadline - Instant::now(), std::time::Duration::from_secs(2));
        lines.show(&mut out);
        lines.push(b"pulled\n", &mut out);
        assert_eq!(out, b"job | Preparing\njob | image\njob | pulled\n");
        assert_eq!(lines.deadline(), None);
    }

    #[test]
    fn a_line_that_does_not_end_is_shown_in_parts_and_no_character_is_cut() {
        let text = "é".repeat(LONGEST_LINE);
        let shown = shown(false, &[b"x", text.as_bytes()]);
        assert_eq!(shown.lines().count(), 3);
        let joined: String = shown
            .lines()
            .map(|line| line.strip_prefix("job | ").unwrap())
            .collect();
        assert_eq!(joined, format!("x{text}"));
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(text in "[ab\r\n\x1b\\[0-9m]{0,80}", cuts in proptest::collection::vec(0usize..80, 0..6)) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            for colour in [false, true] {
                prop_assert_eq!(shown(colour, &pieces), shown(colour, &[bytes]));
            }
        }
    }
}
