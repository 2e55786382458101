//! How much memory the pieces of trace in flight may take, all jobs together.
//!
//! Fifty jobs that all print fast would hold 50 MiB if each sent full patches. Nobody waits for the budget: without it a
//! piece is small, so that one server that hangs cannot stop the logs of another.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Memory for large pieces. Clones share it.
#[derive(Debug, Clone)]
pub struct UploadBudget(Arc<Semaphore>);

/// Size that needs no budget, and the unit it is counted in.
const SMALL: usize = 64 * 1024;

impl UploadBudget {
    /// A budget of `bytes`, rounded down to 64 KiB.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(
            (bytes / SMALL).min(Semaphore::MAX_PERMITS),
        )))
    }

    /// How large the next piece may be, at most `wanted`; hold the permit until the piece is gone.
    pub(super) fn piece(&self, wanted: usize) -> (usize, Option<OwnedSemaphorePermit>) {
        if wanted <= SMALL {
            return (wanted, None);
        }
        let units = u32::try_from(wanted.div_ceil(SMALL)).unwrap_or(u32::MAX);
        match Arc::clone(&self.0).try_acquire_many_owned(units) {
            Ok(permit) => (wanted, Some(permit)),
            Err(_) => (SMALL, None),
        }
    }
}

impl Default for UploadBudget {
    /// 4 MiB: four full patches at once.
    fn default() -> Self {
        Self::new(4 * 1024 * 1024)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_budget_a_piece_is_small_instead_of_late() {
        let budget = UploadBudget::new(1024 * 1024);
        let (first, permit) = budget.piece(1024 * 1024);
        assert_eq!(first, 1024 * 1024);
        assert_eq!(budget.piece(1024 * 1024).0, SMALL);
        assert_eq!(budget.piece(10).0, 10);
        drop(permit);
        assert_eq!(budget.piece(700_000).0, 700_000);
    }
}
