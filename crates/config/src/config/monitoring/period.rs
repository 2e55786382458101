//! Periods as cron expressions with seconds and years (`* * 9-17 * * mon-fri *`), in the syntax of the library that GitLab Runner uses.

use std::{collections::BTreeSet, fmt, str::FromStr};

use jiff::{SignedDuration, ZonedDateTime, civil::Date};

/// A set of moments: the seconds that a cron expression names.
///
/// Seven fields: second, minute, hour, day of month, month, day of week, year. With six, the second is 0; with five, also any year. A
/// field is `*`, `?`, a value, a range, either with a step, or a list of those; months and days of the week have their English names; a
/// day of the month may be `L`, `LW` or `15W`, one of the week `5L` or `5#3`. Where both days are restricted, one of them is enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Period {
    text: String,
    seconds: Set,
    minutes: Set,
    hours: Set,
    days: Days,
    months: Set,
    years: Set,
}

/// Values of a field; `None`: all.
type Set = Option<BTreeSet<u16>>;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Days {
    All,
    /// Any of these.
    Some(Vec<Day>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Day {
    OfMonth(u16),
    /// `L`
    LastOfMonth,
    /// `LW`
    LastWorkday,
    /// `15W`: the workday of the same month that is nearest.
    NearestWorkday(u16),
    /// 0 is Sunday.
    OfWeek(u16),
    /// `5L`
    LastOfWeek(u16),
    /// `5#3`
    NthOfWeek(u16, u16),
}

/// What values a field has.
struct Field {
    what: &'static str,
    least: u16,
    greatest: u16,
    names: &'static [&'static str],
}

const SECOND: Field = field("second", 0, 59);
const MINUTE: Field = field("minute", 0, 59);
const HOUR: Field = field("hour", 0, 23);
const DAY: Field = field("day of month", 1, 31);
const MONTH: Field = Field {
    names: &[
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
    ],
    ..field("month", 1, 12)
};
const WEEKDAY: Field = Field {
    names: &[
        "sunday",
        "monday",
        "tuesday",
        "wednesday",
        "thursday",
        "friday",
        "saturday",
    ],
    ..field("day of week", 0, 7)
};
const YEAR: Field = field("year", 1970, 2099);

const fn field(what: &'static str, least: u16, greatest: u16) -> Field {
    Field {
        what,
        least,
        greatest,
        names: &[],
    }
}

impl Period {
    /// Whether the period is going on. As in the peer a moment counts when it or the next second is named.
    #[must_use]
    pub fn contains(&self, now: &ZonedDateTime) -> bool {
        let next = now.saturating_add(SignedDuration::from_secs(1));
        self.names(now) || self.names(&next)
    }

    fn names(&self, at: &ZonedDateTime) -> bool {
        let has = |set: &Set, value: i16| {
            let value = u16::try_from(value).unwrap_or_default();
            set.as_ref().is_none_or(|set| set.contains(&value))
        };
        has(&self.seconds, at.second().into())
            && has(&self.minutes, at.minute().into())
            && has(&self.hours, at.hour().into())
            && has(&self.months, at.month().into())
            && has(&self.years, at.year())
            && match &self.days {
                Days::All => true,
                Days::Some(days) => days.iter().any(|day| day.is(at.date())),
            }
    }
}

impl Day {
    fn is(self, date: Date) -> bool {
        let day = u16::try_from(date.day()).unwrap_or_default();
        let last = u16::try_from(date.days_in_month()).unwrap_or_default();
        let weekday = weekday(date);
        match self {
            Self::OfMonth(number) => day == number,
            Self::LastOfMonth => day == last,
            Self::LastWorkday => nearest_workday(date, last) == Some(day),
            Self::NearestWorkday(number) => nearest_workday(date, number) == Some(day),
            Self::OfWeek(number) => weekday == number,
            Self::LastOfWeek(number) => weekday == number && day + 7 > last,
            Self::NthOfWeek(number, nth) => weekday == number && (day - 1) / 7 + 1 == nth,
        }
    }
}

fn weekday(date: Date) -> u16 {
    u16::try_from(date.weekday().to_sunday_zero_offset()).unwrap_or_default()
}

/// The workday nearest to a day of `date`'s month, in the same month; `None` if the month has no such day.
fn nearest_workday(date: Date, day: u16) -> Option<u16> {
    let last = u16::try_from(date.days_in_month()).ok()?;
    let at = Date::new(date.year(), date.month(), i8::try_from(day).ok()?).ok()?;
    Some(match weekday(at) {
        0 if day == last => day - 2,
        0 => day + 1,
        6 if day == 1 => day + 2,
        6 => day - 1,
        _ => day,
    })
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Period {
    type Err = String;

    /// # Errors
    /// What is wrong with which field, in words.
    fn from_str(text: &str) -> Result<Self, String> {
        let expanded = match text.trim() {
            "@yearly" | "@annually" => "0 0 0 1 1 * *",
            "@monthly" => "0 0 0 1 * * *",
            "@weekly" => "0 0 0 * * 0 *",
            "@daily" | "@midnight" => "0 0 0 * * * *",
            "@hourly" => "0 0 * * * * *",
            other => other,
        };
        let mut fields: Vec<&str> = expanded.split_whitespace().collect();
        if (5..=6).contains(&fields.len()) {
            fields.insert(0, "0");
        }
        if fields.len() == 6 {
            fields.push("*");
        }
        let [second, minute, hour, day, month, weekday, year] = fields[..] else {
            return Err(format!(
                "a cron expression has 5 to 7 fields, {text:?} has {}",
                text.split_whitespace().count()
            ));
        };
        let days = match (
            days(day, &DAY, day_of_month)?,
            days(weekday, &WEEKDAY, day_of_week)?,
        ) {
            (None, None) => Days::All,
            (of_month, of_week) => {
                let either = of_month.into_iter().chain(of_week);
                Days::Some(either.flatten().collect())
            }
        };
        Ok(Self {
            text: text.to_owned(),
            seconds: values(second, &SECOND)?,
            minutes: values(minute, &MINUTE)?,
            hours: values(hour, &HOUR)?,
            days,
            months: values(month, &MONTH)?,
            years: values(year, &YEAR)?,
        })
    }
}

fn is_all(text: &str) -> bool {
    matches!(text, "*" | "?")
}

fn values(text: &str, field: &Field) -> Result<Set, String> {
    if is_all(text) {
        return Ok(None);
    }
    let mut set = BTreeSet::new();
    for part in text.split(',') {
        set.extend(field.range(part)?);
    }
    Ok(Some(set))
}

/// The days of a field by `special` forms or plain ones; `None`: all.
fn days(
    text: &str,
    field: &Field,
    read: impl Fn(&str) -> Result<Vec<Day>, String>,
) -> Result<Option<Vec<Day>>, String> {
    if is_all(text) {
        return Ok(None);
    }
    if text.is_empty() {
        return Err(field.refuse(text));
    }
    let mut days = Vec::new();
    for part in text.split(',') {
        days.extend(read(part)?);
    }
    Ok(Some(days))
}

fn day_of_month(part: &str) -> Result<Vec<Day>, String> {
    let upper = part.to_ascii_uppercase();
    Ok(match upper.as_str() {
        "L" => vec![Day::LastOfMonth],
        "LW" | "WL" => vec![Day::LastWorkday],
        other => match other.strip_suffix('W') {
            Some(number) => vec![Day::NearestWorkday(DAY.value(number)?)],
            None => DAY.range(part)?.into_iter().map(Day::OfMonth).collect(),
        },
    })
}

fn day_of_week(part: &str) -> Result<Vec<Day>, String> {
    let number = |text: &str| WEEKDAY.value(text).map(|number| number % 7);
    if let Some((day, nth)) = part.split_once('#') {
        let nth: u16 = nth.parse().map_err(|_| WEEKDAY.refuse(part))?;
        if !(1..=5).contains(&nth) {
            return Err(WEEKDAY.refuse(part));
        }
        return Ok(vec![Day::NthOfWeek(number(day)?, nth)]);
    }
    let day = part.strip_suffix(['L', 'l']);
    // "april" and the like end in one; days do not.
    if let Some(day) = day.filter(|day| !day.is_empty()) {
        return Ok(vec![Day::LastOfWeek(number(day)?)]);
    }
    let days = WEEKDAY.range(part)?;
    Ok(days.into_iter().map(|day| Day::OfWeek(day % 7)).collect())
}

impl Field {
    fn refuse(&self, part: &str) -> String {
        format!(
            "{part:?} is no {} of a cron expression ({} to {})",
            self.what, self.least, self.greatest
        )
    }

    /// One value, by number or by name.
    fn value(&self, text: &str) -> Result<u16, String> {
        let lower = text.to_ascii_lowercase();
        let name = |name: &&str| **name == lower || (lower.len() == 3 && name.starts_with(&lower));
        if let Some(index) = self.names.iter().position(name) {
            return Ok(self.least + u16::try_from(index).unwrap_or_default());
        }
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|_| digits);
        number
            .filter(|number| (self.least..=self.greatest).contains(number))
            .ok_or_else(|| self.refuse(text))
    }

    /// `*`, `5`, `5-7`, each also with `/step`.
    fn range(&self, part: &str) -> Result<Vec<u16>, String> {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => {
                let step = step.parse().ok().filter(|step| *step > 0);
                (range, Some(step.ok_or_else(|| self.refuse(part))?))
            }
            None => (part, None),
        };
        let (from, to) = match range.split_once('-') {
            _ if is_all(range) => (self.least, self.greatest),
            Some((from, to)) => (self.value(from)?, self.value(to)?),
            None => {
                let from = self.value(range)?;
                // `5/15` goes on to the end.
                (from, if step.is_some() { self.greatest } else { from })
            }
        };
        if from > to {
            return Err(format!("{part:?} begins after its end"));
        }
        Ok((from..=to).step_by(step.unwrap_or(1)).collect())
    }
}

#[cfg(test)]
mod tests {
    use jiff::{Timestamp, tz::TimeZone};
    use rstest::rstest;

    use super::*;

    fn at(time: &str) -> ZonedDateTime {
        let time: Timestamp = format!("{time}Z").parse().unwrap();
        time.to_zoned_datetime(TimeZone::UTC)
    }

    /// 2026-11-28 is a Saturday.
    #[rstest]
    #[case::always("* * * * * * *", "2026-11-28T23:59:30", true)]
    #[case::office_hours("* * 9-17 * * mon-fri *", "2026-11-27T09:00:00", true)]
    #[case::on_a_weekend("* * 9-17 * * mon-fri *", "2026-11-28T10:00:00", false)]
    #[case::before_nine("* * 9-17 * * mon-fri *", "2026-11-27T08:59:58", false)]
    #[case::within_a_second_of_it("* * 9-17 * * mon-fri *", "2026-11-27T08:59:59", true)]
    #[case::sunday_is_seven("* * * * * 7 *", "2026-11-29T10:00:00", true)]
    #[case::sunday_is_zero("* * * * * 0 *", "2026-11-29T10:00:00", true)]
    #[case::long_names("* * * * November Saturday *", "2026-11-28T10:00:00", true)]
    #[case::five_fields("30 10 * * *", "2026-11-28T10:30:00", true)]
    #[case::five_fields_at_another_second("30 10 * * *", "2026-11-28T10:30:30", false)]
    #[case::six_fields_end_with_the_year("30 10 * * * 2027", "2026-11-28T10:30:00", false)]
    #[case::a_list_with_steps("0/10,5 * * * * * *", "2026-11-28T10:00:05", true)]
    #[case::a_range_with_steps("* 10-20/5 * * * * *", "2026-11-28T10:15:00", true)]
    #[case::between_steps("* 10-20/5 * * * * *", "2026-11-28T10:16:00", false)]
    #[case::either_day("* * * 28 * mon *", "2026-11-28T10:00:00", true)]
    #[case::neither_day("* * * 27 * mon *", "2026-11-28T10:00:00", false)]
    #[case::any_day_of_the_week("* * * 28 * ? *", "2026-11-28T10:00:00", true)]
    #[case::last_day("* * * L * * *", "2026-11-30T10:00:00", true)]
    #[case::last_day_of_february("* * * L * * *", "2028-02-29T10:00:00", true)]
    #[case::nearest_workday("* * * 28W * * *", "2026-11-27T10:00:00", true)]
    #[case::nearest_workday_in_the_month("* * * 1W * * *", "2026-08-03T10:00:00", true)]
    #[case::last_workday("* * * LW * * *", "2026-10-30T10:00:00", true)]
    #[case::last_friday("* * * * * 5L *", "2026-11-27T10:00:00", true)]
    #[case::not_the_last_friday("* * * * * 5L *", "2026-11-20T10:00:00", false)]
    #[case::third_friday("* * * * * fri#3 *", "2026-11-20T10:00:00", true)]
    #[case::hourly("@hourly", "2026-11-28T10:00:00", true)]
    fn a_period_goes_on(#[case] period: &str, #[case] time: &str, #[case] expected: bool) {
        let period: Period = period.parse().unwrap();
        assert_eq!(period.contains(&at(time)), expected);
    }

    #[rstest]
    #[case("", "5 to 7 fields")]
    #[case("* * *", "5 to 7 fields, \"* * *\" has 3")]
    #[case("* * * * * * * *", "5 to 7 fields")]
    #[case("60 * * * * * *", "\"60\" is no second")]
    #[case("* * 24 * * * *", "\"24\" is no hour")]
    #[case("* * * 0 * * *", "\"0\" is no day of month")]
    #[case("* * * * * someday *", "\"someday\" is no day of week")]
    #[case("* * * * * fri-mon *", "begins after its end")]
    #[case("*/0 * * * * * *", "\"*/0\" is no second")]
    #[case("1,,2 * * * * * *", "\"\" is no second")]
    #[case("-1 * * * * * *", "\"\" is no second")]
    #[case("+1 * * * * * *", "\"+1\" is no second")]
    #[case("* * * * * 5#6 *", "\"5#6\" is no day of week")]
    #[case("* * * W * * *", "\"\" is no day of month")]
    #[case("* * * * * * 99999999999", "is no year")]
    fn what_is_no_period_is_refused(#[case] period: &str, #[case] expected: &str) {
        let error = period.parse::<Period>().unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}
