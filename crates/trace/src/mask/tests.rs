//! The three searches against tables, and against searches that see all of the text at once.

use proptest::prelude::*;
use rstest::rstest;

use super::params::ParamState;
use super::tokens::{TokenPrefixes, TokenState};
use super::*;
use crate::default_token_prefixes;

fn phrases(secrets: &[&str]) -> MaskSet {
    MaskSet::new(
        secrets.iter().map(|text| Phrase::secret(*text)).collect(),
        &[],
    )
}

fn mask_phrases(masks: &MaskSet, pieces: &[&[u8]]) -> (String, bool) {
    let (mut held, mut out, mut mark) = (Vec::new(), Vec::new(), false);
    for (at, piece) in pieces.iter().enumerate() {
        held.extend_from_slice(piece);
        let taken = masks.phrases.scan(&held, at + 1 == pieces.len(), |piece| {
            mark |= piece == phrases::Piece::StartMark;
            out.extend_from_slice(piece.text());
        });
        held.drain(..taken);
    }
    assert!(held.is_empty(), "the end takes all");
    (String::from_utf8(out).unwrap(), mark)
}

fn mask_params(pieces: &[&[u8]]) -> String {
    let (mut state, mut out) = (ParamState::default(), Vec::new());
    for piece in pieces {
        state.feed(piece, |text| out.extend_from_slice(text));
    }
    String::from_utf8(out).unwrap()
}

fn mask_tokens(prefixes: &TokenPrefixes, pieces: &[&[u8]]) -> String {
    let (mut state, mut out) = (TokenState::default(), Vec::new());
    for piece in pieces {
        prefixes.feed(&mut state, piece, |text| out.extend_from_slice(text));
    }
    String::from_utf8(out).unwrap()
}

/// Whole, byte by byte, and cut in two at each place.
fn splits(text: &str) -> Vec<Vec<&[u8]>> {
    let text = text.as_bytes();
    let mut all = vec![vec![text], text.chunks(1).collect()];
    all.extend((0..=text.len()).map(|at| vec![&text[..at], &text[at..]]));
    all
}

#[rstest]
#[case::alone(&["secret"], "secret", "[MASKED]")]
#[case::within(&["secret"], "a secret.", "a [MASKED].")]
#[case::twice(&["secret"], "secretsecret", "[MASKED][MASKED]")]
#[case::longest_wins(&["secret", "secret_suffix"], "secret secret_suffix", "[MASKED] [MASKED]")]
#[case::longest_fails(&["secret", "secret_suffix"], "secret_suffiX", "[MASKED]_suffiX")]
#[case::part_at_the_end_stays(&["secret"], "no secre", "no secre")]
#[case::begins_again(&["aab"], "aaab", "a[MASKED]")]
#[case::begins_inside_another(&["abc", "bx"], "abx abc", "a[MASKED] [MASKED]")]
#[case::overlap_leftmost(&["abc", "cde"], "abcde", "[MASKED]de")]
#[case::over_lines(&["a\nb"], "a\nb a\nc", "[MASKED] a\nc")]
#[case::not_text(&["\u{e9}"], "caf\u{e9}", "caf[MASKED]")]
#[case::the_mask_itself(&["[MASKED]", "MASK"], "[MASKED] MASK", "[MASKED] [MASKED]")]
#[case::double_and_empty(&["x1", "", "x1"], "x1", "[MASKED]")]
#[case::none(&[], "text", "text")]
fn phrases_are_masked_under_any_split(
    #[case] secrets: &[&str],
    #[case] text: &str,
    #[case] expected: &str,
) {
    let masks = phrases(secrets);
    for pieces in splits(text) {
        assert_eq!(mask_phrases(&masks, &pieces).0, expected, "{pieces:?}");
    }
}

#[test]
fn a_start_mark_vanishes_with_its_line_and_is_reported() {
    let masks = MaskSet::new(vec![Phrase::start_mark("mark-1\n")], &[]);
    for pieces in splits("entry\nmark-1\nscript\n") {
        let found = mask_phrases(&masks, &pieces);
        assert_eq!(found, ("entry\nscript\n".to_owned(), true), "{pieces:?}");
    }
    let not_there = mask_phrases(&masks, &[b"mark-1 mark-12\n"]);
    assert_eq!(not_there, ("mark-1 mark-12\n".to_owned(), false));
}

#[test]
fn long_phrases_are_held_back_only_as_far_as_they_match() {
    let key = "k".repeat(5000);
    let masks = phrases(&[&key]);
    let mut passed = 0;
    let taken = masks
        .phrases
        .scan(b"text kkk", false, |piece| passed += piece.text().len());
    assert_eq!((taken, passed), (5, 5));
    let (text, _) = mask_phrases(&masks, &[b"<", key.as_bytes(), b">"]);
    assert_eq!(text, "<[MASKED]>");
}

#[rstest]
#[case::first(
    "http://h/?private_token=abc rest",
    "http://h/?private_token=[MASKED] rest"
)]
#[case::second("h?a=b&rss_token=abc", "h?a=b&rss_token=[MASKED]")]
#[case::any_case("?X-Amz-Signature=0a&x", "?X-Amz-Signature=[MASKED]&x")]
#[case::all_keys(
    "?authenticity_token=1&x-amz-credential=2/3&x-amz-security-token=4?private_token=5",
    "?authenticity_token=[MASKED]&x-amz-credential=[MASKED]&x-amz-security-token=[MASKED]\
     ?private_token=[MASKED]"
)]
#[case::empty_value("?rss_token=&a=b", "?rss_token=[MASKED]&a=b")]
#[case::empty_value_at_the_end("?rss_token=", "?rss_token=[MASKED]")]
#[case::value_ends_at_a_line("?rss_token=a\nb", "?rss_token=[MASKED]\nb")]
#[case::value_ends_at_a_control_character("?rss_token=a\u{8}b", "?rss_token=[MASKED]\u{8}b")]
#[case::odd_value("?rss_token=!@#$=%/;b&c", "?rss_token=[MASKED]&c")]
#[case::no_separator("rss_token=abc", "rss_token=abc")]
#[case::other_key("?rss_tokens=abc&xrss_token=d", "?rss_tokens=abc&xrss_token=d")]
#[case::key_begins_again("?rss_?rss_token=a", "?rss_?rss_token=[MASKED]")]
#[case::double_separator("?&&rss_token=a", "?&&rss_token=[MASKED]")]
#[case::cut_key("?rss_tok", "?rss_tok")]
fn values_of_url_parameters_are_masked_under_any_split(#[case] text: &str, #[case] expected: &str) {
    for pieces in splits(text) {
        assert_eq!(mask_params(&pieces), expected, "{pieces:?}");
    }
}

#[rstest]
#[case::token("a glpat-imp_.=-X9 b", "a glpat-[MASKED] b")]
#[case::in_a_word("xglpat-abc!", "xglpat-[MASKED]!")]
#[case::no_token("glpat- glpat-\n glpat-", "glpat- glpat-\n glpat-")]
#[case::at_the_end("glpat-a", "glpat-[MASKED]")]
#[case::two_in_one("glpat-aglpat-b c", "glpat-[MASKED] c")]
#[case::two("glpat-a,glrt-b", "glpat-[MASKED],glrt-[MASKED]")]
#[case::begins_again("glglpat-a", "glglpat-[MASKED]")]
#[case::not_quite("glpa-abc glpat_abc", "glpa-abc glpat_abc")]
#[case::cookie("_gitlab_session=0af; x", "_gitlab_session=[MASKED]; x")]
#[case::agent(
    "glagent-x glcbt-y glrtr-z",
    "glagent-[MASKED] glcbt-[MASKED] glrtr-[MASKED]"
)]
fn tokens_are_masked_by_prefix_under_any_split(#[case] text: &str, #[case] expected: &str) {
    let prefixes = TokenPrefixes::new(&default_token_prefixes(true));
    for pieces in splits(text) {
        assert_eq!(mask_tokens(&prefixes, &pieces), expected, "{pieces:?}");
    }
}

#[test]
fn any_number_of_token_prefixes_is_masked() {
    let mut all = default_token_prefixes(true);
    all.extend((1..=20).map(|number| format!("company{number}-")));
    let prefixes = TokenPrefixes::new(&all);
    for prefix in &all {
        let masked = mask_tokens(&prefixes, &[format!("{prefix}abc ").as_bytes()]);
        assert_eq!(masked, format!("{prefix}[MASKED] "));
    }
    let only = TokenPrefixes::new(&default_token_prefixes(false));
    assert_eq!(
        mask_tokens(&only, &[b"glpat-a glrt-b"]),
        "glpat-[MASKED] glrt-b"
    );
}

#[rstest]
#[case::one_inside_another(&["a-", "xa-!-"], "xa-!-t", "xa-!-[MASKED]")]
#[case::one_begins_another(&["a!", "a!!b-"], "a!!b-t", "a!!b-[MASKED]")]
#[case::overlapping(&["ab!", "b!c!"], "ab!c!", "ab![MASKED]!")]
#[case::unusable(&["", "a\nb"], "a\nb c", "a\nb c")]
fn odd_prefixes_are_found_under_any_split(
    #[case] prefixes: &[&str],
    #[case] text: &str,
    #[case] expected: &str,
) {
    let prefixes: Vec<String> = prefixes.iter().map(ToString::to_string).collect();
    let prefixes = TokenPrefixes::new(&prefixes);
    for pieces in splits(text) {
        assert_eq!(mask_tokens(&prefixes, &pieces), expected, "{pieces:?}");
    }
}

/// Leftmost, longest, by trying all.
fn naive_phrases(secrets: &[String], text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while !rest.is_empty() {
        let found = secrets.iter().filter(|secret| rest.starts_with(*secret));
        if let Some(longest) = found.map(String::len).max() {
            out.push_str("[MASKED]");
            rest = &rest[longest..];
        } else {
            out.push_str(&rest[..1]);
            rest = &rest[1..];
        }
    }
    out
}

/// The first place where a prefix ends and a token character follows, by trying all.
fn naive_tokens(prefixes: &[String], text: &str) -> String {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"_.=-".contains(&byte);
    let (mut out, mut rest) = (String::new(), text);
    loop {
        let ends = |end: usize| prefixes.iter().any(|prefix| rest[..end].ends_with(prefix));
        let place = (1..rest.len()).find(|&end| ends(end) && token(rest.as_bytes()[end]));
        let Some(place) = place else {
            return out + rest;
        };
        out.push_str(&rest[..place]);
        out.push_str("[MASKED]");
        rest = rest[place..].trim_start_matches(|character| token(character as u8));
    }
}

fn cut<'a>(text: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
    places.extend([0, text.len()]);
    places.sort_unstable();
    places
        .windows(2)
        .map(|pair| &text[pair[0]..pair[1]])
        .collect()
}

proptest! {
    #[test]
    fn phrase_search_agrees_with_trying_all(
        secrets in prop::collection::vec("[ab\n]{1,5}", 1..6),
        text in "[abc\n]{0,40}",
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let words: Vec<&str> = secrets.iter().map(String::as_str).collect();
        let masked = mask_phrases(&phrases(&words), &cut(text.as_bytes(), &cuts)).0;
        prop_assert_eq!(masked, naive_phrases(&secrets, &text));
    }

    #[test]
    fn token_search_agrees_with_trying_all(
        prefixes in prop::collection::vec("[ab!-]{1,4}", 1..5),
        text in "[ab!\\- ]{0,40}",
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let search = TokenPrefixes::new(&prefixes);
        let masked = mask_tokens(&search, &cut(text.as_bytes(), &cuts));
        prop_assert_eq!(masked, naive_tokens(&prefixes, &text));
    }

    #[test]
    fn url_parameter_search_does_not_depend_on_the_split(
        words in prop::collection::vec(
            prop::sample::select(vec!["?", "&", "rss_", "token", "rss_token=", "=", "x", " ", "\n"]),
            0..20,
        ),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let text = words.concat();
        let pieces = cut(text.as_bytes(), &cuts);
        prop_assert_eq!(mask_params(&pieces), mask_params(&[text.as_bytes()]));
    }
}
