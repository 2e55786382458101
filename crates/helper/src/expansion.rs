//! Variables in paths and names, as the peer's helper expands them from its environment (job-lifecycle §2.3): the words of a POSIX
//! here-document, without command substitution.

#[cfg(test)]
mod tests;

use std::iter::Peekable;
use std::str::Chars;

use gantry_archive::{Parts, Pattern};

/// Text that is not expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ExpansionError {
    #[error("command substitution is not supported")]
    Command,
    #[error("reached the end without closing `{0}`")]
    Unclosed(&'static str),
    #[error("not a valid parameter expansion: {0}")]
    Parameter(String),
    #[error("{0}: {1}")]
    Unset(String, String),
    #[error("not a valid arithmetic expression: {0}")]
    Arithmetic(String),
    #[error("it is nested too deeply")]
    Depth,
}

const DEEPEST: usize = 20;

/// Expands a text. `look` gives the value of a variable, if it is set.
pub(crate) fn expand(
    text: &str,
    look: &dyn Fn(&str) -> Option<String>,
) -> Result<String, ExpansionError> {
    Expander { look, depth: 0 }.words(text)
}

struct Expander<'a> {
    look: &'a dyn Fn(&str) -> Option<String>,
    depth: usize,
}

type Source<'a> = Peekable<Chars<'a>>;

impl Expander<'_> {
    fn words(&mut self, text: &str) -> Result<String, ExpansionError> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(ExpansionError::Depth);
        }
        let mut out = String::new();
        let mut source = text.chars().peekable();
        while let Some(char) = source.next() {
            match char {
                '\\' => match source.peek() {
                    Some('$' | '`' | '\\') => out.extend(source.next()),
                    _ => out.push('\\'),
                },
                '`' => return Err(ExpansionError::Command),
                '$' => self.dollar(&mut source, &mut out)?,
                char => out.push(char),
            }
        }
        self.depth -= 1;
        Ok(out)
    }

    fn dollar(&mut self, source: &mut Source<'_>, out: &mut String) -> Result<(), ExpansionError> {
        match source.peek().copied() {
            Some('{') => {
                source.next();
                let inner = closed(source, '{', '}')?;
                out.push_str(&self.parameter(&inner)?);
            }
            Some('(') => {
                source.next();
                if source.peek() != Some(&'(') {
                    return Err(ExpansionError::Command);
                }
                source.next();
                let inner = closed(source, '(', ')')?;
                if source.next() != Some(')') {
                    return Err(ExpansionError::Unclosed("$(("));
                }
                let inner = self.words(&inner)?;
                out.push_str(&self.arithmetic(&inner)?.to_string());
            }
            Some(char) if is_name_start(char) => {
                let name = name(source);
                out.push_str(&(self.look)(&name).unwrap_or_default());
            }
            // Positional and special parameters: there are none.
            Some('0'..='9' | '@' | '*' | '#' | '?' | '-' | '$' | '!') => {
                source.next();
            }
            _ => out.push('$'),
        }
        Ok(())
    }

    /// What stands between `${` and `}`.
    fn parameter(&mut self, inner: &str) -> Result<String, ExpansionError> {
        let bad = || ExpansionError::Parameter(format!("${{{inner}}}"));
        let mut source = inner.chars().peekable();
        if source.peek() == Some(&'#') && inner.len() > 1 {
            source.next();
            let name = name(&mut source);
            if name.is_empty() || source.next().is_some() {
                return Err(bad());
            }
            let value = (self.look)(&name).unwrap_or_default();
            return Ok(value.chars().count().to_string());
        }
        let name = name(&mut source);
        if name.is_empty() {
            return Err(bad());
        }
        let value = (self.look)(&name);
        let rest: String = source.collect();
        let (colon, operator) = match rest.strip_prefix(':') {
            Some(rest) => (true, rest),
            None => (false, &rest[..]),
        };
        let is_set = value
            .as_ref()
            .is_some_and(|value| !colon || !value.is_empty());
        let value = value.unwrap_or_default();
        let mut chars = operator.chars();
        let first = chars.next();
        let word = chars.as_str();
        match (first, colon) {
            (None, false) => Ok(value),
            (Some('-' | '='), _) if is_set => Ok(value),
            (Some('-' | '='), _) => self.words(word),
            (Some('+'), _) if is_set => self.words(word),
            (Some('+'), _) => Ok(String::new()),
            (Some('?'), _) if is_set => Ok(value),
            (Some('?'), _) => {
                let word = self.words(word)?;
                let text = if word.is_empty() {
                    "parameter null or not set".into()
                } else {
                    word
                };
                Err(ExpansionError::Unset(name, text))
            }
            (Some('#'), false) => self.trim(&value, word, '#', false),
            (Some('%'), false) => self.trim(&value, word, '%', true),
            (Some('/'), false) => self.replace(&value, word),
            (Some('^'), false) => Ok(cased(&value, word, '^', char::to_uppercase)),
            (Some(','), false) => Ok(cased(&value, word, ',', char::to_lowercase)),
            (_, true) => self.slice(&value, operator).ok_or_else(bad)?,
            _ => Err(bad()),
        }
    }

    /// `#p`, `##p`, `%p`, `%%p`.
    fn trim(
        &mut self,
        value: &str,
        word: &str,
        sign: char,
        at_end: bool,
    ) -> Result<String, ExpansionError> {
        let (longest, pattern) = match word.strip_prefix(sign) {
            Some(pattern) => (true, pattern),
            None => (false, word),
        };
        let pattern = self.words(pattern)?;
        let Some(parts) = glob(&pattern) else {
            return Ok(value.to_owned());
        };
        // The shortest first.
        let mut cuts = if at_end {
            parts.ends(flat(value).as_bytes())
        } else {
            parts.beginnings(flat(value).as_bytes())
        };
        let cut = if longest {
            cuts.pop()
        } else {
            cuts.first().copied()
        };
        Ok(match cut {
            Some(cut) if at_end => value[..cut].to_owned(),
            Some(cut) => value[cut..].to_owned(),
            None => value.to_owned(),
        })
    }

    /// `/p/r`, `//p/r`.
    fn replace(&mut self, value: &str, word: &str) -> Result<String, ExpansionError> {
        let (all, word) = match word.strip_prefix('/') {
            Some(word) => (true, word),
            None => (false, word),
        };
        let (pattern, with) = word.split_once('/').unwrap_or((word, ""));
        let (pattern, with) = (self.words(pattern)?, self.words(with)?);
        let Some(parts) = glob(&pattern).filter(|_| !pattern.is_empty()) else {
            return Ok(value.to_owned());
        };
        let flat = flat(value);
        let mut out = String::new();
        let mut rest = value;
        while let Some(char) = rest.chars().next() {
            let at = value.len() - rest.len();
            match parts.beginnings(&flat.as_bytes()[at..]).pop() {
                // A match of nothing is none.
                Some(end) if end > 0 => {
                    out.push_str(&with);
                    rest = &rest[end..];
                    if !all {
                        break;
                    }
                }
                // What does not follow here does not follow later.
                _ if pattern.starts_with('*') => break,
                _ => {
                    out.push(char);
                    rest = &rest[char.len_utf8()..];
                }
            }
        }
        out.push_str(rest);
        Ok(out)
    }

    /// `:offset`, `:offset:length`. `None`: that is no number.
    fn slice(&mut self, value: &str, numbers: &str) -> Option<Result<String, ExpansionError>> {
        let (offset, length) = match numbers.split_once(':') {
            Some((offset, length)) => (offset, Some(length)),
            None => (numbers, None),
        };
        let number = |this: &mut Self, text: &str| {
            let text = this.words(text).ok()?;
            this.arithmetic(&text).ok()
        };
        let chars: Vec<char> = value.chars().collect();
        let count = i64::try_from(chars.len()).ok()?;
        let place = |number: i64| {
            if number < 0 {
                (count + number).max(0)
            } else {
                number.min(count)
            }
        };
        let start = place(number(self, offset)?);
        let end = match length {
            None => count,
            Some(length) => {
                let length = number(self, length)?;
                if length < 0 {
                    place(length)
                } else {
                    start.saturating_add(length).min(count)
                }
            }
        };
        let end = end.max(start);
        // Both are within the length.
        Some(Ok(chars[start as usize..end as usize].iter().collect()))
    }

    fn arithmetic(&mut self, text: &str) -> Result<i64, ExpansionError> {
        let bad = || ExpansionError::Arithmetic(text.to_owned());
        let mut source = text.chars().peekable();
        let value = self.sum(&mut source, 0).ok_or_else(bad)?;
        blanks(&mut source);
        if source.next().is_some() {
            return Err(bad());
        }
        Ok(value)
    }

    fn sum(&mut self, source: &mut Source<'_>, depth: usize) -> Option<i64> {
        let mut value = self.product(source, depth)?;
        loop {
            blanks(source);
            match source.peek() {
                Some('+') => {
                    source.next();
                    value = value.checked_add(self.product(source, depth)?)?;
                }
                Some('-') => {
                    source.next();
                    value = value.checked_sub(self.product(source, depth)?)?;
                }
                _ => return Some(value),
            }
        }
    }

    fn product(&mut self, source: &mut Source<'_>, depth: usize) -> Option<i64> {
        let mut value = self.factor(source, depth)?;
        loop {
            blanks(source);
            match source.peek() {
                Some('*') => {
                    source.next();
                    value = value.checked_mul(self.factor(source, depth)?)?;
                }
                Some('/') => {
                    source.next();
                    value = value.checked_div(self.factor(source, depth)?)?;
                }
                Some('%') => {
                    source.next();
                    value = value.checked_rem(self.factor(source, depth)?)?;
                }
                _ => return Some(value),
            }
        }
    }

    fn factor(&mut self, source: &mut Source<'_>, depth: usize) -> Option<i64> {
        if depth > DEEPEST {
            return None;
        }
        blanks(source);
        match source.peek().copied()? {
            '-' => {
                source.next();
                self.factor(source, depth + 1)?.checked_neg()
            }
            '+' => {
                source.next();
                self.factor(source, depth + 1)
            }
            '(' => {
                source.next();
                let value = self.sum(source, depth + 1)?;
                blanks(source);
                (source.next() == Some(')')).then_some(value)
            }
            '0'..='9' => {
                let mut digits = String::new();
                while let Some(digit) = source.next_if(char::is_ascii_digit) {
                    digits.push(digit);
                }
                digits.parse().ok()
            }
            char if is_name_start(char) => {
                let value = (self.look)(&name(source)).unwrap_or_default();
                let value = value.trim();
                if value.is_empty() {
                    Some(0)
                } else {
                    value.parse().ok()
                }
            }
            _ => None,
        }
    }
}

/// Up to the sign that closes what is open, which is taken.
fn closed(source: &mut Source<'_>, open: char, close: char) -> Result<String, ExpansionError> {
    let mut inner = String::new();
    let mut depth = 0_usize;
    while let Some(char) = source.next() {
        if char == '\\' {
            inner.push(char);
            inner.extend(source.next());
            continue;
        }
        if char == close {
            if depth == 0 {
                return Ok(inner);
            }
            depth -= 1;
        } else if char == open {
            depth += 1;
        }
        inner.push(char);
    }
    Err(ExpansionError::Unclosed(if open == '{' {
        "${"
    } else {
        "$(("
    }))
}

fn blanks(source: &mut Source<'_>) {
    while source.next_if(|char| char.is_whitespace()).is_some() {}
}

fn is_name_start(char: char) -> bool {
    char.is_ascii_alphabetic() || char == '_'
}

fn name(source: &mut Source<'_>) -> String {
    let mut name = String::new();
    if source.peek().is_some_and(|&char| is_name_start(char)) {
        while let Some(char) = source.next_if(|char| char.is_ascii_alphanumeric() || *char == '_') {
            name.push(char);
        }
    }
    name
}

/// `^`, `^^`, `,`, `,,` without a pattern.
fn cased<I: Iterator<Item = char>>(
    value: &str,
    word: &str,
    sign: char,
    case: fn(char) -> I,
) -> String {
    if word.starts_with(sign) {
        return value.chars().flat_map(case).collect();
    }
    let mut chars = value.chars();
    let first = chars.next().into_iter().flat_map(case);
    first.chain(chars).collect()
}

/// A pattern of a shell: here `*` and `?` take a `/`, too, and braces are text. To be used on [`flat`] texts.
fn glob(pattern: &str) -> Option<Parts> {
    let pattern = flat(pattern).replace('{', "\\{").replace('}', "\\}");
    Some(Pattern::new(pattern.as_bytes()).ok()?.parts())
}

/// With another character for `/`, of the same length, that is in no environment.
fn flat(text: &str) -> String {
    text.replace('/', "\0")
}
