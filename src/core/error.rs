//! One error type for core and engine, in the words that SQL will show.

use serde::{Deserialize, Serialize};
use std::fmt;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, as far as SQL distinguishes it. The extension maps each kind to a SQLSTATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// A value that can never be right: an unknown key, a number out of bounds.
    InvalidParameter,
    /// A combination that persona does not know, or not yet.
    Unsupported,
    /// The data cannot carry what was asked: too few events, a column without values.
    InsufficientData,
    /// A value that the data should not contain, or a stored artifact that is damaged.
    InvalidData,
    /// Memory, as limited by a setting or by the machine.
    OutOfMemory,
    /// A device that is not there or that failed.
    Device,
    /// The two processes disagree about the protocol.
    Protocol,
    /// The engine itself failed.
    Engine,
}

/// A message as Postgres writes them (lower case, no full stop), with detail and hint as sentences.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    pub kind: ErrorKind,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// What a library says, as a sentence for a detail.
pub fn sentence(text: &str) -> String {
    let mut chars = text.trim().chars();
    let head: String = chars.next().into_iter().flat_map(char::to_uppercase).collect();
    let tail = chars.as_str().trim_end_matches('.').replace('`', "\"");
    format!("{head}{tail}.")
}

impl Error {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into(), detail: None, hint: None }
    }

    /// The other side does not keep to the protocol.
    pub fn protocol(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Protocol, message)
    }

    pub fn invalid(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::InvalidParameter, message)
    }

    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<arrow_schema::ArrowError> for Error {
    fn from(error: arrow_schema::ArrowError) -> Self {
        Error::protocol(format!("could not read or write a column batch: {error}"))
    }
}
