//! Private Postgres clusters for tests that need more than one transaction: several sessions,
//! workers, killed processes, two clusters at once.
//!
//! - [`cluster`]: starts a cluster of the embedded Postgres and stops it, whatever happens
//! - [`server_user`]: who runs it, since a server never runs as root
//! - [`engine`]: finds the engine that a backend started, and kills it
//! - [`session`]: a statement that runs in another thread while the test looks at it
//! - [`events`]: small event tables with a pattern that a model can learn
//! - [`wait`]: waits for a condition with a deadline, never for a fixed time

pub mod cluster;
pub mod engine;
pub mod events;
pub mod server_user;
pub mod session;
pub mod wait;

pub use cluster::{Cluster, Options};
pub use wait::until;
