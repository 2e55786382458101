//! Checks of a whole log: nothing lost, nothing twice, nothing different.

use super::{Endpoint, FakeGitLab, RecordedRequest};

impl FakeGitLab {
    /// The stored log is exactly `expected`, and every patch ever sent for it, refused ones included, agrees with it.
    ///
    /// # Panics
    /// If not, with the first difference.
    pub fn assert_trace(&self, id: i64, expected: &[u8]) {
        let stored = self.job(id).trace;
        if stored != expected {
            let at = stored
                .iter()
                .zip(expected)
                .position(|(a, b)| a != b)
                .unwrap_or(stored.len().min(expected.len()));
            panic!(
                "the log of job {id} has {} bytes instead of {}, and differs from byte {at} on: {:?} instead of {:?}",
                stored.len(),
                expected.len(),
                excerpt(&stored, at),
                excerpt(expected, at)
            );
        }
        self.assert_patches(id);
    }

    /// Every patch of the job was well-formed (range and length agree, 1 to 1,048,576 bytes) and none contradicts the stored
    /// log. Needs bodies to be kept.
    ///
    /// # Panics
    /// If not, naming the patch.
    pub fn assert_patches(&self, id: i64) {
        let stored = self.job(id).trace;
        for patch in self.requests_to(Endpoint::PatchTrace) {
            if patch.job == Some(id)
                && let Err(problem) = check(&patch, &stored)
            {
                panic!(
                    "patch {} of job {id} (request {}): {problem}",
                    patch.header("content-range").unwrap_or("without range"),
                    patch.number
                );
            }
        }
    }
}

fn check(patch: &RecordedRequest, stored: &[u8]) -> Result<(), String> {
    let Some((start, end)) = patch.range() else {
        return Err("no Content-Range of the form start-end".to_owned());
    };
    let length = end.checked_sub(start);
    // Dropped before its body was read: nothing to compare.
    if patch.body.is_empty() && patch.status.is_none() {
        return Ok(());
    }
    if length != Some(patch.body.len() as u64) {
        return Err(format!("a body of {} bytes", patch.body.len()));
    }
    if patch.body.is_empty() || patch.body.len() > 1_048_576 {
        return Err(format!(
            "{} bytes are too few or too many",
            patch.body.len()
        ));
    }
    let offset = usize::try_from(start).map_err(|error| error.to_string())?;
    let overlap = stored.get(offset..).unwrap_or_default();
    let overlap = &overlap[..overlap.len().min(patch.body.len())];
    match overlap
        .iter()
        .zip(&patch.body[..])
        .position(|(a, b)| a != b)
    {
        Some(at) => Err(format!("byte {} differs from what is stored", offset + at)),
        None => Ok(()),
    }
}

fn excerpt(bytes: &[u8], at: usize) -> String {
    let end = bytes.len().min(at + 40);
    String::from_utf8_lossy(&bytes[at.min(end)..end]).into_owned()
}
