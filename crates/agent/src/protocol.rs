//! Which version of the protocol two sides speak.

/// The newest version this build speaks. Raise it when a message or request is added that an older side would misread; a new
/// optional field needs no new version, because unknown fields are ignored and missing ones have defaults.
pub const PROTOCOL: u32 = 1;

/// The oldest version this build speaks: one back, so that a runner can be upgraded while its jobs run.
pub const OLDEST_PROTOCOL: u32 = if PROTOCOL > 1 { PROTOCOL - 1 } else { 1 };

/// Two sides without a common version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no common version of the helper protocol: this side speaks {} to {}, the other {their_oldest} to {their_newest}; \
     versions of the runner that follow each other work together",
    OLDEST_PROTOCOL,
    PROTOCOL
)]
pub struct Incompatible {
    /// Oldest version of the other side.
    pub their_oldest: u32,
    /// Newest version of the other side.
    pub their_newest: u32,
}

/// The highest version both sides speak.
///
/// # Errors
/// [`Incompatible`] if there is none.
pub fn negotiate(their_oldest: u32, their_newest: u32) -> Result<u32, Incompatible> {
    let version = PROTOCOL.min(their_newest);
    if version >= OLDEST_PROTOCOL && version >= their_oldest {
        Ok(version)
    } else {
        Err(Incompatible {
            their_oldest,
            their_newest,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_common_version_is_spoken() {
        assert_eq!(negotiate(1, 1), Ok(1));
        assert_eq!(negotiate(PROTOCOL, PROTOCOL + 1), Ok(PROTOCOL));
    }

    #[test]
    fn sides_two_versions_apart_are_told_so() {
        let error = negotiate(PROTOCOL + 1, PROTOCOL + 2).unwrap_err();
        assert!(error.to_string().contains(&format!(
            "the other {} to {}",
            PROTOCOL + 1,
            PROTOCOL + 2
        )));
        assert!(negotiate(0, 0).is_err());
    }
}
