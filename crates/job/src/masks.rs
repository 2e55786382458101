//! What must not be readable in the trace: the lists for the masker (coordinator-api §11).

use std::collections::HashSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::feature_flag::{FeatureFlag, FeatureFlags};
use crate::payload::JobPayload;
use crate::variable::Variables;

mod encoded;

/// Prefix that is masked whatever the flags say.
const ALWAYS_MASKED_PREFIX: &str = "glpat-";

/// Prefixes that are masked with `FF_MASK_ALL_DEFAULT_TOKENS`.
const DEFAULT_PREFIXES: [&str; 13] = [
    "gloas-",
    "gldt-",
    "glrt-",
    "glcbt-",
    "glrtr-",
    "glptt-",
    "glft-",
    "glimt-",
    "glagent-",
    "glsoat-",
    "glffct-",
    "_gitlab_session=",
    "gltok-",
];

/// Lists for the masker of one job. `Debug` shows their sizes only.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Masks {
    /// Texts to mask wherever they stand: without surrounding blanks, none empty, each once,
    /// the longest first.
    pub phrases: Vec<String>,
    /// Prefixes after which a token is masked: none empty, each once. All of them are to be
    /// used; the peer stops at 15 and so leaks (coordinator-api §11).
    pub token_prefixes: Vec<String>,
}

impl Masks {
    /// The lists of a job. `variables` is the final expanded list, so that a masked value which refers to another variable is masked as
    /// scripts see it; as the server sent it, it is masked as well, because another variable that refers to it holds that text. With
    /// `encoded` the forms of every phrase in base64, URLs, JSON and traces of shells are phrases, too.
    pub fn of_job(
        payload: &JobPayload,
        variables: &Variables,
        flags: &FeatureFlags,
        encoded: bool,
    ) -> Self {
        let repo_url = payload.git_info.repo_url.expose();
        let raw_password = url_password(repo_url);
        let password = raw_password.map(percent_decode);
        let phrases = variables
            .iter()
            .filter(|variable| variable.masked)
            .map(|variable| variable.value.as_str())
            .chain(as_sent(payload))
            .chain([payload.token.expose()])
            .chain(raw_password)
            .chain(password.as_deref())
            .chain(
                payload
                    .credentials
                    .iter()
                    .map(|credential| credential.password.expose()),
            )
            .chain(
                payload
                    .dependencies
                    .iter()
                    .map(|dependency| dependency.token.expose()),
            );

        let defaults: &[&str] = if flags.is_on(FeatureFlag::MaskAllDefaultTokens) {
            &DEFAULT_PREFIXES
        } else {
            &[]
        };
        let prefixes = [ALWAYS_MASKED_PREFIX]
            .into_iter()
            .chain(defaults.iter().copied())
            .chain(
                payload
                    .features
                    .token_mask_prefixes
                    .iter()
                    .map(String::as_str),
            );

        let mut phrases = distinct(phrases);
        if encoded {
            let forms: Vec<_> = phrases
                .iter()
                .flat_map(|phrase| encoded::forms(phrase))
                .collect();
            phrases = distinct(phrases.iter().chain(&forms).map(String::as_str));
        }
        // Stable, so that equal lengths keep the order of the job.
        phrases.sort_by_key(|phrase| std::cmp::Reverse(phrase.len()));
        Self {
            phrases,
            token_prefixes: distinct(prefixes),
        }
    }
}

impl Masks {
    /// A text with the phrases of the masks taken out, for where no masker stands in between.
    pub fn hide(&self, text: &str) -> String {
        let mut hidden = text.to_owned();
        for phrase in &self.phrases {
            if hidden.contains(phrase.as_str()) {
                hidden = hidden.replace(phrase.as_str(), "[MASKED]");
            }
        }
        hidden
    }
}

impl fmt::Debug for Masks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Masks")
            .field("phrases", &self.phrases.len())
            .field("token_prefixes", &self.token_prefixes.len())
            .finish()
    }
}

/// Masked values before expansion. Such as are nothing but references hold no secret themselves, and would hide these wherever a
/// script shows them.
fn as_sent(payload: &JobPayload) -> impl Iterator<Item = &str> {
    let nothing = Variables::new();
    payload
        .variables
        .iter()
        .filter(move |variable| {
            variable.masked && !nothing.expand(&variable.value).trim().is_empty()
        })
        .map(|variable| variable.value.as_str())
}

/// Trimmed, without empty ones, the first of equal ones.
fn distinct<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut seen = HashSet::new();
    texts
        .map(str::trim)
        .filter(|text| !text.is_empty() && seen.insert(*text))
        .map(str::to_owned)
        .collect()
}

/// The password in the user info of a URL, as written.
fn url_password(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    let (user_info, _) = authority.rsplit_once('@')?;
    user_info.split_once(':').map(|(_, password)| password)
}

fn percent_decode(text: &str) -> String {
    let hex = |byte: u8| char::from(byte).to_digit(16);
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        let decoded = match (first, after) {
            (b'%', [high, low, tail @ ..]) => hex(*high).zip(hex(*low)).map(|(high, low)| {
                rest = tail;
                u8::try_from(high * 16 + low).unwrap_or(b'%')
            }),
            _ => None,
        };
        bytes.push(decoded.unwrap_or(*first));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::payload::{Credential, GitInfo, ServerFeatures};
    use crate::variable::Variable;

    fn masked(value: &str) -> Variable {
        Variable {
            masked: true,
            ..Variable::new("K", value)
        }
    }

    #[test]
    fn phrases_are_trimmed_distinct_and_longest_first() {
        let variables = Variables::from(vec![
            masked(" secret \n"),
            masked("secret"),
            masked("  "),
            masked("secret_suffix"),
            Variable::new("PLAIN", "plain value"),
        ]);
        let masks = Masks::of_job(
            &JobPayload::default(),
            &variables,
            &FeatureFlags::default(),
            false,
        );
        assert_eq!(masks.phrases, ["secret_suffix", "secret"]);
    }

    #[test]
    fn tokens_of_the_payload_are_masked_though_no_variable_holds_them() {
        let payload = JobPayload {
            token: "job-token".into(),
            git_info: GitInfo {
                repo_url: "https://gitlab-ci-token:p%40ss@gitlab.example.com/a@b/c.git".into(),
                ..GitInfo::default()
            },
            credentials: vec![Credential {
                password: "registry-password".into(),
                ..Credential::default()
            }],
            ..JobPayload::default()
        };
        let masks = Masks::of_job(&payload, &Variables::new(), &FeatureFlags::default(), false);
        assert_eq!(
            masks.phrases,
            ["registry-password", "job-token", "p%40ss", "p@ss"]
        );
    }

    #[test]
    fn values_are_masked_before_and_after_expansion() {
        let sent = vec![masked("pa$$word-$PART"), masked("$PART"), masked("${A}$B ")];
        let payload = JobPayload {
            variables: sent.clone(),
            ..JobPayload::default()
        };
        let mut variables = Variables::from(sent);
        variables.push(Variable::new("PART", "of"));
        let masks = Masks::of_job(
            &payload,
            &variables.expanded(),
            &FeatureFlags::default(),
            false,
        );
        assert_eq!(masks.phrases, ["pa$$word-$PART", "pa$word-of", "of"]);
    }

    #[test]
    fn encoded_forms_are_phrases_if_wanted() {
        let variables = Variables::from(vec![masked("secret value"), masked("short")]);
        let of = |encoded| {
            Masks::of_job(
                &JobPayload::default(),
                &variables,
                &FeatureFlags::default(),
                encoded,
            )
            .phrases
        };
        assert_eq!(of(false), ["secret value", "short"]);
        let phrases = of(true);
        for form in ["secret value", "short", "secret%20value", "secret+value"] {
            assert!(phrases.contains(&form.to_owned()), "{phrases:?}");
        }
        assert!(phrases.contains(&"c2VjcmV0IHZhbHVl".to_owned()));
        assert!(phrases.is_sorted_by_key(|phrase| std::cmp::Reverse(phrase.len())));
    }

    #[test]
    fn every_prefix_of_the_server_counts() {
        let payload = JobPayload {
            features: ServerFeatures {
                token_mask_prefixes: (0..20).map(|n| format!("own{n}-")).collect(),
                ..ServerFeatures::default()
            },
            ..JobPayload::default()
        };
        let mut flags = FeatureFlags::default();
        let masks = Masks::of_job(&payload, &Variables::new(), &flags, false);
        assert_eq!(masks.token_prefixes.len(), 14 + 20);
        flags.set(FeatureFlag::MaskAllDefaultTokens, false);
        let masks = Masks::of_job(&payload, &Variables::new(), &flags, false);
        assert_eq!(masks.token_prefixes.len(), 1 + 20);
        assert_eq!(masks.token_prefixes[0], "glpat-");
    }

    #[rstest]
    #[case("https://u:p@host/x", Some("p"))]
    #[case("https://u:a:b@host", Some("a:b"))]
    #[case("https://u@host/x", None)]
    #[case("https://host/x:y@z", None)]
    #[case("git@host:path", None)]
    #[case("", None)]
    fn password_is_found_in_a_url(#[case] url: &str, #[case] password: Option<&str>) {
        assert_eq!(url_password(url), password);
    }

    #[rstest]
    #[case("a%20b", "a b")]
    #[case("100%", "100%")]
    #[case("%zz%4", "%zz%4")]
    #[case("%C3%A9", "é")]
    fn percent_signs_are_decoded(#[case] text: &str, #[case] decoded: &str) {
        assert_eq!(percent_decode(text), decoded);
    }

    #[test]
    fn a_text_is_hidden_the_longest_phrase_first() {
        let masks = Masks {
            phrases: vec!["secret_suffix".into(), "secret".into()],
            token_prefixes: vec![],
        };
        assert_eq!(
            masks.hide("pull host/secret_suffix:secret"),
            "pull host/[MASKED]:[MASKED]"
        );
    }

    #[test]
    fn debug_shows_no_phrase() {
        let masks = Masks {
            phrases: vec!["hush".into()],
            token_prefixes: vec![],
        };
        assert!(!format!("{masks:?}").contains("hush"));
    }
}
