//! Values by kind: from TOML to [`Value`], or why not.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use toml::Spanned;
use toml::de::DeValue;
use toml::value::{Datetime, Offset};

use crate::config::PullPolicy;
use crate::duration::GoDuration;
use crate::keys::Kind;
use crate::quantity;
use crate::tree::Value;

/// Why a value will not do.
pub(super) enum Refused {
    /// Another type; of one item if that is given.
    Type {
        expected: &'static str,
        item: Option<usize>,
    },
    /// The type fits; the value, or one item of it, does not.
    Value {
        message: String,
        item: Option<usize>,
    },
}

use Refused::{Type, Value as Bad};

/// An item by its position in an array or table, and how a path names it.
pub(super) fn item<'a, 'i>(
    value: &'a DeValue<'i>,
    index: usize,
) -> Option<(String, &'a Spanned<DeValue<'i>>)> {
    match value {
        DeValue::Array(array) => Some((format!("[{index}]"), array.get(index)?)),
        DeValue::Table(table) => table
            .iter()
            .nth(index)
            .map(|(key, value)| (format!(".{}", key.get_ref()), value)),
        _ => None,
    }
}

/// A type by the name users know it by.
pub(super) fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a datetime",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// Reads a value that holds no known keys.
pub(super) fn of(kind: Kind, raw: &DeValue<'_>) -> Result<Value, Refused> {
    match kind {
        Kind::Bool => raw.as_bool().map(Value::Bool).ok_or(Type {
            expected: "true or false",
            item: None,
        }),
        Kind::Int | Kind::Count => int(raw).map(Value::Int),
        Kind::Bytes => bytes(raw),
        Kind::Text => text(raw, "a string").map(|text| Value::Text(text.to_owned())),
        Kind::Time => time(raw).map(Value::Time),
        Kind::Duration => duration(raw).map(Value::Duration),
        Kind::List => list(raw, "an array of strings").map(Value::List),
        Kind::FilledList => filled_list(raw),
        Kind::Numbers => numbers(raw),
        Kind::Texts => texts(raw),
        Kind::Flags => flags(raw),
        Kind::Lists => lists(raw),
        Kind::Size => amount(
            raw,
            quantity::size,
            "a memory size such as \"512m\" or \"1GiB\"",
        ),
        Kind::Cpus => amount(
            raw,
            quantity::nano_cpus,
            "a number of CPUs such as \"1.5\" or \"1/3\"",
        ),
        Kind::Policies => policies(raw, true),
        Kind::PolicyList => policies(raw, false),
        Kind::OneOf(names) => one_of(raw, names, |name, text| name == text),
        Kind::OneOfAnyCase(names) => one_of(raw, names, str::eq_ignore_ascii_case),
        Kind::Keywords => keywords(raw),
        Kind::Version => version(raw),
        Kind::AnyTable | Kind::Table(_) => match raw {
            DeValue::Table(table) => Ok(Value::Opaque {
                empty: table.is_empty(),
            }),
            _ => Err(Type {
                expected: "a table",
                item: None,
            }),
        },
        Kind::AnyTables | Kind::Tables(_) => any_tables(raw),
    }
}

fn text<'a>(raw: &'a DeValue<'_>, expected: &'static str) -> Result<&'a str, Refused> {
    raw.as_str().ok_or(Type {
        expected,
        item: None,
    })
}

fn int(raw: &DeValue<'_>) -> Result<i64, Refused> {
    let DeValue::Integer(integer) = raw else {
        return Err(Type {
            expected: "an integer",
            item: None,
        });
    };
    let out_of_range = |_| Bad {
        message: "an integer has at most 64 bits".to_owned(),
        item: None,
    };
    i64::from_str_radix(integer.as_str(), integer.radix()).map_err(out_of_range)
}

fn bytes(raw: &DeValue<'_>) -> Result<Value, Refused> {
    let negative = |_| Bad {
        message: "expected a number of bytes, not less than 0".to_owned(),
        item: None,
    };
    if let DeValue::String(_) = raw {
        return Err(Type {
            expected: "a number of bytes (an integer without quotes)",
            item: None,
        });
    }
    u64::try_from(int(raw)?)
        .map(Value::Amount)
        .map_err(negative)
}

fn duration(raw: &DeValue<'_>) -> Result<GoDuration, Refused> {
    match raw {
        DeValue::String(text) => GoDuration::parse(text).map_err(|error| Bad {
            message: format!("{error}, found {text:?}"),
            item: None,
        }),
        DeValue::Integer(_) => int(raw).map(GoDuration),
        _ => Err(Type {
            expected: "a duration such as \"1h30m\" (or an integer of nanoseconds)",
            item: None,
        }),
    }
}

fn list(raw: &DeValue<'_>, expected: &'static str) -> Result<Vec<String>, Refused> {
    let DeValue::Array(array) = raw else {
        return Err(Type {
            expected,
            item: None,
        });
    };
    let strings = array.iter().enumerate().map(|(index, item)| {
        item.get_ref().as_str().map(ToOwned::to_owned).ok_or(Type {
            expected: "a string",
            item: Some(index),
        })
    });
    strings.collect()
}

fn filled_list(raw: &DeValue<'_>) -> Result<Value, Refused> {
    let list = list(raw, "an array of strings")?;
    match list.iter().position(|item| item.trim().is_empty()) {
        Some(index) => Err(Bad {
            message: format!("item {index} is empty"),
            item: Some(index),
        }),
        None => Ok(Value::List(list)),
    }
}

fn numbers(raw: &DeValue<'_>) -> Result<Value, Refused> {
    let DeValue::Array(array) = raw else {
        return Err(Type {
            expected: "an array of numbers",
            item: None,
        });
    };
    match array
        .iter()
        .position(|item| !matches!(item.get_ref(), DeValue::Integer(_) | DeValue::Float(_)))
    {
        Some(index) => Err(Type {
            expected: "a number",
            item: Some(index),
        }),
        None => Ok(Value::Opaque {
            empty: array.is_empty(),
        }),
    }
}

/// The entries of a table, each read by `read`.
fn entries<T, C: FromIterator<(String, T)>>(
    raw: &DeValue<'_>,
    expected: &'static str,
    read: impl Fn(&DeValue<'_>) -> Result<T, &'static str>,
) -> Result<C, Refused> {
    let DeValue::Table(table) = raw else {
        return Err(Type {
            expected,
            item: None,
        });
    };
    let entries =
        table
            .iter()
            .enumerate()
            .map(|(index, (key, value))| match read(value.get_ref()) {
                Ok(value) => Ok((key.get_ref().to_string(), value)),
                Err(expected) => Err(Type {
                    expected,
                    item: Some(index),
                }),
            });
    entries.collect()
}

fn texts(raw: &DeValue<'_>) -> Result<Value, Refused> {
    entries(raw, "a table of strings", |value| {
        value.as_str().map(ToOwned::to_owned).ok_or("a string")
    })
    .map(Value::Texts)
}

fn flags(raw: &DeValue<'_>) -> Result<Value, Refused> {
    entries(raw, "a table of booleans", |value| {
        value.as_bool().ok_or("true or false")
    })
    .map(Value::Flags)
}

fn lists(raw: &DeValue<'_>) -> Result<Value, Refused> {
    entries(raw, "a table of arrays of strings", |value| {
        list(value, "").map_err(|_| "an array of strings")
    })
    .map(Value::Lists)
}

fn any_tables(raw: &DeValue<'_>) -> Result<Value, Refused> {
    let DeValue::Array(array) = raw else {
        return Err(Type {
            expected: "an array of tables",
            item: None,
        });
    };
    match array.iter().position(|item| !item.get_ref().is_table()) {
        Some(index) => Err(Type {
            expected: "a table",
            item: Some(index),
        }),
        None => Ok(Value::Opaque {
            empty: array.is_empty(),
        }),
    }
}

fn amount(
    raw: &DeValue<'_>,
    read: fn(&str) -> Option<u64>,
    expected: &'static str,
) -> Result<Value, Refused> {
    let text = text(raw, expected)?;
    if text.is_empty() {
        return Ok(Value::Amount(0));
    }
    read(text).map(Value::Amount).ok_or_else(|| Bad {
        message: format!("expected {expected}, found {text:?}"),
        item: None,
    })
}

fn policies(raw: &DeValue<'_>, one_will_do: bool) -> Result<Value, Refused> {
    let policy = |name: &str, item| {
        let message = || format!("expected always, if-not-present or never, found {name:?}");
        PullPolicy::from_name(name).ok_or_else(|| Bad {
            message: message(),
            item,
        })
    };
    if let (DeValue::String(name), true) = (raw, one_will_do) {
        return Ok(Value::Policies(vec![policy(name, None)?]));
    }
    let expected = if one_will_do {
        "a string or an array of strings"
    } else {
        "an array of strings"
    };
    let names = list(raw, expected)?;
    let policies = names
        .iter()
        .enumerate()
        .map(|(index, name)| policy(name, Some(index)));
    policies.collect::<Result<_, _>>().map(Value::Policies)
}

fn one_of(
    raw: &DeValue<'_>,
    names: &[&str],
    same: fn(&str, &str) -> bool,
) -> Result<Value, Refused> {
    let text = text(raw, "a string")?;
    if names.iter().any(|name| same(name, text)) {
        return Ok(Value::Text(text.to_owned()));
    }
    Err(Bad {
        message: format!("expected one of {}, found {text:?}", names.join(", ")),
        item: None,
    })
}

fn keywords(raw: &DeValue<'_>) -> Result<Value, Refused> {
    match raw {
        DeValue::Boolean(value) => Ok(Value::Bool(*value)),
        _ => list(raw, "true, false or an array of keywords").map(Value::List),
    }
}

fn version(raw: &DeValue<'_>) -> Result<Value, Refused> {
    let text = text(raw, "a string")?;
    let parts: Vec<&str> = text.split('.').collect();
    let number = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if text.is_empty() || (parts.len() == 3 && parts.iter().all(number)) {
        return Ok(Value::Text(text.to_owned()));
    }
    Err(Bad {
        message: format!("expected a release such as \"19.4.0\", found {text:?}"),
        item: None,
    })
}

fn time(raw: &DeValue<'_>) -> Result<Option<SystemTime>, Refused> {
    let expected = "a datetime such as 2026-01-02T03:04:05Z";
    match raw {
        DeValue::Datetime(datetime) => instant(datetime).ok_or(Type {
            expected,
            item: None,
        }),
        DeValue::String(text) => {
            let read = text.parse::<Datetime>().ok().as_ref().and_then(instant);
            read.ok_or_else(|| Bad {
                message: format!("expected {expected}"),
                item: None,
            })
        }
        _ => Err(Type {
            expected,
            item: None,
        }),
    }
}

/// The instant; `Some(None)` for the zero time of Go (year 1), which stands for unset; `None` without a date. A time without offset
/// counts as UTC. Times before 1970 are cut to it: they only say "long ago".
fn instant(datetime: &Datetime) -> Option<Option<SystemTime>> {
    let date = datetime.date?;
    if date.year <= 1 {
        return Some(None);
    }
    let mut seconds = days_since_1970(
        i64::from(date.year),
        i64::from(date.month),
        i64::from(date.day),
    ) * 86_400;
    if let Some(time) = datetime.time {
        seconds += i64::from(time.hour) * 3600
            + i64::from(time.minute) * 60
            + i64::from(time.second.unwrap_or(0));
    }
    if let Some(Offset::Custom { minutes }) = datetime.offset {
        seconds -= i64::from(minutes) * 60;
    }
    Some(Some(
        UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0)),
    ))
}

/// Days of the proleptic Gregorian calendar, counted in eras of 400 years that begin in March.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::{Datetime, days_since_1970, instant};
    use rstest::rstest;
    use std::time::{Duration, UNIX_EPOCH};

    #[rstest]
    #[case(1970, 1, 1, 0)]
    #[case(2000, 2, 29, 11_016)]
    #[case(2000, 3, 1, 11_017)]
    #[case(2026, 1, 2, 20_455)]
    #[case(1969, 12, 31, -1)]
    fn days_are_counted(
        #[case] year: i64,
        #[case] month: i64,
        #[case] day: i64,
        #[case] days: i64,
    ) {
        assert_eq!(days_since_1970(year, month, day), days);
    }

    #[rstest]
    #[case("2026-01-02T03:04:05Z", Some(Some(1_767_323_045)))]
    #[case("2026-01-02T05:04:05+02:00", Some(Some(1_767_323_045)))]
    #[case("2026-01-02T03:04:05", Some(Some(1_767_323_045)))]
    #[case("2026-01-02", Some(Some(1_767_312_000)))]
    #[case("0001-01-01T00:00:00Z", Some(None))]
    #[case("1960-01-01T00:00:00Z", Some(Some(0)))]
    #[case("03:04:05", None)]
    fn a_datetime_is_an_instant(#[case] text: &str, #[case] expected: Option<Option<u64>>) {
        let datetime: Datetime = text.parse().unwrap();
        let seconds = instant(&datetime)
            .map(|time| time.map(|time| time.duration_since(UNIX_EPOCH).unwrap()));
        assert_eq!(seconds, expected.map(|time| time.map(Duration::from_secs)));
    }
}
