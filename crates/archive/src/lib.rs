//! Archives of caches and artifacts (job-lifecycle §5, §6): which files belong to them, packing, and unpacking of what comes from
//! elsewhere. Knows nothing of jobs, servers or log lines; threads and blocking calls only.
//!
//! * [`select`] finds files by patterns ([`Pattern`]) and gives them sorted, as [`Items`].
//! * [`pack`] writes them to any [`std::io::Write`]: compressed by several threads, in order, with bounded memory, and the same bytes
//!   for the same files whatever the number of threads.
//! * [`extract`] unpacks an archive that is not trusted: everything is checked and unpacked beside the tree before the first file of
//!   the tree is touched, and nothing is written through a link that leads out of it. [`extract_growing`] does so while the archive
//!   is still being received.
//! * [`Fingerprint`] tells whether an archive still holds what it would be made of.

mod collect;
mod error;
mod extract;
mod fingerprint;
mod glob;
mod growing;
mod number;
mod ordered;
mod pack;
mod paths;
mod pattern;
mod root;
mod select;

pub use collect::{Item, Items, Kind};
pub use error::{ExtractError, PackError};
pub use extract::{Extracted, STAGING_PREFIX, Sniffed, extract, extract_growing, is_whole, sniff};
pub use fingerprint::Fingerprint;
pub use growing::{Growing, Guard, Reader};
pub use pack::{Format, Level, Packed, pack, threads};
pub use pattern::{BadPattern, Parts, Pattern};
pub use select::{Message, MessageKind, Selected, Untracked, Wanted, select};
