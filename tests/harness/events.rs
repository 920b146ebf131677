//! Event tables with a pattern, made in SQL: small enough to train in seconds.

use postgres::Client;

/// A cycle of 30 items that every entity walks along, with a jump every seventh event on average.
/// A model that learns it ranks the next item first most of the time.
const TABLE: &str = "
    CREATE TABLE clicks (
        visitor bigint NOT NULL,
        at      timestamptz NOT NULL,
        item    int NOT NULL,
        amount  double precision
    );
    INSERT INTO clicks
    SELECT v, timestamptz '2024-01-01' + v * interval '1 minute' + n * interval '3 hours',
           1 + (v * 7 + n + CASE WHEN hashint8(v * 1000 + n) % 7 = 0 THEN 11 ELSE 0 END) % 30,
           abs(hashint8(n * 1000 + v)) % 100 / 10.0
    FROM generate_series(1, $entities) v, generate_series(1, $length) n;
    ANALYZE clicks;";

/// Makes the table `clicks` with `entities * length` rows.
pub fn create(client: &mut Client, entities: usize, length: usize) {
    let sql = TABLE.replace("$entities", &entities.to_string()).replace("$length", &length.to_string());
    client.batch_execute(&sql).expect("the table can be made");
}

/// The view `slow_clicks`: the same events, a millisecond each, so that a scan can be met halfway.
pub fn create_slow_view(client: &mut Client) {
    // The item in the argument keeps the call from being made once for all rows.
    let sql = "CREATE VIEW slow_clicks AS
        SELECT visitor, at, item, amount FROM clicks WHERE pg_sleep(.001 + 0 * item) IS NOT NULL";
    client.batch_execute(sql).expect("the view can be made");
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

/// The extension, the events, a trained model `walk` and its profile `walk_profile`, fresh.
pub fn create_profile(client: &mut Client) {
    create(client, 100, 30);
    create_source(client, "clicks");
    create_model(client, "walk", "clicks");
    client.batch_execute("CALL persona.train('walk')").expect("training succeeds");
    client.batch_execute("SELECT persona.create_profile('walk_profile', model => 'walk')").expect("a profile");
    client.batch_execute("CALL persona.refresh('walk_profile')").expect("the refresh succeeds");
}
