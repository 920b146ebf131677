//! What stops a job: core's error, or one of libtorch's in core's words.

use persona_core::error::sentence;
use persona_core::{Error, ErrorKind};
use std::fmt;
use tch::TchError;

pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// An error on its way to the `Failed` frame.
#[derive(Debug)]
pub struct Failure(pub Error);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure(error)
    }
}

impl From<TchError> for Failure {
    fn from(error: TchError) -> Self {
        Failure(translate(&error.to_string()))
    }
}

/// What libtorch says when memory is short. The last is oneDNN's, which cannot place its code then.
const MEMORY: [&str; 5] =
    ["can't allocate memory", "not enough memory", "bad_alloc", "out of memory", "could not create a primitive"];

/// libtorch tells its errors apart by their text alone.
fn translate(text: &str) -> Error {
    let line = first_line(text);
    if text.contains("CUDA out of memory") {
        return Error::new(ErrorKind::OutOfMemory, "the device has too little free memory")
            .detail(sentence(line))
            .hint("Choose a smaller training.batch_events or encoder.dim, or device \"cpu\".");
    }
    if MEMORY.iter().any(|sign| text.contains(sign)) {
        return out_of_memory(line);
    }
    if text.contains("CUDA") || text.contains("cuDNN") || text.contains("CUBLAS") {
        return Error::new(ErrorKind::Device, "the device failed")
            .detail(sentence(line))
            .hint("Choose training.device \"cpu\" to compute without it.");
    }
    Error::new(ErrorKind::Engine, "libtorch failed").detail(sentence(line))
}

/// The engine ran into its own limit or the machine's.
pub fn out_of_memory(what: &str) -> Error {
    Error::new(ErrorKind::OutOfMemory, "the engine is out of memory")
        .detail(sentence(what))
        .hint("Raise persona.engine_memory, or choose a smaller training.batch_events, encoder.dim or encoder.length.")
}

/// libtorch appends a trace of its own frames, and may open with the place and the text of a check.
fn first_line(text: &str) -> &str {
    let line = text.lines().next().unwrap_or(text);
    match line.find("DefaultCPUAllocator") {
        Some(start) => &line[start..],
        None => line.trim_start_matches("Internal torch error: ").trim(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_errors_of_libtorch_name_the_setting() {
        let error = translate(
            "Internal torch error: [enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: \
             you tried to allocate 400 bytes. Error code 12 (Cannot allocate memory)\nframe #0: c10",
        );
        assert_eq!(error.kind, ErrorKind::OutOfMemory);
        assert!(error.detail.unwrap().starts_with("DefaultCPUAllocator"));
        assert!(error.hint.unwrap().contains("persona.engine_memory"));
    }

    #[test]
    fn other_errors_keep_their_first_line() {
        let error = translate("Internal torch error: mat1 and mat2 shapes cannot be multiplied\nframe #1: x");
        assert_eq!(error.kind, ErrorKind::Engine);
        assert_eq!(error.detail.unwrap(), "Mat1 and mat2 shapes cannot be multiplied.");
    }
}
