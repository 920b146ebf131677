//! Prints what the rankers reach, each alone and blended, leave one out: HR@10 and NDCG@10.
//!
//! `zcat events.tsv.gz | cargo run --release -p persona_core --example rank [threads] [model]...`
//!
//! Lines are `entity`, `order`, `item` after a header, with tabs between. A model is a family with
//! what differs from its defaults, as `knn{"by":"user"}`; without any, all families are fitted.

use persona_core::metrics::rank;
use persona_core::rankers::blend::{self, Scale, probabilities};
use persona_core::rankers::knn::Knn;
use persona_core::rankers::mf::Mf;
use persona_core::rankers::popularity::Popularity;
use persona_core::rankers::transitions::Transitions;
use persona_core::rankers::{Ranker, Sequences};
use persona_core::spec::{Split, Training};
use persona_core::split::{Case, Part, Partition, partition};
use persona_core::threads::each;
use persona_core::{Error, Result};
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::io::Read;
use std::time::Instant;

const K: usize = 10;

const MODELS: [&str; 7] = [
    "popularity",
    "transitions",
    "knn",
    r#"knn{"by":"user"}"#,
    r#"knn{"by":"regression"}"#,
    r#"mf{"loss":"als"}"#,
    r#"mf{"loss":"bpr"}"#,
];

struct Data {
    /// Item codes, entity by entity.
    codes: Vec<u32>,
    time: Vec<f64>,
    offsets: Vec<usize>,
    items: usize,
    partition: Partition,
}

struct Model {
    name: String,
    ranker: Box<dyn Ranker>,
    scale: Scale,
}

fn main() -> Result<()> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let threads = arguments.first().and_then(|argument| argument.parse().ok());
    if threads.is_some() {
        arguments.remove(0);
    }
    let threads: usize = threads.unwrap_or(1);
    if arguments.is_empty() {
        arguments = MODELS.map(String::from).to_vec();
    }
    let data = read()?;
    println!("{} events of {} entities, {} items", data.codes.len(), data.offsets.len() - 1, data.items);
    println!("{:60} {:>7}  {:13}  {:13}", "", "seconds", "valid", "test");
    let mut models = Vec::new();
    for name in &arguments {
        let started = Instant::now();
        let model = fit(name, &data, threads)?;
        let seconds = started.elapsed().as_secs_f64();
        let alone = |case: &Case, out: &mut [f32]| model.ranker.scores(data.history(case).into(), out);
        report(name, seconds, &data, threads, alone);
        models.push(model);
    }
    let started = Instant::now();
    let cases = each(data.partition.valid.iter().collect(), threads, |case: &Case| {
        let rows = rows(&models, &data, case);
        blend::Case::new(&slices(&rows), data.target(case), &data.seen(case))
    });
    let weights = blend::fit(&cases, models.len(), K, threads);
    let seconds = started.elapsed().as_secs_f64();
    report("blend", seconds, &data, threads, |case, out| {
        blend::mix(&slices(&rows(&models, &data, case)), &weights, out)
    });
    models.iter().zip(weights).for_each(|(model, weight)| println!("  {weight:.3} {}", model.name));
    Ok(())
}

/// Fits a family of which the name may end in a specification.
fn fit(name: &str, data: &Data, threads: usize) -> Result<Model> {
    let (family, json) = name.split_at(name.find('{').unwrap_or(name.len()));
    let (codes, offsets, ends) = (&data.codes, &data.offsets, &data.partition.train_end);
    let sequences = || Sequences::new(codes, offsets, ends, data.items);
    let ranker: Box<dyn Ranker> = match family {
        "popularity" => Box::new(Popularity::count(codes, &data.time, offsets, ends, data.items, 1.0, &spec(json)?)),
        "transitions" => Box::new(Transitions::count(codes, offsets, ends, data.items, &spec(json)?)),
        "knn" => Box::new(Knn::fit(&sequences(), &spec(json)?, threads)),
        "mf" => Box::new(Mf::fit(&sequences(), &spec(json)?, 1, threads)?),
        _ => return Err(Error::invalid(format!("\"{family}\" is not a family that ranks"))),
    };
    let scale = if json.contains("bpr") { Scale::Softmax } else { Scale::Share };
    Ok(Model { name: name.into(), ranker, scale })
}

fn spec<T: DeserializeOwned>(json: &str) -> Result<T> {
    let json = if json.is_empty() { "{}" } else { json };
    serde_json::from_str(json).map_err(|error| Error::invalid(format!("invalid specification {json}: {error}")))
}

/// Each model's probabilities after a case's history.
fn rows(models: &[Model], data: &Data, case: &Case) -> Vec<Vec<f32>> {
    let row = |model: &Model| {
        let mut row = vec![0.0; data.items];
        model.ranker.scores(data.history(case).into(), &mut row);
        probabilities(&mut row, &data.seen(case), model.scale);
        row
    };
    models.iter().map(row).collect()
}

fn slices(rows: &[Vec<f32>]) -> Vec<&[f32]> {
    rows.iter().map(Vec::as_slice).collect()
}

/// Prints a line with the metrics of `scores` on validation and test.
fn report(name: &str, seconds: f64, data: &Data, threads: usize, scores: impl Fn(&Case, &mut [f32]) + Sync) {
    let judge = |cases: &[Case]| {
        let ranks = each(cases.iter().collect(), threads, |case: &Case| {
            let mut row = vec![0.0; data.items];
            scores(case, &mut row);
            rank(&row, data.target(case), &data.seen(case))
        });
        let hits = ranks.into_iter().filter(|&rank| rank <= K as f64);
        let (hit, gain) = hits.fold((0.0, 0.0), |(hit, gain), rank| (hit + 1.0, gain + 1.0 / (rank + 1.0).log2()));
        format!("{:.4} {:.4}", hit / cases.len() as f64, gain / cases.len() as f64)
    };
    println!("{name:60} {seconds:7.1}  {}  {}", judge(&data.partition.valid), judge(&data.partition.test));
}

impl Data {
    fn history(&self, case: &Case) -> &[u32] {
        &self.codes[self.offsets[case.entity]..case.end]
    }

    /// Item index of the event to predict.
    fn target(&self, case: &Case) -> usize {
        self.codes[case.target] as usize - 2
    }

    /// Items of the history without the target, each once.
    fn seen(&self, case: &Case) -> Vec<u32> {
        let mut seen: Vec<u32> = self.history(case).iter().map(|code| code - 2).collect();
        seen.sort_unstable();
        seen.dedup();
        seen.retain(|&item| item as usize != self.target(case));
        seen
    }
}

/// Reads the events from standard input.
fn read() -> Result<Data> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| Error::invalid(format!("could not read the events: {error}")))?;
    let mut known: HashMap<&str, u32> = HashMap::new();
    let mut events = Vec::new();
    for line in text.lines().skip(1) {
        let mut fields = line.split('\t');
        let (Some(entity), Some(order), Some(item)) = (fields.next(), fields.next(), fields.next()) else {
            return Err(Error::invalid(format!("line \"{line}\" has fewer than three fields")));
        };
        let order: f64 = order.parse().map_err(|_| Error::invalid(format!("\"{order}\" is not a number")))?;
        let next = known.len() as u32 + 2;
        events.push((entity, order, *known.entry(item).or_insert(next)));
    }
    events.sort_by(|a, b| a.0.cmp(b.0).then(a.1.total_cmp(&b.1)));
    let starts = (0..events.len()).filter(|&event| event == 0 || events[event].0 != events[event - 1].0);
    let offsets: Vec<usize> = starts.chain([events.len()]).collect();
    let time: Vec<f64> = events.iter().map(|event| event.1).collect();
    let training = Training { split: Split::LeaveOneOut, ..Training::default() };
    let partition = partition(&offsets, &time, |_| true, |_| Part::Train, &training, None)?;
    let codes = events.iter().map(|event| event.2).collect();
    Ok(Data { codes, time, offsets, items: known.len(), partition })
}
