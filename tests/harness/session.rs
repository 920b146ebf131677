//! A statement that runs in a thread of its own, so that a test can watch and disturb it.

use crate::cluster::{Cluster, Notices, backend};
use crate::engine::{self, Engine};
use crate::wait::until;
use postgres::error::DbError;
use postgres::{Client, Error};
use std::thread::{self, JoinHandle};
use std::time::Instant;

/// A session that is running one statement.
pub struct Running {
    pub backend: i32,
    pub notices: Notices,
    thread: JoinHandle<(Client, Result<(), Error>, Instant)>,
}

/// How a statement ended.
pub struct Ended {
    pub client: Client,
    pub result: Result<(), Error>,
    pub at: Instant,
}

impl Running {
    /// Runs `sql` in a new session of the superuser, after `setup` in the same session.
    pub fn start(cluster: &Cluster, setup: &str, sql: &str) -> Self {
        let (mut client, notices) = cluster.connect_listening();
        client.batch_execute(setup).expect("the setup runs");
        let backend = backend(&mut client);
        let sql = sql.to_string();
        let thread = thread::spawn(move || {
            // One simple query: a procedure that commits must not be inside a transaction block.
            let result = client.batch_execute(&sql);
            let at = Instant::now();
            (client, result, at)
        });
        Running { backend, notices, thread }
    }

    /// Waits for a notice that contains `text`; the statement must not end before.
    pub fn until_notice(&self, text: &str) {
        until(&format!("a notice with \"{text}\""), || {
            assert!(
                !self.thread.is_finished(),
                "the statement ended before a notice with \"{text}\": {:?}",
                self.notices
            );
            self.notices.lock().expect("no panic").iter().any(|line| line.contains(text)).then_some(())
        });
    }

    /// Waits until persona.progress shows the statement in `phase`, and gives its engine.
    pub fn until_phase(&self, client: &mut Client, phase: &str) -> Engine {
        until(&format!("the phase {phase}"), || {
            assert!(!self.thread.is_finished(), "the statement ended before the phase {phase}: {:?}", self.notices);
            engine::in_phase(client, self.backend, phase)
        })
    }

    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    pub fn end(self) -> Ended {
        let (client, result, at) = self.thread.join().expect("the session's thread does not panic");
        Ended { client, result, at }
    }
}

/// What the server said about a statement that failed.
pub fn failure<T>(result: Result<T, Error>) -> DbError {
    match result {
        Ok(_) => panic!("the statement succeeded"),
        Err(error) => error.as_db_error().cloned().unwrap_or_else(|| panic!("the connection broke: {error}")),
    }
}
