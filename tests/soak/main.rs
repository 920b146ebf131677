//! Everything at once: writers, refreshes, retrainings, rollbacks, readers, and engines that are killed.
//!
//! `make soak MINUTES=10`; a minute where nothing is said. It goes in rounds. At the end of each all stand still for a moment,
//! what has changed is refreshed, and the profiles must say what the events say.

mod actors;
mod gauges;
mod ledger;
mod scene;

use actors::{ACTORS, Actor};
use gauges::Gauges;
use ledger::Ledger;
use persona_tests::Cluster;
use scene::Scene;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

const ROUND: Duration = Duration::from_secs(30);

/// How often the gauges are read.
const LOOK: Duration = Duration::from_secs(1);

fn length() -> Duration {
    let minutes = std::env::var("MINUTES").ok().filter(|text| !text.is_empty());
    let minutes = minutes.map_or(1.0, |text| text.parse().expect("MINUTES is a number"));
    Duration::from_secs_f64(60.0 * minutes)
}

/// What the actors share with the one who watches them.
#[derive(Clone, Default)]
struct Stage {
    /// Read by who acts, written by who wants all to stand still.
    quiet: Arc<RwLock<()>>,
    over: Arc<AtomicBool>,
    ledger: Ledger,
}

impl Stage {
    fn enter(&self, cluster: &Cluster, actor: &'static Actor) -> JoinHandle<()> {
        let stage = self.clone();
        let (mut client, postmaster) = (cluster.connect(), cluster.postmaster());
        thread::spawn(move || {
            while !stage.over.load(Ordering::Relaxed) {
                {
                    let _turn = stage.quiet.read().expect("nobody panics while all stand still");
                    actor.act(&mut client, postmaster, &stage.ledger);
                }
                thread::sleep(actor.pause);
            }
        })
    }
}

#[test]
fn profiles_that_are_changed_retrained_and_read_at_once_say_what_their_events_say_and_nothing_grows() {
    let (length, begun) = (length(), Instant::now());
    let cluster = Cluster::with_persona_and(&scene::SETTINGS);
    let mut scene = Scene::set(&cluster);
    let mut gauges = Gauges::of(&cluster);
    println!(
        "the scene was set in {:.0} s; {} sessions act for {:.1} minutes",
        begun.elapsed().as_secs_f64(),
        ACTORS.len(),
        length.as_secs_f64() / 60.0
    );

    let stage = Stage::default();
    let acting: Vec<_> = ACTORS.iter().map(|actor| stage.enter(&cluster, actor)).collect();
    let begun = Instant::now();
    let mut checked = begun;
    while begun.elapsed() < length && stage.ledger.is_clean() {
        thread::sleep(LOOK);
        gauges.read();
        if checked.elapsed() >= ROUND {
            let _still = stage.quiet.write().expect("no actor panics");
            scene.check(&stage.ledger);
            checked = Instant::now();
        }
    }
    stage.over.store(true, Ordering::Relaxed);
    acting.into_iter().for_each(|actor| actor.join().expect("no actor panics"));
    scene.check(&stage.ledger);
    scene.recompute(&stage.ledger);

    stage.ledger.print();
    gauges.print();
    scene.print();
    gauges.judge(&stage.ledger);
    stage.ledger.judge(ACTORS.iter().map(|actor| actor.name));
}
