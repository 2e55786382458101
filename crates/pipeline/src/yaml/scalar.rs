//! The type of a plain scalar by its text: the YAML 1.1 rules of GitLab's parser, with its
//! deviations from the standard (local-pipelines A1; rust-stack §3). The order of the rules
//! matters, so they stand in Psych's order, and `tests` holds its answers.

use super::Value;

/// What a text without quotes is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Typed {
    /// A value of the tree.
    Value(Value),
    /// A date, which GitLab's parser refuses to make.
    Date,
    /// A time of a day, refused likewise.
    Time,
}

/// Longest number read as one; longer ones stay text. Real ones are far shorter, and reading a
/// number of a million digits costs more than a file may.
const LONGEST_NUMBER: usize = 1024;

/// Types a scalar that was written without quotes.
pub(super) fn resolve(text: &str) -> Typed {
    let value = |value| Typed::Value(value);
    if text.is_empty() {
        return value(Value::Null);
    }
    if begins_like_text(text) {
        return value(word(text));
    }
    if text.len() > LONGEST_NUMBER {
        return value(Value::Str(text.to_owned()));
    }
    if is_time(text) {
        return Typed::Time;
    }
    if is_date(text) {
        return Typed::Date;
    }
    if let Some(number) = special_float(text) {
        return value(Value::Float(number));
    }
    // A Ruby symbol; GitLab takes it for the text behind the colon everywhere.
    if let Some(symbol) = text.strip_prefix(':').filter(|symbol| !symbol.is_empty()) {
        return value(Value::Str(unquoted(symbol).to_owned()));
    }
    let number = sexagesimal(text)
        .or_else(|| float(text))
        .or_else(|| integer(text));
    value(number.unwrap_or_else(|| Value::Str(text.to_owned())))
}

/// Psych's shortcut: a first letter, or a second one after a first that begins no number.
fn begins_like_text(text: &str) -> bool {
    let textual = |letter: char| {
        letter.is_alphabetic()
            || matches!(letter, '_' | ' ' | '\t' | '\r' | '\n' | '\u{B}' | '\u{C}')
            || "!@#$%^&*(){}<>|/\\~;=".contains(letter)
    };
    let mut letters = text.chars();
    let Some(first) = letters.next() else {
        return false;
    };
    if textual(first) || text.contains('\n') {
        return true;
    }
    let opens_number = first.is_ascii_digit() || matches!(first, '.' | ':' | '-');
    !opens_number && letters.next().is_some_and(textual)
}

/// Null, booleans, or just text.
fn word(text: &str) -> Value {
    let is = |word: &str| text.eq_ignore_ascii_case(word);
    if text == "~" || is("null") {
        Value::Null
    } else if is("yes") || is("true") || is("on") {
        Value::Bool(true)
    } else if is("no") || is("false") || is("off") {
        Value::Bool(false)
    } else {
        Value::Str(text.to_owned())
    }
}

fn special_float(text: &str) -> Option<f64> {
    let is = |word: &str| text.eq_ignore_ascii_case(word);
    if is(".inf") || is("+.inf") {
        Some(f64::INFINITY)
    } else if is("-.inf") {
        Some(f64::NEG_INFINITY)
    } else if is(".nan") {
        Some(f64::NAN)
    } else {
        None
    }
}

/// `:"a b"` and `:'a b'` are the symbol between the quotes.
fn unquoted(symbol: &str) -> &str {
    for quote in ['"', '\''] {
        if let Some(rest) = symbol.strip_prefix(quote)
            && let Some(end) = rest.rfind(quote)
        {
            return rest[..end].strip_prefix(':').unwrap_or(&rest[..end]);
        }
    }
    symbol
}

/// A text that is read from left to right.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    /// Takes `least` to `most` bytes that fit, as many as there are.
    fn take(&mut self, least: usize, most: usize, fits: impl Fn(u8) -> bool) -> bool {
        let count = self
            .0
            .iter()
            .take(most)
            .take_while(|byte| fits(**byte))
            .count();
        self.0 = &self.0[count..];
        count >= least
    }

    fn digits(&mut self, least: usize, most: usize) -> bool {
        self.take(least, most, |byte| byte.is_ascii_digit())
    }

    fn byte(&mut self, wanted: u8) -> bool {
        self.take(1, 1, |byte| byte == wanted)
    }

    fn blanks(&mut self) -> bool {
        self.take(1, usize::MAX, |byte| byte.is_ascii_whitespace())
    }

    fn at_end(&self) -> bool {
        self.0.is_empty()
    }
}

/// `2024-01-31T10:00:00Z` and its relatives.
fn is_time(text: &str) -> bool {
    let mut at = Cursor(text.as_bytes());
    at.take(0, 1, |byte| byte == b'-');
    let date = at.digits(4, 4)
        && at.byte(b'-')
        && at.digits(1, 2)
        && at.byte(b'-')
        && at.digits(1, 2)
        && (at.take(1, 1, |byte| matches!(byte, b'T' | b't')) || at.blanks());
    let clock = date
        && at.digits(1, 2)
        && at.byte(b':')
        && at.digits(2, 2)
        && at.byte(b':')
        && at.digits(2, 2);
    if !clock {
        return false;
    }
    if at.byte(b'.') {
        at.digits(0, usize::MAX);
    }
    if at.at_end() {
        return true;
    }
    at.blanks();
    if at.byte(b'Z') {
        return at.at_end();
    }
    if at.take(1, 1, |byte| matches!(byte, b'+' | b'-')) && at.digits(1, 2) {
        at.byte(b':');
        return at.at_end() || (at.digits(2, 2) && at.at_end());
    }
    false
}

/// `2024-1-31`: a month to 12 and a day to 31.
fn is_date(text: &str) -> bool {
    let mut parts = text.split('-');
    let part = |part: Option<&str>, longest: usize| {
        part.filter(|part| {
            (1..=longest).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
        })
        .and_then(|part| part.parse::<u32>().ok())
    };
    let year = parts.next().filter(|year| year.len() == 4);
    let (year, month, day) = (part(year, 4), part(parts.next(), 2), part(parts.next(), 2));
    parts.next().is_none()
        && year.is_some()
        && month.is_some_and(|month| month <= 12)
        && day.is_some_and(|day| day <= 31)
}

/// `12:30:45`, base 60. Two parts are hours and minutes, so `1:30` is 5400 (Psych's reading; the
/// standard says 90).
fn sexagesimal(text: &str) -> Option<Value> {
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (text, None),
    };
    let parts: Vec<&str> = whole.split(':').collect();
    if !(2..=3).contains(&parts.len()) {
        return None;
    }
    let first = parts[0].strip_prefix(['-', '+']).unwrap_or(parts[0]);
    let first_fits = first.starts_with(|digit: char| digit.is_ascii_digit())
        && first
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'_');
    let rest_fits = parts[1..].iter().all(|part| {
        matches!(part.as_bytes(), [digit] if digit.is_ascii_digit())
            || matches!(part.as_bytes(), [b'0'..=b'5', digit] if digit.is_ascii_digit())
    });
    let fraction_fits = fraction.is_none_or(|fraction| {
        fraction
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'_')
    });
    if !(first_fits && rest_fits && fraction_fits) {
        return None;
    }
    // Ruby reads a part as far as it is a number: to a double `_`.
    let leading = |digits: &str| {
        digits
            .split("__")
            .next()
            .unwrap_or_default()
            .replace('_', "")
    };
    let weight = [3600, 60, 1];
    if let Some(fraction) = fraction {
        let mut sum = 0.0;
        for (index, part) in parts.iter().enumerate() {
            let mut digits = leading(part);
            if index + 1 == parts.len() && !fraction.starts_with('_') {
                digits = format!("{digits}.{}", leading(fraction));
            }
            sum += digits.trim_end_matches('.').parse::<f64>().ok()? * f64::from(weight[index]);
        }
        return Some(Value::Float(sum));
    }
    let mut sum: i128 = 0;
    for (part, weight) in parts.iter().zip(weight) {
        let number: i128 = leading(part).parse().ok()?;
        sum = sum.checked_add(number.checked_mul(i128::from(weight))?)?;
    }
    Some(whole_number(sum))
}

/// `1.5`, `.5`, `1.`, `1_000.5`, `1.5e+3`: a point is needed, and an exponent needs its sign.
fn float(text: &str) -> Option<Value> {
    let mut at = Cursor(text.as_bytes());
    at.take(0, 1, |byte| matches!(byte, b'+' | b'-'));
    if at.digits(1, 1) {
        at.take(0, usize::MAX, |byte| {
            byte.is_ascii_digit() || matches!(byte, b'_' | b',')
        });
    }
    if !at.byte(b'.') {
        return None;
    }
    at.digits(0, usize::MAX);
    if at.take(1, 1, |byte| matches!(byte, b'e' | b'E'))
        && !(at.take(1, 1, |byte| matches!(byte, b'+' | b'-')) && at.digits(1, usize::MAX))
    {
        return None;
    }
    if !at.at_end() {
        return None;
    }
    let digits: String = text
        .chars()
        .filter(|letter| !matches!(letter, '_' | ','))
        .collect();
    if !digits
        .split(['e', 'E'])
        .next()?
        .contains(|digit: char| digit.is_ascii_digit())
    {
        return None;
    }
    digits.parse().ok().map(Value::Float)
}

/// Decimal, `0b` binary, `0` octal and `0x` hexadecimal, with `_` or `,` between digits.
fn integer(text: &str) -> Option<Value> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (radix, digits) = if let Some(digits) = digits.strip_prefix("0b") {
        (2, digits)
    } else if let Some(digits) = digits.strip_prefix("0x") {
        (16, digits)
    } else if digits.len() > 1 && digits.starts_with('0') {
        (8, &digits[1..])
    } else {
        (10, digits)
    };
    let separator = |letter: char| matches!(letter, '_' | ',');
    if digits.is_empty()
        || !digits
            .chars()
            .all(|letter| letter.is_digit(radix) || separator(letter))
    {
        return None;
    }
    // A decimal number begins with a digit and has one on both sides of each separator.
    let lone = |pair: &[u8]| pair.iter().all(|byte| matches!(byte, b'_' | b','));
    if radix == 10
        && (!digits.ends_with(|digit: char| digit.is_ascii_digit())
            || !digits.starts_with(|digit: char| digit.is_ascii_digit())
            || digits.as_bytes().windows(2).any(lone))
    {
        return None;
    }
    let mut digits: String = digits
        .chars()
        .filter(|letter| !separator(*letter))
        .collect();
    if digits.is_empty() {
        if radix != 8 {
            return None;
        }
        digits.push('0');
    }
    match i128::from_str_radix(&digits, radix) {
        Ok(number) => Some(whole_number(if negative { -number } else { number })),
        Err(_) if radix == 10 => Some(Value::BigInt(if negative {
            format!("-{digits}")
        } else {
            digits
        })),
        // Numbers of more than 127 bits in another base: nobody means one.
        Err(_) => None,
    }
}

fn whole_number(number: i128) -> Value {
    match i64::try_from(number) {
        Ok(number) => Value::Int(number),
        Err(_) => Value::BigInt(number.to_string()),
    }
}
