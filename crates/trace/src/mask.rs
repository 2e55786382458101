//! What must not be in the log: phrases, values of URL parameters, tokens by their prefix.
//!
//! Three steps, in this order (coordinator-api §11, Masking). Each is a streaming transform: it
//! takes bytes in any pieces and gives the same output for the same bytes. Only the phrases need
//! to hold bytes back (a tail that may become a secret); the others keep what they matched in the
//! log and replace what follows, so a few bytes of state are enough.

use std::sync::Arc;

use crate::options::Phrase;

pub(crate) mod params;
pub(crate) mod phrases;
pub(crate) mod tokens;

use phrases::Phrases;
use tokens::TokenPrefixes;

/// What stands in the log in place of a secret.
pub(crate) const MASKED: &[u8] = b"[MASKED]";

/// All that one job's log is searched for. Shared by the processors of the job's streams and
/// replaced as a whole when phrases are added.
#[derive(Debug)]
pub struct MaskSet {
    /// Secrets and start marks.
    pub(crate) phrases: Phrases,
    /// Only the start marks: what is still looked for once the limit is reached.
    pub(crate) marks: Phrases,
    /// Token prefixes; unchanged when phrases are added.
    pub(crate) tokens: Arc<TokenPrefixes>,
    all: Vec<Phrase>,
}

impl MaskSet {
    /// Builds the search from phrases and token prefixes. Empty and double ones are dropped; token
    /// prefixes with a line break, too.
    #[must_use]
    pub fn new(phrases: Vec<Phrase>, token_prefixes: &[String]) -> Self {
        Self::build(phrases, Arc::new(TokenPrefixes::new(token_prefixes)))
    }

    /// The same set with more phrases.
    #[must_use]
    pub fn with(&self, more: impl IntoIterator<Item = Phrase>) -> Self {
        let all = self.all.iter().cloned().chain(more).collect();
        Self::build(all, Arc::clone(&self.tokens))
    }

    fn build(mut all: Vec<Phrase>, tokens: Arc<TokenPrefixes>) -> Self {
        all.retain(|phrase| !phrase.bytes.is_empty());
        all.sort_unstable();
        all.dedup_by(|next, kept| next.bytes == kept.bytes);
        let marks = all.iter().filter(|phrase| phrase.start_mark).cloned();
        Self {
            marks: Phrases::new(marks.collect()),
            phrases: Phrases::new(all.clone()),
            tokens,
            all,
        }
    }
}

#[cfg(test)]
mod tests;
