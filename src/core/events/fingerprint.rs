//! A hash of events that outlives releases and machines, so it is written out here.

use super::{Column, Events, Keys, NULL, Values, Vectors};

/// Two lanes of multiply and fold, as in splitmix64 (Steele et al. 2014), with different constants.
struct Lanes(u64, u64);

impl Lanes {
    fn add(&mut self, value: u64) {
        self.0 = (self.0 ^ value).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        self.0 ^= self.0 >> 29;
        self.1 = (self.1 ^ value).wrapping_mul(0x94d0_49bb_1331_11eb);
        self.1 ^= self.1 >> 32;
    }

    fn add_bytes(&mut self, bytes: &[u8]) {
        self.add(bytes.len() as u64);
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.add(u64::from_le_bytes(word));
        }
    }

    fn new() -> Self {
        Lanes(0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03)
    }

    fn fold(&self) -> u64 {
        self.0 ^ self.1.rotate_left(32)
    }
}

pub(super) fn of(events: &Events) -> String {
    let mut lanes = Lanes::new();
    add_keys(&mut lanes, &events.keys);
    events.offsets.iter().for_each(|&offset| lanes.add(offset as u64));
    events.time.iter().for_each(|time| lanes.add(time.to_bits()));
    for column in &events.columns {
        match column {
            Column::Number(numbers) => {
                lanes.add(1);
                numbers.iter().for_each(|number| lanes.add(u64::from(number.to_bits())));
            }
            Column::Category { codes, values } => {
                lanes.add(2);
                add_codes(&mut lanes, codes, &value_hashes(values));
            }
            Column::Vector { codes, rows } => {
                lanes.add(3);
                add_codes(&mut lanes, codes, &row_hashes(rows));
            }
        }
    }
    format!("{:016x}{:016x}", lanes.0, lanes.1)
}

fn add_codes(lanes: &mut Lanes, codes: &[u32], hashes: &[u64]) {
    codes.iter().for_each(|&code| lanes.add(if code == NULL { 0 } else { hashes[code as usize] }));
}

/// A number between 0 and 1 for an entity's key and a seed: the same wherever and whenever it is asked.
pub(super) fn share(keys: &Keys, entity: usize, seed: u64) -> f64 {
    let mut lanes = Lanes::new();
    lanes.add(seed);
    add_key(&mut lanes, keys, entity);
    lanes.add(seed);
    (lanes.fold() >> 11) as f64 / (1u64 << 53) as f64
}

fn add_keys(lanes: &mut Lanes, keys: &Keys) {
    (0..keys.len()).for_each(|entity| add_key(lanes, keys, entity));
}

fn add_key(lanes: &mut Lanes, keys: &Keys, entity: usize) {
    match keys {
        Keys::Integer(keys) => lanes.add(keys[entity] as u64),
        Keys::Text(keys) => lanes.add_bytes(keys.get(entity).as_bytes()),
        Keys::Uuid(keys) => lanes.add_bytes(&keys[entity]),
    }
}

/// What stands for one entity's key.
pub(super) fn key_hash(keys: &Keys, entity: usize) -> u64 {
    let mut lanes = Lanes::new();
    add_key(&mut lanes, keys, entity);
    lanes.fold()
}

/// What stands for each value instead of its code, which depends on the order of arrival.
pub(super) fn value_hashes(values: &Values) -> Vec<u64> {
    let hash = |bytes: &[u8]| {
        let mut lanes = Lanes::new();
        lanes.add_bytes(bytes);
        lanes.fold()
    };
    match values {
        Values::Integer(values) => values.iter().map(|value| hash(&value.to_le_bytes())).collect(),
        Values::Text(values) => values.iter().map(|value| hash(value.as_bytes())).collect(),
    }
}

/// What stands for each vector.
pub(super) fn row_hashes(rows: &Vectors) -> Vec<u64> {
    let hash = |row: &[f32]| {
        let mut lanes = Lanes::new();
        row.iter().for_each(|x| lanes.add(u64::from(x.to_bits())));
        lanes.fold()
    };
    rows.rows().map(hash).collect()
}
