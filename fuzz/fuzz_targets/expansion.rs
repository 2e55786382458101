//! Variables expand without panic, within bounds and by the rules of the reference (job-lifecycle §2.2). Lines `KEY=VALUE`; the last
//! line is expanded. The words of the helper (§2.3) are those of a shell.
#![no_main]
use std::collections::HashMap;

use gantry_job::{Variable, Variables};

#[path = "../../crates/helper/src"]
mod helper {
    pub(crate) mod expansion;
}

libfuzzer_sys::fuzz_target!(|text: &str| {
    let mut variables = Variables::new();
    for line in text.lines() {
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        // A set that was sent is never without the key that it is looked up by.
        variables.push(Variable::new(key, value));
    }
    let last = text.lines().last().unwrap_or_default();
    let once = variables.expand(last);
    assert_eq!(once, model(last, &variables));
    if !last.contains('$') {
        assert_eq!(once, last, "nothing to expand");
    }
    let expanded = variables.expanded();
    assert_eq!(expanded.len(), variables.len());
    for (before, after) in variables.iter().zip(expanded.iter()) {
        assert_eq!(after.key, before.key);
        assert_eq!(
            after.value,
            variables.expand(&before.value),
            "one pass against the set as it was sent"
        );
    }
    let (nested, _) = variables.expanded_nested();
    assert_eq!(nested.len(), variables.len());
    if expanded
        .iter()
        .all(|variable| !variable.value.contains('$'))
    {
        // Values without references: there is nothing more to follow.
        assert_eq!(expanded.expanded(), expanded);
        assert_eq!(expanded.expanded_nested().0, expanded);
    }

    let set: HashMap<&str, &str> = variables
        .iter()
        .map(|one| (&one.key[..], &one.value[..]))
        .collect();
    let look = |name: &str| set.get(name).map(|&value| value.to_owned());
    let words = helper::expansion::expand(last, &look);
    if let Ok(words) = words
        && !last.contains(['$', '\\', '`'])
    {
        assert_eq!(words, last);
    }
});

/// The rules as they are written down, character by character.
fn model(text: &str, variables: &Variables) -> String {
    let chars: Vec<char> = text.chars().collect();
    let (mut out, mut at) = (String::new(), 0);
    while at < chars.len() {
        if chars[at] != '$' {
            out.push(chars[at]);
            at += 1;
            continue;
        }
        at += 1;
        match chars.get(at) {
            Some('{') => match chars[at..].iter().position(|&char| char == '}') {
                // The two characters go, what follows is text.
                None => at += 1,
                Some(1) => at += 2,
                Some(end) => {
                    let name: String = chars[at + 1..at + end].iter().collect();
                    out.push_str(&variables.lookup(&name));
                    at += end + 1;
                }
            },
            Some(&one) if "*#$@!?-0123456789".contains(one) => {
                out.push_str(&variables.lookup(&one.to_string()));
                at += 1;
            }
            _ => {
                let end = chars[at..]
                    .iter()
                    .position(|&char| !char.is_ascii_alphanumeric() && char != '_')
                    .unwrap_or(chars.len() - at);
                if end == 0 {
                    out.push('$');
                } else {
                    let name: String = chars[at..at + end].iter().collect();
                    out.push_str(&variables.lookup(&name));
                }
                at += end;
            }
        }
    }
    out
}
