//! What an answer of the server means: status and headers to outcome. Pure.

use std::time::Duration;

use reqwest::header::HeaderMap;
use serde_json::Value;

use crate::{AbortReason, CallFailure, JobReply, PatchAnswer, UpdateAnswer};

/// Longest update interval a server may ask for.
const LONGEST_INTERVAL: Duration = Duration::from_secs(15 * 60);

/// `PATCH jobs/:id/trace` (coordinator-api §6 "Response"). `end` is the offset behind the patch.
pub(crate) fn patch_reply(
    status: u16,
    headers: &HeaderMap,
    end: u64,
    failure: impl FnOnce() -> CallFailure,
) -> JobReply<PatchAnswer> {
    let answer = match (abort_reason(status, headers), status) {
        (Some(reason), _) => PatchAnswer::Aborted(reason),
        (None, 202) => PatchAnswer::Accepted { next: end },
        (None, 404) => PatchAnswer::NotFound,
        (None, 416) => PatchAnswer::RangeMismatch {
            next: stored_length(headers),
        },
        (None, _) => PatchAnswer::Failed(failure()),
    };
    let aborted = matches!(answer, PatchAnswer::Aborted(_));
    with_headers(answer, aborted, headers)
}

/// `PUT jobs/:id` (coordinator-api §7 "Response").
pub(crate) fn update_reply(
    status: u16,
    headers: &HeaderMap,
    failure: impl FnOnce() -> CallFailure,
) -> JobReply<UpdateAnswer> {
    let answer = match (abort_reason(status, headers), status) {
        (Some(reason), _) => UpdateAnswer::Aborted(reason),
        (None, 200) => UpdateAnswer::Ok,
        (None, 202) => UpdateAnswer::Accepted,
        (None, 404) => UpdateAnswer::Aborted(AbortReason::NotFound),
        (None, 412) => UpdateAnswer::Rewind,
        (None, _) => UpdateAnswer::Failed(failure()),
    };
    let aborted = matches!(answer, UpdateAnswer::Aborted(_));
    with_headers(answer, aborted, headers)
}

fn with_headers<A>(answer: A, aborted: bool, headers: &HeaderMap) -> JobReply<A> {
    JobReply {
        answer,
        canceling: !aborted && job_status(headers) == Some("canceling"),
        update_interval: update_interval(headers),
    }
}

fn abort_reason(status: u16, headers: &HeaderMap) -> Option<AbortReason> {
    match job_status(headers) {
        Some(over @ ("canceled" | "failed")) => Some(AbortReason::JobStatus {
            job_status: over.to_owned(),
            http_status: status,
        }),
        _ => (status == 403).then_some(AbortReason::Forbidden),
    }
}

pub(crate) fn job_status(headers: &HeaderMap) -> Option<&str> {
    text(headers, "job-status")
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// `X-GitLab-Trace-Update-Interval` in seconds; anything but a positive integer is no interval.
fn update_interval(headers: &HeaderMap) -> Option<Duration> {
    let seconds: i64 = text(headers, "x-gitlab-trace-update-interval")?
        .parse()
        .ok()?;
    let seconds = u64::try_from(seconds).ok().filter(|seconds| *seconds > 0)?;
    Some(Duration::from_secs(seconds).min(LONGEST_INTERVAL))
}

/// The `n` of `Range: 0-<n>`: the server's length. 0 when missing or malformed.
fn stored_length(headers: &HeaderMap) -> u64 {
    text(headers, "range")
        .and_then(|range| range.split_once('-'))
        .and_then(|(_, length)| length.trim().parse().ok())
        .unwrap_or(0)
}

/// Whether the media type is exactly `application/json`; parameters do not matter.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    text(headers, "content-type")
        .and_then(|value| value.split(';').next())
        .is_some_and(|media| media.trim().eq_ignore_ascii_case("application/json"))
}

/// The `message` of an error body, `{"message": "…"}` or `{"message": {"field": ["a", "b"]}}`; empty if there is none.
pub(crate) fn error_message(headers: &HeaderMap, body: &[u8]) -> String {
    if !is_json(headers) {
        return String::new();
    }
    let Ok(body) = serde_json::from_slice::<Value>(body) else {
        return String::new();
    };
    match &body["message"] {
        Value::String(message) => message.clone(),
        Value::Object(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|(field, problems)| format!("{field}: {}", joined(problems)))
                .collect();
            fields.join(", ")
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => String::new(),
    }
}

fn joined(problems: &Value) -> String {
    match problems {
        Value::Array(problems) => {
            let problems: Vec<String> = problems.iter().map(plain).collect();
            problems.join("; ")
        }
        other => plain(other),
    }
}

fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderName, HeaderValue};
    use rstest::rstest;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    fn failure(status: u16) -> CallFailure {
        CallFailure::Status {
            method: "PUT",
            url: "http://h/".into(),
            status,
            message: String::new(),
            wait: None,
        }
    }

    fn job_over(job_status: &str, http_status: u16) -> AbortReason {
        AbortReason::JobStatus {
            job_status: job_status.into(),
            http_status,
        }
    }

    #[rstest]
    #[case(202, &[], PatchAnswer::Accepted { next: 10 }, false)]
    #[case(202, &[("job-status", "running")], PatchAnswer::Accepted { next: 10 }, false)]
    #[case(202, &[("job-status", "canceling")], PatchAnswer::Accepted { next: 10 }, true)]
    #[case(202, &[("job-status", "canceled")], PatchAnswer::Aborted(job_over("canceled", 202)), false)]
    #[case(500, &[("job-status", "failed")], PatchAnswer::Aborted(job_over("failed", 500)), false)]
    #[case(403, &[], PatchAnswer::Aborted(AbortReason::Forbidden), false)]
    #[case(403, &[("job-status", "canceling")], PatchAnswer::Aborted(AbortReason::Forbidden), false)]
    #[case(404, &[], PatchAnswer::NotFound, false)]
    #[case(416, &[("range", "0-5")], PatchAnswer::RangeMismatch { next: 5 }, false)]
    #[case(416, &[("range", "0-5"), ("job-status", "canceling")], PatchAnswer::RangeMismatch { next: 5 }, true)]
    #[case(416, &[], PatchAnswer::RangeMismatch { next: 0 }, false)]
    #[case(416, &[("range", "0-five")], PatchAnswer::RangeMismatch { next: 0 }, false)]
    #[case(416, &[("range", "0--7")], PatchAnswer::RangeMismatch { next: 0 }, false)]
    #[case(200, &[], PatchAnswer::Failed(failure(200)), false)]
    #[case(409, &[], PatchAnswer::Failed(failure(409)), false)]
    #[case(500, &[("job-status", "canceling")], PatchAnswer::Failed(failure(500)), true)]
    fn a_patch_answer_is_read_in_the_order_of_the_table(
        #[case] status: u16,
        #[case] pairs: &[(&'static str, &'static str)],
        #[case] answer: PatchAnswer,
        #[case] canceling: bool,
    ) {
        let reply = patch_reply(status, &headers(pairs), 10, || failure(status));
        assert_eq!(reply.answer, answer);
        assert_eq!(reply.canceling, canceling);
    }

    #[rstest]
    #[case(200, &[], UpdateAnswer::Ok, false)]
    #[case(200, &[("job-status", "canceling")], UpdateAnswer::Ok, true)]
    #[case(200, &[("job-status", "failed")], UpdateAnswer::Aborted(job_over("failed", 200)), false)]
    #[case(202, &[], UpdateAnswer::Accepted, false)]
    #[case(403, &[], UpdateAnswer::Aborted(AbortReason::Forbidden), false)]
    #[case(403, &[("job-status", "canceled")], UpdateAnswer::Aborted(job_over("canceled", 403)), false)]
    #[case(404, &[], UpdateAnswer::Aborted(AbortReason::NotFound), false)]
    #[case(412, &[], UpdateAnswer::Rewind, false)]
    #[case(409, &[], UpdateAnswer::Failed(failure(409)), false)]
    #[case(429, &[], UpdateAnswer::Failed(failure(429)), false)]
    fn an_update_answer_is_read_in_the_order_of_the_table(
        #[case] status: u16,
        #[case] pairs: &[(&'static str, &'static str)],
        #[case] answer: UpdateAnswer,
        #[case] canceling: bool,
    ) {
        let reply = update_reply(status, &headers(pairs), || failure(status));
        assert_eq!(reply.answer, answer);
        assert_eq!(reply.canceling, canceling);
    }

    #[rstest]
    #[case("10", Some(10))]
    #[case("900", Some(900))]
    #[case("99999", Some(900))]
    #[case("0", None)]
    #[case("-1", None)]
    #[case("abc", None)]
    #[case("1.5", None)]
    #[case("", None)]
    fn the_update_interval_is_a_positive_integer_of_at_most_15_minutes(
        #[case] value: &'static str,
        #[case] seconds: Option<u64>,
    ) {
        let headers = headers(&[("x-gitlab-trace-update-interval", value)]);
        let reply = update_reply(500, &headers, || failure(500));
        assert_eq!(reply.update_interval, seconds.map(Duration::from_secs));
    }

    #[rstest]
    #[case(r#"{"message":"403 Forbidden"}"#, "403 Forbidden")]
    #[case(
        r#"{"message":{"state":["is bad","is odd"],"token":["gone"]}}"#,
        "state: is bad; is odd, token: gone"
    )]
    #[case(r#"{"message":{"base":"plain","n":[1]}}"#, "base: plain, n: 1")]
    #[case(r#"{"error":"x"}"#, "")]
    #[case("[]", "")]
    #[case("{", "")]
    fn error_bodies_are_put_into_one_line(#[case] body: &str, #[case] message: &str) {
        let headers = headers(&[("content-type", "application/json; charset=utf-8")]);
        assert_eq!(error_message(&headers, body.as_bytes()), message);
    }

    #[rstest]
    #[case("application/json", true)]
    #[case("application/json; charset=utf-8", true)]
    #[case("Application/JSON", true)]
    #[case("application/json2", false)]
    #[case("text/html", false)]
    #[case("application/problem+json", false)]
    fn only_the_exact_media_type_counts_as_json(#[case] value: &'static str, #[case] json: bool) {
        assert_eq!(is_json(&headers(&[("content-type", value)])), json);
        assert!(!is_json(&HeaderMap::new()));
    }
}
