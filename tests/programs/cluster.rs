//! What needs a cluster of its own. One program, so that it is linked once.

mod answers;
mod cancels;
mod clusters;
mod concurrent;
mod connections;
mod dump;
mod forks;
mod jobs;
mod kills;
mod launcher;
mod live;
mod online;
mod privileges;
mod schedule;
mod swaps;
mod tracking;
