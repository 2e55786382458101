//! One line of the process log in its three forms, as GitLab Runner and its log library print them (cli §5).

use std::{
    collections::BTreeMap,
    fmt::{Debug, Write as _},
};

use jiff::{Timestamp, tz::TimeZone};
use serde_json::{Map, Value};
use tracing::{
    Level,
    field::{Field, Visit},
};

/// Message and fields of a line.
#[derive(Debug, Default)]
pub(super) struct Line {
    message: String,
    fields: BTreeMap<&'static str, Value>,
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.take(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.take(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.take(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.take(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.take(field, format!("{value:?}").into());
    }
}

impl Line {
    fn take(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            ("message", other) => self.message = other.to_string(),
            (name, value) => {
                self.fields.insert(name, value);
            }
        }
    }

    /// `<colour><PREFIX><message padded to 50><reset> ` and ` <colour>key<reset>=value` sorted by key. Colours also into a pipe, as
    /// the peer.
    pub(super) fn runner(&self, level: Level) -> String {
        let (colour, prefix) = match level {
            Level::ERROR => ("\x1b[31;1m", "ERROR: "),
            Level::WARN => ("\x1b[0;33m", "WARNING: "),
            Level::INFO => ("", ""),
            _ => ("\x1b[37;1m", ""),
        };
        let width = 50 - prefix.len();
        let message = &self.message;
        let mut line = format!("{colour}{prefix}{message:<width$}\x1b[0;m ");
        for (key, value) in &self.fields {
            let value = plain(value);
            // Writing to a string cannot fail.
            write!(line, " {colour}{key}\x1b[0;m={value}").ok();
        }
        line.push('\n');
        line
    }

    /// `time="…" level=info msg="…" key=value`, sorted by key.
    pub(super) fn text(&self, level: Level, time: &str) -> String {
        let mut line = format!(
            "time={} level={} msg={}",
            quoted(time),
            name(level),
            quoted(&self.message)
        );
        for (key, value) in &self.fields {
            write!(line, " {}={}", unclashed(key), quoted(&plain(value))).ok();
        }
        line.push('\n');
        line
    }

    /// The same on a terminal: `INFO[0000] message  key=value`, `seconds` after the start.
    pub(super) fn coloured_text(&self, level: Level, seconds: u64) -> String {
        let (colour, word) = match level {
            Level::ERROR => (31, "ERRO"),
            Level::WARN => (33, "WARN"),
            Level::INFO => (36, "INFO"),
            _ => (37, "DEBU"),
        };
        let message = self.message.strip_suffix('\n').unwrap_or(&self.message);
        let mut line = format!("\x1b[{colour}m{word}\x1b[0m[{seconds:04}] {message:<44} ");
        for (key, value) in &self.fields {
            let value = quoted(&plain(value));
            write!(line, " \x1b[{colour}m{}\x1b[0m={value}", unclashed(key)).ok();
        }
        line.push('\n');
        line
    }

    /// One object with flat fields.
    pub(super) fn json(&self, level: Level, time: &str) -> String {
        // Go sorts keys, as this map does.
        let mut object: Map<String, Value> = self
            .fields
            .iter()
            .map(|(key, value)| (unclashed(key), value.clone()))
            .collect();
        object.insert("level".to_owned(), name(level).into());
        object.insert("msg".to_owned(), self.message.as_str().into());
        object.insert("time".to_owned(), time.into());
        let mut line = html_safe(&Value::Object(object).to_string());
        line.push('\n');
        line
    }
}

/// A value without quotes.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A field may not pass for what every line has.
fn unclashed(key: &str) -> String {
    match key {
        "time" | "msg" | "level" => format!("fields.{key}"),
        _ => key.to_owned(),
    }
}

/// The text, in Go's quotes if it has more than letters, digits and a few signs.
fn quoted(text: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "-._/@^+".contains(c);
    if text.chars().all(safe) {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\x07' => quoted.push_str("\\a"),
            '\x08' => quoted.push_str("\\b"),
            '\x0b' => quoted.push_str("\\v"),
            '\x0c' => quoted.push_str("\\f"),
            c if c.is_ascii_control() => {
                write!(quoted, "\\x{:02x}", u32::from(c)).ok();
            }
            c if c.is_control() => {
                write!(quoted, "\\u{:04x}", u32::from(c)).ok();
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// As Go writes JSON: safe inside a web page.
fn html_safe(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                write!(safe, "\\u{:04x}", u32::from(c)).ok();
            }
            c => safe.push(c),
        }
    }
    safe
}

fn name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warning",
        Level::INFO => "info",
        _ => "debug",
    }
}

/// Now in RFC 3339 with nanoseconds, in the time zone of the machine.
pub(super) fn now() -> String {
    let now = Timestamp::now();
    let offset = TimeZone::system().to_offset(now);
    if offset.is_zero() {
        now.to_string()
    } else {
        now.display_with_offset(offset).to_string()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const TIME: &str = "2026-01-02T03:04:05.123456789Z";

    fn line() -> Line {
        let fields = BTreeMap::from([
            ("runner", "abc".into()),
            ("job", 7.into()),
            ("duration_s", 1.5.into()),
            ("ok", true.into()),
        ]);
        Line {
            message: "Job succeeded".to_owned(),
            fields,
        }
    }

    #[rstest]
    #[case(Level::INFO, "", "", 50)]
    #[case(Level::DEBUG, "\x1b[37;1m", "", 50)]
    #[case(Level::WARN, "\x1b[0;33m", "WARNING: ", 41)]
    #[case(Level::ERROR, "\x1b[31;1m", "ERROR: ", 43)]
    fn the_runner_form_pads_to_50_and_colours_by_level(
        #[case] level: Level,
        #[case] colour: &str,
        #[case] prefix: &str,
        #[case] width: usize,
    ) {
        let padded = format!("{:<width$}", "Job succeeded");
        let field = |text: &str| text.replace('{', colour).replace('}', "\x1b[0;m");
        let fields = field(" {duration_s}=1.5 {job}=7 {ok}=true {runner}=abc");
        let expected = format!("{colour}{prefix}{padded}\x1b[0;m {fields}\n");
        assert_eq!(line().runner(level), expected);
    }

    #[test]
    fn the_text_form_is_the_log_librarys() {
        assert_eq!(
            line().text(Level::WARN, TIME),
            "time=\"2026-01-02T03:04:05.123456789Z\" level=warning msg=\"Job succeeded\" duration_s=1.5 job=7 ok=true runner=abc\n"
        );
    }

    #[rstest]
    #[case(Level::INFO, 36, "INFO")]
    #[case(Level::DEBUG, 37, "DEBU")]
    #[case(Level::WARN, 33, "WARN")]
    #[case(Level::ERROR, 31, "ERRO")]
    fn on_a_terminal_the_text_form_has_colours_and_seconds(
        #[case] level: Level,
        #[case] colour: u8,
        #[case] word: &str,
    ) {
        let text = line().coloured_text(level, 12);
        let start = format!(
            "\x1b[{colour}m{word}\x1b[0m[0012] Job succeeded                                 "
        );
        assert!(text.starts_with(&start), "{text:?}");
        let end = format!(
            " \x1b[{colour}mjob\x1b[0m=7 \x1b[{colour}mok\x1b[0m=true \x1b[{colour}mrunner\x1b[0m=abc\n"
        );
        assert!(text.ends_with(&end), "{text:?}");
    }

    #[rstest]
    #[case("", "")]
    #[case("plain-1.2_/@^+", "plain-1.2_/@^+")]
    #[case("two words", "\"two words\"")]
    #[case("a=b", "\"a=b\"")]
    #[case("say \"x\" \\", "\"say \\\"x\\\" \\\\\"")]
    #[case("a\nb\t\x1b[0m\x7f", "\"a\\nb\\t\\x1b[0m\\x7f\"")]
    #[case("ä\u{85}", "\"ä\\u0085\"")]
    fn values_are_quoted_as_go_does(#[case] text: &str, #[case] expected: &str) {
        assert_eq!(quoted(text), expected);
    }

    #[test]
    fn json_is_one_object_with_flat_typed_fields_in_order() {
        assert_eq!(
            line().json(Level::ERROR, TIME),
            "{\"duration_s\":1.5,\"job\":7,\"level\":\"error\",\"msg\":\"Job succeeded\",\"ok\":true,\"runner\":\"abc\",\"time\":\"2026-01-02T03:04:05.123456789Z\"}\n"
        );
    }

    #[test]
    fn json_is_safe_inside_a_page_and_reads_back() {
        let line = Line {
            message: "<b> & \u{2028}".to_owned(),
            ..Line::default()
        };
        let text = line.json(Level::INFO, TIME);
        assert!(text.contains("\\u003cb\\u003e \\u0026 \\u2028"), "{text}");
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["msg"], "<b> & \u{2028}");
    }

    #[test]
    fn a_field_cannot_pass_for_time_message_or_level() {
        let line = Line {
            message: "m".to_owned(),
            fields: BTreeMap::from([("level", "fake".into()), ("time", 1.into())]),
        };
        let text = line.text(Level::INFO, "t");
        assert_eq!(
            text,
            "time=t level=info msg=m fields.level=fake fields.time=1\n"
        );
        let value: Value = serde_json::from_str(&line.json(Level::INFO, "t")).unwrap();
        assert_eq!(value["level"], "info");
        assert_eq!(value["fields.level"], "fake");
    }
}
