//! Reads as much of an ELF header as tells whether a program is static, and for which machine it is.
//!
//! Shared with the build script, which refuses to embed a helper that needs a loader.

/// Why a file is no program that runs in every image of its architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ElfError {
    /// The first bytes are not those of a whole ELF file.
    #[error("it is not an ELF program")]
    NotElf,
    /// It names a loader (`PT_INTERP`), which an image need not have.
    #[error("it is dynamically linked, and an image need not have its libraries")]
    Dynamic,
    /// A machine that Gantry has no name for (the number is `e_machine`).
    #[error("it is for an unknown machine (number {0})")]
    UnknownMachine(u16),
}

const PT_INTERP: u32 = 3;

/// Checks that `file` is a program without a loader; returns its architecture by the name that engines use.
pub(crate) fn static_program(file: &[u8]) -> Result<&'static str, ElfError> {
    let header = Header::read(file).ok_or(ElfError::NotElf)?;
    for n in 0..usize::from(header.entries) {
        let at = n
            .checked_mul(header.entry_size)
            .and_then(|at| at.checked_add(header.table));
        let kind = at
            .and_then(|at| header.order.u32(file, at))
            .ok_or(ElfError::NotElf)?;
        if kind == PT_INTERP {
            return Err(ElfError::Dynamic);
        }
    }
    Ok(match header.machine {
        3 => "386",
        21 => "ppc64le",
        22 => "s390x",
        40 => "arm",
        62 => "amd64",
        183 => "arm64",
        243 => "riscv64",
        258 => "loong64",
        other => return Err(ElfError::UnknownMachine(other)),
    })
}

/// What is needed of the file header, from either word size.
struct Header {
    order: Order,
    machine: u16,
    /// Where the program headers are, their size and number.
    table: usize,
    entry_size: usize,
    entries: u16,
}

impl Header {
    fn read(file: &[u8]) -> Option<Self> {
        let ident = file.get(..16)?;
        if !ident.starts_with(b"\x7fELF") {
            return None;
        }
        let order = if ident[5] == 2 {
            Order::Big
        } else {
            Order::Little
        };
        let machine = order.u16(file, 18)?;
        let (table, sizes) = match ident[4] {
            1 => (usize::try_from(order.u32(file, 28)?).ok()?, 42),
            2 => (usize::try_from(order.u64(file, 32)?).ok()?, 54),
            _ => return None,
        };
        Some(Self {
            order,
            machine,
            table,
            entry_size: usize::from(order.u16(file, sizes)?),
            entries: order.u16(file, sizes + 2)?,
        })
    }
}

#[derive(Clone, Copy)]
enum Order {
    Little,
    Big,
}

impl Order {
    fn bytes<const N: usize>(self, file: &[u8], at: usize) -> Option<[u8; N]> {
        let mut bytes: [u8; N] = file.get(at..at.checked_add(N)?)?.try_into().ok()?;
        if let Self::Big = self {
            bytes.reverse();
        }
        Some(bytes)
    }

    fn u16(self, file: &[u8], at: usize) -> Option<u16> {
        self.bytes(file, at).map(u16::from_le_bytes)
    }

    fn u32(self, file: &[u8], at: usize) -> Option<u32> {
        self.bytes(file, at).map(u32::from_le_bytes)
    }

    fn u64(self, file: &[u8], at: usize) -> Option<u64> {
        self.bytes(file, at).map(u64::from_le_bytes)
    }
}
