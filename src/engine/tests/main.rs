//! The engine program, driven through its pipes as Postgres drives it. One program, as each one's linking takes a minute.

mod driver;

mod compress;
mod families;
mod importance;
mod kinds;
mod labels;
mod lists;
mod pipe;
mod ratings;
mod region;
mod synthesize;
mod transfer;
