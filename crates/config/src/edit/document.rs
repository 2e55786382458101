//! The text of a configuration and its changes. Pure.

use std::time::SystemTime;

use secrecy::ExposeSecret;
use toml_edit::{ArrayOfTables, DocumentMut, Item, RawString, Table, TableLike, Value};

use super::NewToken;

/// What a configuration of nothing begins with: what the peer writes, so that scripts that change these lines find them.
const BEGIN: &str = "concurrent = 1
check_interval = 0
shutdown_timeout = 0

[session_server]
  session_timeout = 1800
";
/// The time that stands for none, as the peer writes it.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

#[derive(Debug)]
pub(super) struct Document {
    toml: DocumentMut,
    /// All lines end in CR LF; the library would write LF alone where it touches a line.
    crlf: bool,
    bom: bool,
}

impl Document {
    pub(super) fn parse(text: &str) -> Result<Self, toml_edit::TomlError> {
        let (bom, text) = match text.strip_prefix('\u{feff}') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let crlf = text.contains("\r\n") && !text.replace("\r\n", "").contains('\n');
        let toml = if crlf {
            text.replace("\r\n", "\n").parse()
        } else {
            text.parse()
        }?;
        Ok(Self { toml, crlf, bom })
    }

    pub(super) fn to_text(&self) -> String {
        let mut text = self.toml.to_string();
        if self.crlf {
            text = text.replace("\r\n", "\n").replace('\n', "\r\n");
        }
        if self.bom {
            text.insert(0, '\u{feff}');
        }
        text
    }

    /// Adds an entry behind everything else.
    pub(super) fn push_runner(&mut self, entry: Table) -> Result<(), &'static str> {
        if self.toml.as_table().is_empty() {
            self.begin();
        }
        let key = self.runners_key().unwrap_or_else(|| "runners".to_owned());
        let last = self.last_position();
        // An empty inline array is the same as none, and cannot be appended to by a header.
        let mut comments = String::new();
        if let Some(Item::Value(Value::Array(array))) = self.toml.get(&key)
            && array.is_empty()
        {
            if let Some((key, _)) = self.toml.remove_entry(&key) {
                comments.push_str(raw(key.leaf_decor().prefix()));
            }
            comments = comments.trim_start_matches('\n').to_owned();
        }
        let root = self.toml.as_table_mut();
        let runners = root
            .entry(&key)
            .or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
        match runners {
            Item::ArrayOfTables(_) => {
                let trailing = raw(Some(self.toml.trailing())).to_owned();
                let mut entry = entry;
                entry.set_position(Some(last + 1));
                let above = ending_in_newline(&trailing) + &ending_in_newline(&comments);
                entry.decor_mut().set_prefix(format!("{above}\n"));
                self.toml.set_trailing("");
                if let Some(Item::ArrayOfTables(tables)) = self.toml.get_mut(&key) {
                    tables.push(entry);
                }
                Ok(())
            }
            Item::Value(Value::Array(array)) => {
                array.push(entry.into_inline_table());
                Ok(())
            }
            _ => Err("runners is no array of tables"),
        }
    }

    /// Removes the entry of this index; comments above its header go to what follows.
    pub(super) fn remove_runner(&mut self, index: usize) -> Result<(), &'static str> {
        let Some(key) = self.runners_key() else {
            return Err("there is no such runner");
        };
        match self.toml.get_mut(&key) {
            Some(Item::ArrayOfTables(tables)) if index < tables.len() => {
                let removed = tables.remove(index);
                if tables.is_empty() {
                    self.toml.remove(&key);
                }
                let comments = raw(removed.decor().prefix());
                if comments.contains('#') {
                    self.put_above(removed.position().unwrap_or(isize::MAX), comments);
                }
                Ok(())
            }
            Some(Item::Value(Value::Array(array))) if index < array.len() => {
                let removed = array.remove(index);
                let comments = raw(removed.decor().prefix()).to_owned();
                if comments.contains('#') {
                    match array.get_mut(index) {
                        Some(next) => {
                            let prefix = comments + raw(next.decor().prefix());
                            next.decor_mut().set_prefix(prefix);
                        }
                        None => {
                            let trailing = comments + raw(Some(array.trailing()));
                            array.set_trailing(trailing);
                        }
                    }
                }
                Ok(())
            }
            _ => Err("there is no such runner"),
        }
    }

    /// Writes a token and its times into the entry of this index. Returns whether the old token was a placeholder.
    pub(super) fn set_token(&mut self, index: usize, new: &NewToken) -> Result<bool, &'static str> {
        let key = self.runners_key().unwrap_or_default();
        let entry: Option<&mut dyn TableLike> = match self.toml.get_mut(&key) {
            Some(Item::ArrayOfTables(tables)) => tables.get_mut(index).map(|table| table as _),
            Some(Item::Value(Value::Array(array))) => array
                .get_mut(index)
                .and_then(Value::as_inline_table_mut)
                .map(|table| table as _),
            _ => None,
        };
        let Some(entry) = entry else {
            return Err("there is no such runner");
        };
        let old = find_key(entry, "token").and_then(|key| entry.get(&key)?.as_str());
        let placeholder = old.is_some_and(|old| old.contains('$'));
        set(entry, "token", new.token.expose_secret().into());
        set(entry, "token_obtained_at", time(Some(new.obtained_at)));
        if new.expires_at.is_some() || find_key(entry, "token_expires_at").is_some() {
            set(entry, "token_expires_at", time(new.expires_at));
        }
        Ok(placeholder)
    }

    /// The first lines of a new configuration; comments of a file that has nothing else stay on top.
    fn begin(&mut self) {
        let comments = ending_in_newline(raw(Some(self.toml.trailing())));
        let gap = if comments.is_empty() { "" } else { "\n" };
        if let Ok(toml) = format!("{comments}{gap}{BEGIN}").parse() {
            self.toml = toml;
        }
    }

    /// `runners` in the case it is written in.
    fn runners_key(&self) -> Option<String> {
        find_key(self.toml.as_table(), "runners")
    }

    /// Place of the last header; 0 without any.
    fn last_position(&mut self) -> isize {
        let mut last = 0;
        each_table(self.toml.as_table_mut(), &mut |table| {
            last = last.max(table.position().unwrap_or(0));
        });
        last
    }

    /// Puts comments above the first header behind `position`, or at the end.
    fn put_above(&mut self, position: isize, comments: &str) {
        let mut next: Option<isize> = None;
        each_table(self.toml.as_table_mut(), &mut |table| {
            if let Some(at) = table.position().filter(|at| *at > position) {
                next = Some(next.map_or(at, |next| next.min(at)));
            }
        });
        let Some(next) = next else {
            let trailing = comments.to_owned() + raw(Some(self.toml.trailing()));
            self.toml.set_trailing(trailing);
            return;
        };
        each_table(self.toml.as_table_mut(), &mut |table| {
            if table.position() == Some(next) {
                let prefix = comments.to_owned() + raw(table.decor().prefix());
                table.decor_mut().set_prefix(prefix);
            }
        });
    }
}

/// A time as the peer writes it; `None`: the zero time.
pub(super) fn time(at: Option<SystemTime>) -> Value {
    let text = at
        .and_then(|at| jiff::Timestamp::try_from(at).ok())
        .map_or_else(
            || NO_TIME.to_owned(),
            |at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        );
    match text.parse::<toml_edit::Datetime>() {
        Ok(time) => time.into(),
        Err(_) => text.into(),
    }
}

/// Sets a value; what stands around the old one stays. A new key goes behind the last one, indented as that.
fn set(table: &mut dyn TableLike, key: &str, mut value: Value) {
    if let Some(written) = find_key(table, key) {
        if let Some(Item::Value(old)) = table.get_mut(&written) {
            *value.decor_mut() = old.decor().clone();
            *old = value;
        }
        return;
    }
    let last = table.get_values().last().map(|(path, _)| {
        let prefix = path.first().map(|key| raw(key.leaf_decor().prefix()));
        prefix.unwrap_or_default().to_owned()
    });
    table.insert(key, Item::Value(value));
    if let (Some(prefix), Some(mut key)) = (last, table.key_mut(key)) {
        let indent = prefix.rsplit('\n').next().unwrap_or_default();
        if indent.trim().is_empty() {
            key.leaf_decor_mut().set_prefix(indent);
        }
    }
}

/// The key as written: exactly this one, else one that differs in case only.
pub(super) fn find_key(table: &dyn TableLike, key: &str) -> Option<String> {
    if table.contains_key(key) {
        return Some(key.to_owned());
    }
    table
        .iter()
        .map(|(written, _)| written)
        .find(|written| written.eq_ignore_ascii_case(key))
        .map(str::to_owned)
}

/// All tables with headers, in no order.
fn each_table(table: &mut Table, look: &mut impl FnMut(&mut Table)) {
    for (_, item) in table.iter_mut() {
        match item {
            Item::Table(table) => {
                look(table);
                each_table(table, look);
            }
            Item::ArrayOfTables(tables) => {
                for table in tables.iter_mut() {
                    look(table);
                    each_table(table, look);
                }
            }
            Item::None | Item::Value(_) => {}
        }
    }
}

fn raw(text: Option<&RawString>) -> &str {
    text.and_then(RawString::as_str).unwrap_or_default()
}

fn ending_in_newline(text: &str) -> String {
    let mut text = text.to_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text
}
