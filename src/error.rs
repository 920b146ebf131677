//! The extension's one error type, and the only place that knows SQLSTATEs.

use persona_core::ErrorKind;
use pgrx::pg_sys::panic::{CaughtError, ErrorReport};
use pgrx::{PgLogLevel, PgSqlErrorCode, function_name};
use std::fmt;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    UndefinedObject,
    UndefinedTable,
    UndefinedColumn,
    DuplicateObject,
    WrongObjectType,
    DatatypeMismatch,
    InvalidParameter,
    Unsupported,
    InsufficientPrivilege,
    NotInPrerequisiteState,
    ObjectInUse,
    NoDataFound,
    NullNotAllowed,
    InsufficientData,
    InvalidData,
    OutOfMemory,
    LimitExceeded,
    Device,
    Engine,
    /// It ended before it had answered.
    EngineEnded,
}

impl Code {
    fn sqlstate(self) -> PgSqlErrorCode {
        use PgSqlErrorCode::*;
        match self {
            Code::UndefinedObject => ERRCODE_UNDEFINED_OBJECT,
            Code::UndefinedTable => ERRCODE_UNDEFINED_TABLE,
            Code::UndefinedColumn => ERRCODE_UNDEFINED_COLUMN,
            Code::DuplicateObject => ERRCODE_DUPLICATE_OBJECT,
            Code::WrongObjectType => ERRCODE_WRONG_OBJECT_TYPE,
            Code::DatatypeMismatch => ERRCODE_DATATYPE_MISMATCH,
            Code::InvalidParameter => ERRCODE_INVALID_PARAMETER_VALUE,
            Code::Unsupported => ERRCODE_FEATURE_NOT_SUPPORTED,
            Code::InsufficientPrivilege => ERRCODE_INSUFFICIENT_PRIVILEGE,
            Code::NotInPrerequisiteState => ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
            Code::ObjectInUse => ERRCODE_OBJECT_IN_USE,
            Code::NullNotAllowed => ERRCODE_NULL_VALUE_NOT_ALLOWED,
            Code::NoDataFound => ERRCODE_NO_DATA_FOUND,
            Code::InsufficientData => ERRCODE_DATA_EXCEPTION,
            Code::InvalidData => ERRCODE_DATA_CORRUPTED,
            Code::OutOfMemory => ERRCODE_OUT_OF_MEMORY,
            Code::LimitExceeded => ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            Code::Device => ERRCODE_SYSTEM_ERROR,
            Code::Engine => ERRCODE_EXTERNAL_ROUTINE_EXCEPTION,
            Code::EngineEnded => ERRCODE_EXTERNAL_ROUTINE_INVOCATION_EXCEPTION,
        }
    }
}

/// A message as Postgres writes them: lower case, no full stop; detail and hint are sentences.
#[derive(Clone, Debug)]
pub struct Error {
    code: Code,
    message: String,
    detail: Option<String>,
    hint: Option<String>,
}

impl Error {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Error { code, message: message.into(), detail: None, hint: None }
    }

    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Whether an engine ended before it had answered.
    pub fn is_of_ended_engine(&self) -> bool {
        self.code == Code::EngineEnded
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<persona_core::Error> for Error {
    fn from(error: persona_core::Error) -> Self {
        let code = match error.kind {
            ErrorKind::InvalidParameter => Code::InvalidParameter,
            ErrorKind::Unsupported => Code::Unsupported,
            ErrorKind::InsufficientData => Code::InsufficientData,
            ErrorKind::InvalidData => Code::InvalidData,
            ErrorKind::OutOfMemory => Code::OutOfMemory,
            ErrorKind::Device => Code::Device,
            ErrorKind::Protocol | ErrorKind::Engine => Code::Engine,
        };
        Error { code, message: error.message, detail: error.detail, hint: error.hint }
    }
}

/// SPI reports SQL errors by itself, with their own SQLSTATE; what reaches this is our own misuse.
impl From<pgrx::spi::Error> for Error {
    fn from(error: pgrx::spi::Error) -> Self {
        Error::new(Code::Engine, format!("could not run a query on the catalog: {error}"))
    }
}

impl From<Error> for ErrorReport {
    fn from(error: Error) -> Self {
        let mut report = ErrorReport::new(error.code.sqlstate(), error.message, function_name!());
        if let Some(detail) = error.detail {
            report = report.set_detail(detail);
        }
        if let Some(hint) = error.hint {
            report = report.set_hint(hint);
        }
        report
    }
}

impl Error {
    /// Leaves through Postgres' error handling, where no `Result` can be returned: callbacks of the executor.
    pub fn raise(self) -> ! {
        ErrorReport::from(self).report(PgLogLevel::ERROR);
        unreachable!("an ERROR does not return")
    }
}

/// Why a job failed, as a session would have seen it and as the job's record keeps it.
#[derive(Clone, Debug, Default)]
pub struct Failure {
    pub sqlstate: String,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure {
            sqlstate: sqlstate(error.code.sqlstate()),
            message: error.message,
            detail: error.detail,
            hint: error.hint,
        }
    }
}

impl From<CaughtError> for Failure {
    fn from(caught: CaughtError) -> Self {
        Failure::of(&caught)
    }
}

impl Failure {
    pub fn of(caught: &CaughtError) -> Self {
        let (CaughtError::PostgresError(report)
        | CaughtError::ErrorReport(report)
        | CaughtError::RustPanic { ereport: report, .. }) = caught;
        Failure {
            sqlstate: sqlstate(report.sql_error_code()),
            message: report.message().to_string(),
            detail: report.detail().map(str::to_string),
            hint: report.hint().map(str::to_string),
        }
    }

    /// Whether the server or its operator is the reason: insufficient resources, operator intervention, system errors.
    pub fn is_of_server(&self) -> bool {
        ["53", "57", "58"].iter().any(|class| self.sqlstate.starts_with(class))
    }

    /// Whether an engine ended before it had answered.
    pub fn is_of_ended_engine(&self) -> bool {
        ended_an_engine(&self.sqlstate)
    }
}

/// The same, by the SQLSTATE that was recorded.
pub fn ended_an_engine(state: &str) -> bool {
    state == sqlstate(Code::EngineEnded.sqlstate())
}

/// The five characters of a SQLSTATE, unpacked from six bits each (`MAKE_SQLSTATE`).
pub fn sqlstate(code: PgSqlErrorCode) -> String {
    (0..5).map(|i| (((code as i32 >> (6 * i)) & 0x3F) as u8 + b'0') as char).collect()
}
