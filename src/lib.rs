//! persona learns who a database's users are from the event tables that are already there.
//!
//! SQL goes in at the top and rows come out at the bottom:
//!
//! - [`api`]       the SQL surface, a file per noun
//! - [`catalog`]   typed rows of our own tables, and the only SQL about them
//! - [`training`]  jobs that end in figures: check, train, evaluate
//! - [`transfer`]  beginning with the weights of another version
//! - [`made`]      versions that training makes, and how they are stored
//! - [`stored`]    what a job needs of what is stored
//! - [`dialogue`]  what a job and its engine say to each other
//! - [`tuning`]    trials of settings
//! - [`compression`] a smaller version of a version
//! - [`comparison`] models beside each other on the same cases
//! - [`importance`] features beside each other: how much each tells of a label
//! - [`drift`]     whether events are still like those that a version knows
//! - [`tracking`]  whose events have changed since a profile was filled
//! - [`refresh`]   the job that fills a profile: score, write beside, swap; or write what changed
//! - [`synthesize`] events that a model draws, into a table
//! - [`recommend`] answers from stored lists and vectors
//! - [`online`]    what is computed at the moment of the question
//! - [`mode`]      whether a profile is refreshed when asked, or live by a job of its own
//! - [`profile`]   the profile table and its companion of item vectors
//! - [`pgvector`]  where its types are
//! - [`reduction`] fewer dimensions for a profile's vectors
//! - [`events`]    a source's table as columns, and the scan into the engine
//! - [`relation`]  tables and views as SQL sees them
//! - [`jobs`]      what is done again and again: kinds, schedules, conditions, and one run
//! - [`health`]    what is wrong with the server, and what to do
//! - [`worker`]    the engine, the launcher, and the workers that run jobs
//! - [`settings`]  every GUC
//! - [`error`]     one error type, and the only place that knows SQLSTATEs
//! - [`pg`]        all unsafe code
//!
//! What computes is another program, `persona-engine` (src/engine); what both share is `persona_core`
//! (src/core). Nothing here links libtorch.
#![deny(unsafe_code)]

mod api;
mod catalog;
mod comparison;
mod compression;
mod dialogue;
mod drift;
mod error;
mod events;
mod health;
mod importance;
mod jobs;
mod kept;
mod made;
mod mode;
mod online;
mod pg;
mod pgvector;
mod profile;
mod recommend;
mod reduction;
mod refresh;
mod relation;
mod retraining;
mod settings;
mod statements;
mod stored;
mod synthesize;
mod tracking;
mod training;
mod transfer;
mod tuning;
mod worker;

use pgrx::prelude::*;

::pgrx::pg_module_magic!(name, version);

// Tables, then functions, then views, then who may read them and what the functions are for.
extension_sql_file!("../sql/catalog.sql", name = "catalog", bootstrap);
extension_sql_file!(
    "../sql/views.sql",
    name = "views",
    requires = [api::run::running_jobs, api::model::known_families, api::health::clock, api::health::server_findings]
);
extension_sql_file!("../sql/surface.sql", name = "surface", finalize);

#[pg_guard]
pub extern "C-unwind" fn _PG_init() {
    settings::define();
    pg::types::keep_backtraces_out_of_errors();
    if pg::worker::is_preloading() && !pg::worker::is_upgrading() {
        pg::shared::init();
        pg::worker::register_launcher();
    }
}

#[cfg(test)]
pub mod pg_test {
    pub fn setup(_options: Vec<&str>) {}

    pub fn postgresql_conf_options() -> Vec<&'static str> {
        vec!["shared_preload_libraries = 'persona'"]
    }
}
