//! Event tables with a pattern, made in SQL: small enough to train in seconds.

use crate::cluster::Cluster;
use crate::wait::until;
use postgres::Client;

/// A cycle of 30 items that every entity walks along, with a jump every seventh event on average.
/// A model that learns it ranks the next item first most of the time.
const TABLE: &str = "
    CREATE TABLE clicks (
        visitor bigint NOT NULL,
        at      timestamptz NOT NULL,
        item    int NOT NULL,
        amount  double precision
    )";

const ROWS: &str = "
    INSERT INTO clicks
    SELECT v, timestamptz '2024-01-01' + v * interval '1 minute' + n * interval '3 hours',
           1 + (v * 7 + n + CASE WHEN hashint8(v * 1000 + n) % 7 = 0 THEN 11 ELSE 0 END) % 30,
           abs(hashint8(n * 1000 + v)) % 100 / 10.0
    FROM generate_series($first, $last) v, generate_series(1, $length) n;
    ANALYZE clicks;";

/// Makes the table `clicks` with `entities * length` rows.
pub fn create(client: &mut Client, entities: usize, length: usize) {
    client.batch_execute(TABLE).expect("the table can be made");
    add(client, 1, entities, length);
}

/// Adds the entities `first` to `last`, so that what took a moment takes seconds.
pub fn add(client: &mut Client, first: usize, last: usize, length: usize) {
    let sql = ROWS.replace("$first", &first.to_string()).replace("$last", &last.to_string());
    client.batch_execute(&sql.replace("$length", &length.to_string())).expect("rows can be added");
}

/// The view `gated_clicks`: the same events, but a scan stands still in it while the [`Gate`] is closed.
pub fn create_gated_view(client: &mut Client) {
    let sql = "CREATE FUNCTION gate() RETURNS boolean LANGUAGE plpgsql AS
            'BEGIN PERFORM pg_advisory_xact_lock_shared(1); RETURN true; END';
        CREATE VIEW gated_clicks AS SELECT visitor, at, item, amount FROM clicks WHERE visitor <> 50 OR gate()";
    client.batch_execute(sql).expect("the view can be made");
}

/// The view `endless_clicks`: as many events as anybody can read.
pub fn create_endless_view(client: &mut Client) {
    let sql = "CREATE VIEW endless_clicks AS SELECT c.* FROM generate_series(1, 1000000) n CROSS JOIN clicks c";
    client.batch_execute(sql).expect("the view can be made");
}

/// Closed until it is opened or dropped: a scan of `gated_clicks` gets no further than its middle.
pub struct Gate(Client);

impl Gate {
    pub fn close(cluster: &Cluster) -> Self {
        let mut client = cluster.connect();
        client.batch_execute("SELECT pg_advisory_lock(1)").expect("the gate is open");
        Gate(client)
    }

    /// Waits until the backend stands at the gate, or at any other lock.
    pub fn until_met_by(&mut self, backend: i32) {
        until_blocked(&mut self.0, backend);
    }

    pub fn open(mut self) {
        self.0.batch_execute("SELECT pg_advisory_unlock(1)").expect("the gate is closed");
    }
}

/// Waits until a backend waits for a lock.
pub fn until_blocked(client: &mut Client, backend: i32) {
    let sql = "SELECT 1 FROM pg_stat_activity WHERE pid = $1 AND wait_event_type = 'Lock'";
    until("a wait for a lock", || client.query_opt(sql, &[&backend]).expect("a view").map(|_| ()));
}

/// A source over `relation`, named as it is.
pub fn create_source(client: &mut Client, relation: &str) {
    let sql = format!(
        "SELECT persona.create_source('{relation}', '{relation}', entity => 'visitor', at => 'at',
             fields => '{{\"item\": \"category\", \"amount\": \"number\"}}')"
    );
    client.batch_execute(&sql).expect("the source can be made");
}

/// A small transformer over a source of the same name: learns the cycle in a few seconds.
pub fn create_model(client: &mut Client, name: &str, source: &str) {
    create_model_with(client, name, source, 16, 5);
}

/// A model that trains for `epochs`, however little it learns from them.
pub fn create_model_with(client: &mut Client, name: &str, source: &str, dim: usize, epochs: usize) {
    let sql = format!(
        "SELECT persona.create_model('{name}', source => '{source}', spec => '{{
             \"encoder\": {{\"kind\": \"transformer\", \"dim\": {dim}}},
             \"objective\": {{\"kind\": \"next_event\", \"field\": \"item\"}},
             \"training\": {{\"epochs\": {epochs}, \"patience\": {epochs}, \"batch_events\": 512, \"device\": \"cpu\"}},
             \"evaluation\": {{\"seen\": \"keep\"}}}}')"
    );
    client.batch_execute(&sql).expect("the model can be made");
}

/// The events, a trained model `walk` and its profile `walk_profile`, fresh.
pub fn create_profile(client: &mut Client) {
    create(client, 100, 30);
    create_source(client, "clicks");
    create_model(client, "walk", "clicks");
    fill_profile(client);
}

/// The same over `gated_clicks`.
pub fn create_gated_profile(client: &mut Client) {
    create(client, 100, 30);
    create_gated_view(client);
    create_source(client, "gated_clicks");
    create_model(client, "walk", "gated_clicks");
    fill_profile(client);
}

/// The same with a wide model and, since it was trained, so many events that every phase takes a while.
pub fn create_large_profile(client: &mut Client) {
    create(client, 100, 30);
    create_gated_view(client);
    create_source(client, "gated_clicks");
    create_model_with(client, "walk", "gated_clicks", 256, 1);
    fill_profile(client);
    add(client, 101, 20_000, 20);
}

fn fill_profile(client: &mut Client) {
    client.batch_execute("CALL persona.train('walk')").expect("training succeeds");
    client.batch_execute("SELECT persona.create_profile('walk_profile', model => 'walk')").expect("a profile");
    client.batch_execute("CALL persona.refresh('walk_profile')").expect("the refresh succeeds");
}
