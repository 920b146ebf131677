//! What `persona-engine --probe` says of itself and of the machine, as JSON.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// The release of libtorch that it links.
    pub libtorch: String,
    /// Where it computes by itself: `cpu`, or `cuda:0` and the GPU's name.
    pub device: String,
    /// Why that is not a GPU, as a sentence.
    pub no_gpu: Option<String>,
}
