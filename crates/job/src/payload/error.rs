//! Why a payload could not be read.

/// Why a payload could not be read. No variant holds a value of the payload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    /// The answer ends before the JSON does: the connection was cut, or a proxy cut the answer.
    #[error("job payload is cut off after {bytes} bytes{}", at(.path))]
    Truncated {
        /// Bytes there were.
        bytes: usize,
        /// Path of the field that was being read; empty at the top.
        path: String,
    },
    /// Not JSON.
    #[error("job payload is not JSON: {message} in line {line}, column {column}{}", at(.path))]
    Syntax {
        /// What is wrong.
        message: String,
        /// Path of the field that was being read; empty at the top.
        path: String,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// JSON, but not of a job.
    #[error("job payload has a wrong value{}: {message} (line {line}, column {column})", at(.path))]
    WrongType {
        /// What was found and what was expected, without the value.
        message: String,
        /// Path of the field, e.g. `variables[3].key`.
        path: String,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// Larger than any job can be.
    #[error("job payload has {bytes} bytes, more than the limit of {limit}")]
    TooLarge {
        /// Bytes there are.
        bytes: usize,
        /// Bytes there may be.
        limit: usize,
    },
}

fn at(path: &str) -> String {
    if path.is_empty() || path == "." {
        String::new()
    } else {
        format!(" at `{path}`")
    }
}

impl PayloadError {
    pub(super) fn from_traced(
        error: &serde_path_to_error::Error<serde_json::Error>,
        bytes: usize,
    ) -> Self {
        Self::from_json(error.inner(), &error.path().to_string(), bytes)
    }

    pub(super) fn from_json(error: &serde_json::Error, path: &str, bytes: usize) -> Self {
        // serde_path_to_error's words for the top, and for a key that was not read to its end.
        let path = match path {
            "." | "?" => String::new(),
            path => shorten(path.strip_suffix(".?").unwrap_or(path)),
        };
        let (line, column) = (error.line(), error.column());
        match error.classify() {
            serde_json::error::Category::Eof => Self::Truncated { bytes, path },
            serde_json::error::Category::Data => Self::WrongType {
                message: in_json_terms(&without_value(&text(error))),
                path,
                line,
                column,
            },
            serde_json::error::Category::Syntax | serde_json::error::Category::Io => Self::Syntax {
                message: text(error),
                path,
                line,
                column,
            },
        }
    }
}

/// The message without the position that serde_json appends.
fn text(error: &serde_json::Error) -> String {
    let full = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    full.strip_suffix(&position).unwrap_or(&full).to_owned()
}

/// serde quotes the offending value (`invalid type: string "glcbt-…", expected i64`), which may
/// be a token that landed in the wrong field. Keeps the kind of the value and drops the rest.
fn without_value(message: &str) -> String {
    const KINDS: [&str; 6] = [
        "string",
        "integer",
        "floating point",
        "boolean",
        "character",
        "byte array",
    ];
    let Some((intro, found)) = message.split_once(": ") else {
        return message.to_owned();
    };
    let Some(kind) = KINDS.iter().find(|kind| found.starts_with(**kind)) else {
        return if found.contains(['"', '`']) && intro.starts_with("invalid") {
            intro.to_owned()
        } else {
            message.to_owned()
        };
    };
    match found.rfind(", expected ") {
        Some(expected) => format!("{intro}: {kind}{}", &found[expected..]),
        None => format!("{intro}: {kind}"),
    }
}

/// serde names what it expected by Rust's types; a server speaks JSON.
fn in_json_terms(message: &str) -> String {
    const EXPECTED: &str = "expected ";
    let Some(at) = message.rfind(EXPECTED) else {
        return message.to_owned();
    };
    let (intro, expected) = message.split_at(at + EXPECTED.len());
    let expected = match expected {
        "i64" | "u64" | "i32" | "u32" => "an integer",
        "f64" => "a number",
        other if other.starts_with("struct ") => "an object",
        other => other,
    };
    format!("{intro}{expected}")
}

/// Paths hold keys of the payload, which can be as long as the payload.
fn shorten(path: &str) -> String {
    const LONGEST: usize = 200;
    match path.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &path[..end]),
        None => path.to_owned(),
    }
}
