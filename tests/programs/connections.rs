//! What persona costs a connection. The figures are printed; the limits are the contract's.

use persona_tests::Cluster;
use persona_tests::cluster::Options;
use postgres::Client;
use std::time::{Duration, Instant};

const ROUNDS: usize = 40;
const CONNECTIONS: usize = 25;

fn open(cluster: &Cluster) -> (Duration, Client) {
    let start = Instant::now();
    let mut client = cluster.connect();
    client.batch_execute("SELECT 1").expect("the session lives");
    (start.elapsed(), client)
}

/// The quickest of some connections: what they cost, and not what else the machine did.
fn quickest(cluster: &Cluster) -> Duration {
    (0..CONNECTIONS).map(|_| open(cluster).0).min().expect("there are some")
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[test]
fn a_connection_to_a_server_with_persona_preloaded_costs_at_most_a_tenth_more() {
    let with = Cluster::start();
    let without = Cluster::start_with(Options { preload: false, ..Options::default() });
    // In turns, so that a busy moment of the machine meets both.
    let pairs: Vec<_> = (0..ROUNDS).map(|_| (quickest(&with), quickest(&without))).collect();
    let mut ratios: Vec<f64> = pairs.iter().map(|(a, b)| a.as_secs_f64() / b.as_secs_f64()).collect();
    ratios.sort_by(f64::total_cmp);
    let ratio = ratios[ROUNDS / 2];
    let best =
        |pick: fn(&(Duration, Duration)) -> Duration| milliseconds(pairs.iter().map(pick).min().expect("rounds"));
    println!(
        "a new connection: {:.2} ms with persona, {:.2} ms without, ratio {ratio:.3}",
        best(|p| p.0),
        best(|p| p.1)
    );
    assert!(ratio <= 1.10, "a connection costs {ratio:.3} times as much with persona preloaded");
}

#[test]
fn a_backends_first_call_of_persona_takes_less_than_ten_milliseconds() {
    let cluster = Cluster::with_persona();
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let (_, mut client) = open(&cluster);
            let start = Instant::now();
            // Reaches the library, looks a name up, and ends there.
            let missing = client.batch_execute("SELECT * FROM persona.evaluate('no such model')");
            assert!(missing.is_err());
            start.elapsed()
        })
        .collect();
    times.sort();
    let median = milliseconds(times[ROUNDS / 2]);
    println!("a backend's first call: {median:.2} ms");
    assert!(median < 10.0, "a backend's first call takes {median:.2} ms");
}
