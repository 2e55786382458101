//! Patterns of paths, as the peer's library (doublestar 4) reads them (job-lifecycle §6.1).
//!
//! | Part | Matches |
//! |---|---|
//! | `*` | any run of characters without `/` |
//! | `**` as a whole component | zero or more components |
//! | `?` | one character but `/` |
//! | `[a-z]`, `[^a]`, `[!a]` | one character of a class |
//! | `{a,b}` | either; may nest and hold `/` |
//! | `\x` | `x` itself |
//!
//! Names are bytes; a byte that is no UTF-8 counts as one character. Own code, because general glob libraries differ in what a
//! malformed pattern is and in `a/**`, which matches `a` too.

/// A pattern that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPattern {
    /// A bracket, brace or backslash without its other half.
    #[error("syntax error in pattern")]
    Syntax,
    /// Braces that stand for too many alternatives.
    #[error("too many alternatives in braces (more than {MAX_ALTERNATIVES}, or too long ones)")]
    TooMany,
    /// Braces in braces in braces.
    #[error("braces are nested too deeply (more than {DEEPEST})")]
    TooDeep,
}

const MAX_ALTERNATIVES: usize = 10_000;
/// Of all of them together.
const MOST_BYTES: usize = 16 << 20;
const DEEPEST: usize = 100;

/// A pattern, ready to match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// Each without braces.
    pub(crate) alternatives: Vec<Vec<Component>>,
}

/// What stands between two `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Component {
    /// A name as it is.
    Literal(Vec<u8>),
    /// `**`.
    AnyDepth,
    /// With at least one part that is no plain character.
    Tokens(Vec<Token>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Token {
    Char(Char),
    Any,
    AnyRun,
    Class {
        negated: bool,
        ranges: Vec<(Char, Char)>,
    },
}

/// A character, or a byte that is none: those come after all characters.
type Char = u32;

const STRAY: u32 = 0x11_0000;

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// If it is malformed, or its braces stand for too many alternatives.
    pub fn new(pattern: &[u8]) -> Result<Self, BadPattern> {
        let mut budget = MAX_ALTERNATIVES;
        let texts = braces(pattern, &mut budget, 0)?;
        let alternatives = texts
            .iter()
            .map(|text| {
                let mut components: Vec<_> = split(text)?
                    .into_iter()
                    .map(component)
                    .collect::<Result<_, _>>()?;
                // Two say no more than one.
                components.dedup_by(|next, kept| {
                    *next == Component::AnyDepth && *kept == Component::AnyDepth
                });
                Ok(components)
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { alternatives })
    }

    /// Whether a whole path fits.
    pub fn matches(&self, path: &[u8]) -> bool {
        let names: Vec<&[u8]> = path.split(|&byte| byte == b'/').collect();
        self.alternatives
            .iter()
            .any(|components| components_match(components, &names))
    }

    /// For parts of a text, as in the words of a shell. Of the first alternative, which must be without `/`.
    pub fn parts(&self) -> Parts {
        Parts(
            match self.alternatives.first().and_then(|all| all.first()) {
                None => Vec::new(),
                Some(Component::Literal(text)) => {
                    chars(text).into_iter().map(Token::Char).collect()
                }
                Some(Component::AnyDepth) => vec![Token::AnyRun],
                Some(Component::Tokens(tokens)) => tokens.clone(),
            },
        )
    }
}

/// Looks for parts of a text that a pattern fits.
#[derive(Debug, Clone)]
pub struct Parts(Vec<Token>);

impl Parts {
    /// Where the beginnings end that fit, from the shortest on.
    pub fn beginnings(&self, text: &[u8]) -> Vec<usize> {
        let mut rest = text;
        fits(&self.0.iter().collect::<Vec<_>>(), || {
            let (char, len) = first_char(rest)?;
            rest = &rest[len..];
            Some((char, len))
        })
    }

    /// Where the ends begin that fit, from the shortest on.
    pub fn ends(&self, text: &[u8]) -> Vec<usize> {
        let (mut chars, mut rest) = (Vec::new(), text);
        while let Some((char, len)) = first_char(rest) {
            chars.push((char, len));
            rest = &rest[len..];
        }
        let mut ends = fits(&self.0.iter().rev().collect::<Vec<_>>(), || chars.pop());
        for end in &mut ends {
            *end = text.len() - *end;
        }
        ends
    }
}

/// How many bytes of the characters that `next` gives the tokens may take, from the fewest on. All ways are gone at once.
fn fits(tokens: &[&Token], mut next: impl FnMut() -> Option<(Char, usize)>) -> Vec<usize> {
    let end = tokens.len();
    // Tokens that may be next.
    let mut live = vec![false; end + 1];
    live[0] = true;
    let (mut found, mut taken) = (Vec::new(), 0);
    loop {
        // A run may be of nothing.
        for (place, token) in tokens.iter().enumerate() {
            live[place + 1] |= live[place] && **token == Token::AnyRun;
        }
        if live[end] {
            found.push(taken);
        }
        if !live[..end].contains(&true) {
            return found;
        }
        let Some((char, len)) = next() else {
            return found;
        };
        taken += len;
        live[end] = false;
        for (place, token) in tokens.iter().enumerate().rev() {
            let is_live = live[place];
            live[place] = is_live && **token == Token::AnyRun;
            live[place + 1] |= is_live && one_matches(token, char);
        }
    }
}

impl Component {
    /// Whether a name fits. `**` fits any.
    pub(crate) fn matches(&self, name: &[u8]) -> bool {
        match self {
            Self::Literal(text) => text == name,
            Self::AnyDepth => true,
            Self::Tokens(tokens) => tokens_match(tokens, &chars(name)),
        }
    }
}

/// Row by row: `reached[i]` says whether the first `i` names fit the components so far.
fn components_match(components: &[Component], names: &[&[u8]]) -> bool {
    let mut reached = vec![false; names.len() + 1];
    reached[0] = true;
    for (place, component) in components.iter().enumerate() {
        if *component == Component::AnyDepth {
            // `x/**` fits `x`; `**/x` fits `x`.
            let mut any = false;
            for fits in &mut reached {
                any |= *fits;
                *fits = any;
            }
            continue;
        }
        for index in (0..names.len()).rev() {
            reached[index + 1] = reached[index] && component.matches(names[index]);
        }
        reached[0] = false;
        if place + 1 < components.len() && !reached.contains(&true) {
            return false;
        }
    }
    reached[names.len()]
}

fn tokens_match(tokens: &[Token], name: &[Char]) -> bool {
    // The classic two-pointer walk: on a mismatch the last run takes one character more.
    let (mut token, mut at) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        match tokens.get(token) {
            Some(Token::AnyRun) => {
                retry = Some((token, at));
                token += 1;
                continue;
            }
            Some(one) if at < name.len() && one_matches(one, name[at]) => {
                token += 1;
                at += 1;
                continue;
            }
            None if at == name.len() => return true,
            _ => {}
        }
        match retry {
            Some((run, from)) if from < name.len() => {
                retry = Some((run, from + 1));
                token = run + 1;
                at = from + 1;
            }
            _ => return false,
        }
    }
}

fn one_matches(token: &Token, char: Char) -> bool {
    match token {
        Token::Char(wanted) => *wanted == char,
        Token::Any => true,
        Token::AnyRun => false,
        Token::Class { negated, ranges } => {
            ranges
                .iter()
                .any(|(low, high)| (*low..=*high).contains(&char))
                != *negated
        }
    }
}

/// The alternatives that braces stand for.
fn braces(pattern: &[u8], budget: &mut usize, depth: usize) -> Result<Vec<Vec<u8>>, BadPattern> {
    if depth > DEEPEST {
        return Err(BadPattern::TooDeep);
    }
    let mut results = vec![Vec::new()];
    let mut rest = pattern;
    while let Some((&byte, after)) = rest.split_first() {
        match byte {
            b'\\' => {
                let (&escaped, after) = after.split_first().ok_or(BadPattern::Syntax)?;
                for result in &mut results {
                    result.extend([b'\\', escaped]);
                }
                rest = after;
            }
            b'[' => {
                // Braces in a class are plain characters.
                let end = class_end(after)?;
                for result in &mut results {
                    result.push(b'[');
                    result.extend_from_slice(&after[..end]);
                }
                rest = &after[end..];
            }
            b'}' => return Err(BadPattern::Syntax),
            b'{' => {
                let (parts, after) = brace_parts(after)?;
                let mut choices = Vec::new();
                for part in parts {
                    choices.extend(braces(part, budget, depth + 1)?);
                }
                let count = results.len().saturating_mul(choices.len());
                *budget = budget.checked_sub(count).ok_or(BadPattern::TooMany)?;
                let longest = |texts: &[Vec<u8>]| texts.iter().map(Vec::len).max().unwrap_or(0);
                let length = longest(&results) + longest(&choices) + after.len();
                if count.saturating_mul(length) > MOST_BYTES {
                    return Err(BadPattern::TooMany);
                }
                results = results
                    .iter()
                    .flat_map(|result| {
                        choices
                            .iter()
                            .map(move |choice| [&result[..], &choice[..]].concat())
                    })
                    .collect();
                rest = after;
            }
            byte => {
                for result in &mut results {
                    result.push(byte);
                }
                rest = after;
            }
        }
    }
    Ok(results)
}

/// The parts up to the closing brace, and what comes after it.
fn brace_parts(text: &[u8]) -> Result<(Vec<&[u8]>, &[u8]), BadPattern> {
    let (mut parts, mut start, mut depth, mut at) = (Vec::new(), 0, 0_usize, 0);
    while let Some(&byte) = text.get(at) {
        match byte {
            b'\\' => at += 1,
            b'{' => depth += 1,
            b'}' if depth == 0 => {
                parts.push(&text[start..at]);
                return Ok((parts, &text[at + 1..]));
            }
            b'}' => depth -= 1,
            b',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    Err(BadPattern::Syntax)
}

/// Length of a class behind its `[`, with the `]`.
fn class_end(text: &[u8]) -> Result<usize, BadPattern> {
    let mut at = usize::from(matches!(text.first(), Some(b'^' | b'!')));
    let first = at;
    loop {
        match text.get(at) {
            None => return Err(BadPattern::Syntax),
            Some(b'\\') => at += 2,
            Some(b']') if at > first => return Ok(at + 1),
            Some(b']') => return Err(BadPattern::Syntax),
            Some(_) => at += 1,
        }
    }
}

/// At every `/` that is not in a class (where it matches nothing).
fn split(text: &[u8]) -> Result<Vec<&[u8]>, BadPattern> {
    let (mut parts, mut start, mut at) = (Vec::new(), 0, 0);
    while let Some(&byte) = text.get(at) {
        match byte {
            b'\\' => at += 2,
            b'[' => at += 1 + class_end(&text[at + 1..])?,
            b'/' => {
                parts.push(&text[start..at]);
                at += 1;
                start = at;
            }
            _ => at += 1,
        }
    }
    parts.push(&text[start..]);
    Ok(parts)
}

fn component(text: &[u8]) -> Result<Component, BadPattern> {
    if text == b"**" {
        return Ok(Component::AnyDepth);
    }
    let mut tokens = Vec::new();
    let mut literal = Some(Vec::new());
    let mut rest = text;
    while let Some(&byte) = rest.first() {
        match byte {
            b'*' => {
                if tokens.last() != Some(&Token::AnyRun) {
                    tokens.push(Token::AnyRun);
                }
                literal = None;
                rest = &rest[1..];
            }
            b'?' => {
                tokens.push(Token::Any);
                literal = None;
                rest = &rest[1..];
            }
            b'[' => {
                let end = class_end(&rest[1..])?;
                tokens.push(class(&rest[1..end])?);
                literal = None;
                rest = &rest[1 + end..];
            }
            _ => {
                if byte == b'\\' {
                    rest = &rest[1..];
                }
                let (char, len) = first_char(rest).ok_or(BadPattern::Syntax)?;
                tokens.push(Token::Char(char));
                if let Some(literal) = &mut literal {
                    literal.extend_from_slice(&rest[..len]);
                }
                rest = &rest[len..];
            }
        }
    }
    Ok(literal.map_or(Component::Tokens(tokens), Component::Literal))
}

/// What stands between `[` and `]`.
fn class(text: &[u8]) -> Result<Token, BadPattern> {
    let negated = matches!(text.first(), Some(b'^' | b'!'));
    let mut rest = &text[usize::from(negated)..];
    let mut ranges = Vec::new();
    let next = |rest: &mut &[u8]| {
        if rest.first() == Some(&b'\\') {
            *rest = &rest[1..];
        }
        let (char, len) = first_char(rest).ok_or(BadPattern::Syntax)?;
        *rest = &rest[len..];
        Ok(char)
    };
    while !rest.is_empty() {
        let low = next(&mut rest)?;
        let high = if rest.len() > 1 && rest[0] == b'-' {
            rest = &rest[1..];
            next(&mut rest)?
        } else {
            low
        };
        ranges.push((low, high));
    }
    Ok(Token::Class { negated, ranges })
}

fn chars(mut text: &[u8]) -> Vec<Char> {
    let mut all = Vec::with_capacity(text.len());
    while let Some((char, len)) = first_char(text) {
        all.push(char);
        text = &text[len..];
    }
    all
}

fn first_char(text: &[u8]) -> Option<(Char, usize)> {
    let &first = text.first()?;
    let len = match first {
        0..0x80 => return Some((first.into(), 1)),
        0xc2..0xe0 => 2,
        0xe0..0xf0 => 3,
        0xf0..0xf5 => 4,
        _ => 1,
    };
    let char = text
        .get(..len)
        .and_then(|text| std::str::from_utf8(text).ok())
        .and_then(|text| text.chars().next());
    Some(char.map_or((STRAY + u32::from(first), 1), |char| (char.into(), len)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    /// `testdata/doublestar.tsv` holds the answers of the peer's library.
    #[test]
    fn every_answer_is_that_of_the_peer_s_library() {
        let table = include_str!("../testdata/doublestar.tsv");
        let (mut patterns, mut paths) = (Vec::new(), Vec::new());
        let (mut yes, mut bad) = (std::collections::BTreeSet::new(), Vec::new());
        for line in table.lines().filter(|line| !line.starts_with('#')) {
            let fields: Vec<&str> = line.split('\t').collect();
            match fields[..] {
                ["P", pattern] => patterns.push(pattern),
                ["S", path] => paths.push(path),
                ["M", pattern, _, "E"] => bad.push(pattern),
                ["M", pattern, path, "1"] => {
                    yes.insert((pattern, path));
                }
                _ => panic!("{line:?}"),
            }
        }
        // Left as they are: here a class matches no `/`, a range from high to low nothing, braces are as if written out, and no
        // pattern but the empty one is asked about the empty path.
        let known = |pattern: &str, path: &str| {
            path.is_empty()
                || matches!(
                    (pattern, path),
                    ("a/{b,**}", "a") | ("a[^x]b" | "a[/]b", "a/b") | ("[b-a]", "b")
                )
        };
        assert!(patterns.len() > 60 && paths.len() > 40);
        let mut wrong = Vec::new();
        for pattern in patterns {
            match Pattern::new(pattern.as_bytes()) {
                Err(_) if bad.contains(&pattern) => {}
                Ok(_) if bad.contains(&pattern) => wrong.push(format!("{pattern} is accepted")),
                Err(error) => wrong.push(format!("{pattern}: {error}")),
                Ok(compiled) => {
                    for path in &paths {
                        let expected = yes.contains(&(pattern, *path));
                        if compiled.matches(path.as_bytes()) != expected && !known(pattern, path) {
                            wrong.push(format!("{pattern} / {path}: expected {expected}"));
                        }
                    }
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[rstest]
    #[case(b"a?c", b"a\xffc", true)]
    #[case(b"a?c", b"a\xff\xfec", false)]
    #[case(b"\xff*", b"\xffx", true)]
    #[case("?".as_bytes(), "é".as_bytes(), true)]
    fn bytes_that_are_no_text_count_as_one_character_each(
        #[case] pattern: &[u8],
        #[case] path: &[u8],
        #[case] expected: bool,
    ) {
        assert_eq!(Pattern::new(pattern).unwrap().matches(path), expected);
    }

    #[test]
    fn braces_that_explode_are_refused() {
        let pattern = "{a,b}".repeat(40);
        assert_eq!(
            Pattern::new(pattern.as_bytes()).unwrap_err(),
            BadPattern::TooMany
        );
    }

    #[test]
    fn braces_that_take_all_memory_or_the_whole_stack_are_refused() {
        let long = "{a,b}".repeat(13) + &"x".repeat(1 << 20);
        assert_eq!(Pattern::new(long.as_bytes()), Err(BadPattern::TooMany));
        let deep = "{".repeat(100_000) + &"}".repeat(100_000);
        assert_eq!(Pattern::new(deep.as_bytes()), Err(BadPattern::TooDeep));
        let fair = "{".repeat(50) + "a" + &"}".repeat(50);
        assert!(Pattern::new(fair.as_bytes()).unwrap().matches(b"a"));
    }

    #[rstest]
    #[case("a*", "abab", &[1, 2, 3, 4], &[2, 0])]
    #[case("*b", "abab", &[2, 4], &[3, 2, 1, 0])]
    #[case("", "ab", &[0], &[2])]
    #[case("*", "é", &[0, 2], &[2, 0])]
    #[case("**", "a", &[0, 1], &[1, 0])]
    #[case("?", "éa", &[2], &[2])]
    #[case("[^a]b", "cb", &[2], &[0])]
    #[case("ab", "abab", &[2], &[2])]
    #[case("x", "ab", &[], &[])]
    fn parts_that_fit_are_found(
        #[case] pattern: &str,
        #[case] name: &str,
        #[case] beginnings: &[usize],
        #[case] ends: &[usize],
    ) {
        let parts = Pattern::new(pattern.as_bytes()).unwrap().parts();
        assert_eq!(parts.beginnings(name.as_bytes()), beginnings);
        assert_eq!(parts.ends(name.as_bytes()), ends);
    }

    #[test]
    fn a_pattern_full_of_stars_takes_no_exponential_time() {
        let pattern = Pattern::new("*a".repeat(60).as_bytes()).unwrap();
        assert!(!pattern.matches("a".repeat(5000).replace("aaaa", "aaab").as_bytes()));
        let deep = Pattern::new("**/a/".repeat(40).as_bytes()).unwrap();
        assert!(!deep.matches("a/".repeat(2000).as_bytes()[..3999].as_ref()));
    }

    proptest! {
        #[test]
        fn no_pattern_panics(pattern: Vec<u8>, path: Vec<u8>) {
            if let Ok(pattern) = Pattern::new(&pattern) {
                pattern.matches(&path);
            }
        }

        #[test]
        fn parts_fit_by_themselves(pattern in "[ab*?]{0,6}", name in "[abé]{0,8}") {
            let pattern = Pattern::new(pattern.as_bytes()).unwrap();
            let cuts = || (0..=name.len()).filter(|&cut| name.is_char_boundary(cut));
            let beginnings: Vec<_> = cuts().filter(|&cut| pattern.matches(&name.as_bytes()[..cut])).collect();
            let ends: Vec<_> = cuts().rev().filter(|&cut| pattern.matches(&name.as_bytes()[cut..])).collect();
            prop_assert_eq!(pattern.parts().beginnings(name.as_bytes()), beginnings);
            prop_assert_eq!(pattern.parts().ends(name.as_bytes()), ends);
        }

        #[test]
        fn an_escaped_name_matches_itself(name in "[^/\0]{1,12}") {
            let escaped: String = name.chars().flat_map(|char| ['\\', char]).collect();
            prop_assert!(Pattern::new(escaped.as_bytes()).unwrap().matches(name.as_bytes()));
        }
    }
}
