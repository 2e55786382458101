//! The table of all keys.
