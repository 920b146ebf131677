//! Which settings to try next: grid, random, and a tree-structured Parzen estimator (TPE, Bergstra et al.
//! 2011, "Algorithms for Hyper-Parameter Optimization"); and successive halving over any of them (Jamieson &
//! Talwalkar 2016).

use crate::error::{Error, Result};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The most combinations of a grid.
const MOST: usize = 10_000;

/// Trials at random before TPE has something to go by.
const STARTUP: usize = 8;

/// Share of the trials that TPE takes for good ones.
const GOOD: f64 = 0.25;

/// Draws from the good trials' density, of which the most promising is tried.
const CANDIDATES: usize = 24;

/// Values of a range in a grid.
const STEPS: usize = 3;

/// What can be tried of one setting.
#[derive(Clone, Debug, PartialEq)]
pub enum Choices {
    Values(Vec<Value>),
    Range { low: f64, high: f64, log: bool, integer: bool },
}

/// Settings by their path in a specification, such as `encoder.dim`, and what can be tried of each.
#[derive(Clone, Debug, PartialEq)]
pub struct Space(Vec<(String, Choices)>);

/// One value for each setting.
pub type Assignment = Map<String, Value>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    Grid,
    Random,
    Tpe,
    /// Many random settings for a few epochs; the best third goes on with three times as many.
    Halving,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RangeJson {
    low: f64,
    high: f64,
    #[serde(default)]
    log: bool,
    #[serde(default)]
    integer: bool,
}

impl Method {
    pub fn parse(name: &str) -> Result<Method> {
        serde_json::from_value(Value::from(name)).map_err(|_| {
            Error::invalid(format!("unknown method of search \"{name}\""))
                .hint("Valid methods are \"grid\", \"random\", \"tpe\" and \"halving\".")
        })
    }
}

impl Space {
    /// `{"encoder.dim": [32, 64], "training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": true}}`
    pub fn parse(json: &Value) -> Result<Space> {
        const HINT: &str = "A space is an object of paths such as \"encoder.dim\", each with an array of values or with \
                            {\"low\": …, \"high\": …} and \"log\": true or \"integer\": true where wanted.";
        let Some(settings) = json.as_object().filter(|settings| !settings.is_empty()) else {
            return Err(Error::invalid("a space to search must be a JSON object of settings").hint(HINT));
        };
        let setting = |(path, json): (&String, &Value)| {
            let invalid =
                |why: &str| Err(Error::invalid(format!("invalid choices of \"{path}\"")).detail(why).hint(HINT));
            let choices = match json {
                Value::Array(values) if values.is_empty() => return invalid("There is nothing to choose from."),
                Value::Array(values) => Choices::Values(values.clone()),
                other => match serde_json::from_value(other.clone()) {
                    Ok(RangeJson { low, high, .. }) if low.partial_cmp(&high) != Some(std::cmp::Ordering::Less) => {
                        return invalid("\"low\" must be less than \"high\".");
                    }
                    Ok(RangeJson { low, log: true, .. }) if low <= 0.0 => {
                        return invalid("A logarithmic range begins above zero.");
                    }
                    Ok(RangeJson { low, high, log, integer }) => Choices::Range { low, high, log, integer },
                    Err(_) => return invalid("It is neither an array nor a range."),
                },
            };
            Ok((path.clone(), choices))
        };
        Ok(Space(settings.iter().map(setting).collect::<Result<_>>()?))
    }

    /// Assignments that have each bound and each value of every setting once: where all of them are valid, so is the space.
    pub fn corners(&self) -> Vec<Assignment> {
        let most = self.0.iter().map(|(_, choices)| choices.grid().len()).max().unwrap_or(0);
        (0..most)
            .map(|i| {
                self.assign(|choices| {
                    let grid = choices.grid();
                    grid[i % grid.len()].clone()
                })
            })
            .collect()
    }

    /// Every combination, of ranges three values each.
    pub fn grid(&self) -> Result<Vec<Assignment>> {
        let grids: Vec<Vec<Value>> = self.0.iter().map(|(_, choices)| choices.grid()).collect();
        let count =
            grids.iter().try_fold(1usize, |count, grid| count.checked_mul(grid.len())).filter(|&count| count <= MOST);
        let Some(count) = count else {
            return Err(Error::invalid(format!("the grid has more than {MOST} combinations"))
                .hint("Search fewer settings, or by another method."));
        };
        let combination = |mut i: usize| {
            let mut assignment = Assignment::new();
            for ((path, _), grid) in self.0.iter().zip(&grids) {
                assignment.insert(path.clone(), grid[i % grid.len()].clone());
                i /= grid.len();
            }
            assignment
        };
        Ok((0..count).map(combination).collect())
    }

    /// The `trial`th assignment at random.
    pub fn random(&self, seed: u64, trial: usize) -> Assignment {
        let mut rng = rng(seed, trial);
        self.assign(|choices| choices.draw(&mut rng))
    }

    /// What to try after trials with these outcomes, of which larger are better.
    pub fn tpe(&self, seed: u64, tried: &[(Assignment, f64)]) -> Assignment {
        if tried.len() < STARTUP {
            return self.random(seed, tried.len());
        }
        let mut order: Vec<&(Assignment, f64)> = tried.iter().collect();
        order.sort_by(|a, b| b.1.total_cmp(&a.1));
        let good = ((tried.len() as f64 * GOOD).ceil() as usize).max(2);
        let mut rng = rng(seed, tried.len());
        let mut assignment = Assignment::new();
        // Settings are taken to be independent of each other.
        for (path, choices) in &self.0 {
            let values = |part: &[&(Assignment, f64)]| -> Vec<f64> {
                part.iter().filter_map(|(assignment, _)| choices.place(assignment.get(path)?)).collect()
            };
            let (good, bad) = (values(&order[..good]), values(&order[good..]));
            let best = (0..CANDIDATES)
                .map(|_| choices.near(&good, &mut rng))
                .map(|place| (choices.density(place, &good) / choices.density(place, &bad), place))
                .fold((f64::NEG_INFINITY, 0.0), |best, next| if next.0 > best.0 { next } else { best });
            assignment.insert(path.clone(), choices.value(best.1));
        }
        assignment
    }

    fn assign(&self, mut choose: impl FnMut(&Choices) -> Value) -> Assignment {
        self.0.iter().map(|(path, choices)| (path.clone(), choose(choices))).collect()
    }
}

fn rng(seed: u64, trial: usize) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(trial as u64);
    rng
}

impl Choices {
    fn grid(&self) -> Vec<Value> {
        match self {
            Choices::Values(values) => values.clone(),
            Choices::Range { .. } => {
                let mut values: Vec<Value> = (0..STEPS).map(|i| self.value(i as f64 / (STEPS - 1) as f64)).collect();
                values.dedup();
                values
            }
        }
    }

    fn draw(&self, rng: &mut ChaCha8Rng) -> Value {
        match self {
            Choices::Values(values) => values[rng.random_range(0..values.len())].clone(),
            Choices::Range { .. } => self.value(rng.random()),
        }
    }

    /// Where a value stands: between 0 and 1 in a range, else its index.
    fn place(&self, value: &Value) -> Option<f64> {
        match self {
            Choices::Values(values) => values.iter().position(|known| known == value).map(|i| i as f64),
            Choices::Range { low, high, log, .. } => {
                let x = value.as_f64()?;
                Some(if *log { (x / low).ln() / (high / low).ln() } else { (x - low) / (high - low) })
            }
        }
    }

    /// The value at a place.
    fn value(&self, place: f64) -> Value {
        match self {
            Choices::Values(values) => values[place as usize].clone(),
            Choices::Range { low, high, log, integer } => {
                let x = if *log { low * (high / low).powf(place) } else { low + (high - low) * place };
                if *integer { Value::from(x.round() as i64) } else { Value::from(x.clamp(*low, *high)) }
            }
        }
    }

    /// Width of the kernel around each of so many places.
    fn width(count: usize) -> f64 {
        (count.max(1) as f64).powf(-0.2) * 0.25
    }

    /// A draw near one of the places, or anywhere.
    fn near(&self, places: &[f64], rng: &mut ChaCha8Rng) -> f64 {
        let anywhere = places.is_empty() || rng.random_range(0..=places.len()) == places.len();
        match self {
            Choices::Values(values) if anywhere => rng.random_range(0..values.len()) as f64,
            Choices::Range { .. } if anywhere => rng.random(),
            Choices::Values(_) => places[rng.random_range(0..places.len())],
            Choices::Range { .. } => {
                let middle = places[rng.random_range(0..places.len())];
                // Box & Muller 1958.
                let (a, b): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
                let normal = (-2.0 * a.ln()).sqrt() * (2.0 * std::f64::consts::PI * b).cos();
                (middle + normal * Choices::width(places.len())).clamp(0.0, 1.0)
            }
        }
    }

    /// How likely a place is by the kernels around places, with one draw from anywhere added.
    fn density(&self, place: f64, places: &[f64]) -> f64 {
        let n = places.len() as f64 + 1.0;
        match self {
            Choices::Values(values) => {
                let same = places.iter().filter(|&&other| other == place).count() as f64;
                (same + 1.0 / values.len() as f64) / n
            }
            Choices::Range { .. } => {
                let width = Choices::width(places.len());
                let kernel =
                    |other: f64| (-0.5 * ((place - other) / width).powi(2)).exp() / (width * 2.5066282746310002);
                (places.iter().map(|&other| kernel(other)).sum::<f64>() + 1.0) / n
            }
        }
    }
}

/// A specification with the values of an assignment in their places. A path that does not lead through objects is an error.
pub fn with_assignment(spec: &Value, assignment: &Assignment) -> Result<Value> {
    let mut spec = spec.clone();
    for (path, value) in assignment {
        let mut place = &mut spec;
        for key in path.split('.') {
            let invalid = || Error::invalid(format!("the specification has no place for \"{path}\""));
            place = match place {
                Value::Object(object) => object.entry(key).or_insert(Value::Null),
                Value::Array(array) => key.parse().ok().and_then(|i: usize| array.get_mut(i)).ok_or_else(invalid)?,
                _ => return Err(invalid().hint("Paths are such as \"encoder.dim\" or \"training.learning_rate\".")),
            };
        }
        *place = value.clone();
    }
    Ok(spec)
}

/// Successive halving: how many settings go through each round, and for how many epochs. `trials`: settings of the first
/// round, of which a third goes on each time, until one has had `epochs`.
pub fn rounds(trials: usize, epochs: usize) -> Vec<(usize, usize)> {
    let mut rounds = vec![(trials.max(1), epochs)];
    while rounds.last().is_some_and(|&(settings, _)| settings > 1) {
        let settings = rounds[rounds.len() - 1].0.div_ceil(3);
        rounds.push((settings, epochs));
    }
    let last = rounds.len() - 1;
    for (i, round) in rounds.iter_mut().enumerate() {
        round.1 = epochs.div_ceil(3usize.pow((last - i).min(20) as u32)).max(1);
    }
    rounds
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn space() -> Space {
        Space::parse(&json!({
            "encoder.dim": [16, 32],
            "training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": true},
            "encoder.layers": {"low": 1, "high": 4, "integer": true},
        }))
        .unwrap()
    }

    #[test]
    fn a_grid_has_every_combination_once() {
        let grid = space().grid().unwrap();
        assert_eq!(grid.len(), 2 * 3 * 3);
        assert!((0..grid.len()).all(|i| !grid[..i].contains(&grid[i])));
        let rates: Vec<f64> = grid.iter().map(|a| a["training.learning_rate"].as_f64().unwrap()).collect();
        assert!(rates.iter().any(|rate| (rate - 1e-3).abs() < 1e-9));
        let many = json!({"a": (0..200).collect::<Vec<_>>(), "b": (0..200).collect::<Vec<_>>()});
        assert!(Space::parse(&many).unwrap().grid().is_err());
    }

    #[test]
    fn random_trials_repeat_by_seed_and_stay_in_bounds() {
        let space = space();
        assert_eq!(space.random(1, 3), space.random(1, 3));
        assert_ne!(space.random(1, 3), space.random(1, 4));
        for trial in 0..100 {
            let assignment = space.random(7, trial);
            let rate = assignment["training.learning_rate"].as_f64().unwrap();
            assert!((1e-4..=1e-2).contains(&rate));
            assert!((1..=4).contains(&assignment["encoder.layers"].as_i64().unwrap()));
        }
    }

    #[test]
    fn tpe_comes_nearer_than_chance() {
        // Best at a rate of 1e-3 and dim 32.
        let value = |a: &Assignment| {
            let off = (a["training.learning_rate"].as_f64().unwrap() / 1e-3).ln().abs();
            -off - f64::from(u8::from(a["encoder.dim"] == 16))
        };
        let (space, mut wins) = (space(), 0);
        for seed in 0..20 {
            let mut tried: Vec<(Assignment, f64)> = Vec::new();
            for _ in 0..40 {
                let next = space.tpe(seed, &tried);
                tried.push((next.clone(), value(&next)));
            }
            let mean = |from: usize| tried[from..].iter().map(|(_, v)| v).sum::<f64>() / (tried.len() - from) as f64;
            let random = (0..20).map(|trial| value(&space.random(seed + 100, trial))).sum::<f64>() / 20.0;
            wins += usize::from(mean(20) > random + 0.5);
        }
        assert!(wins >= 18, "{wins} of 20");
    }

    #[test]
    fn an_assignment_takes_its_places() {
        let spec = json!({"encoder": {"kind": "gru"}, "objective": [{"kind": "next_event", "weight": 1}]});
        let assignment = json!({"encoder.dim": 32, "training.epochs": 3, "objective.0.weight": 0.5});
        let error = with_assignment(&spec, assignment.as_object().unwrap()).unwrap_err();
        assert!(error.message.contains("training.epochs"));
        let spec =
            json!({"encoder": {"kind": "gru"}, "training": {}, "objective": [{"kind": "next_event", "weight": 1}]});
        let filled = with_assignment(&spec, assignment.as_object().unwrap()).unwrap();
        assert_eq!((&filled["encoder"]["dim"], &filled["training"]["epochs"]), (&json!(32), &json!(3)));
        assert_eq!(filled["objective"][0]["weight"], json!(0.5));
    }

    #[test]
    fn halving_ends_with_one_that_had_all_epochs() {
        assert_eq!(rounds(9, 27), [(9, 3), (3, 9), (1, 27)]);
        assert_eq!(rounds(1, 5), [(1, 5)]);
        assert_eq!(rounds(10, 30).last(), Some(&(1, 30)));
    }

    #[test]
    fn choices_that_make_no_sense_are_refused() {
        for wrong in [
            json!([]),
            json!({}),
            json!({"a": []}),
            json!({"a": {"low": 2, "high": 1}}),
            json!({"a": 7}),
            json!({"a": {"low": 0, "high": 1, "log": true}}),
            json!({"a": {"low": 0, "hi": 1}}),
        ] {
            let error = Space::parse(&wrong).unwrap_err();
            assert!(error.hint.is_some(), "{wrong}");
        }
    }
}
