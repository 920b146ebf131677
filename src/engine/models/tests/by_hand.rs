//! A transformer whose windows are shorter and longer than an attention's block and than a chunk.

use super::*;

const LENGTHS: [usize; 7] = [1, 2, 17, 100, 5, 300, 49];

fn spec(dropout: f64) -> spec::Transformer {
    spec::Transformer { dim: 32, heads: 2, layers: 2, length: 300, dropout, ..Default::default() }
}

fn encoded() -> Encoded {
    let n: usize = LENGTHS.iter().sum();
    let codes = (0..n as u32).map(|i| i * i % 50).collect();
    Encoded {
        keys: Keys::Integer((0..LENGTHS.len() as i64).collect()),
        offsets: [0]
            .into_iter()
            .chain(LENGTHS.iter().scan(0, |sum, n| {
                Some({
                    *sum += n;
                    *sum
                })
            }))
            .collect(),
        time: (0..n).map(|i| i as f64).collect(),
        inputs: vec![Input::Category { name: "item".into(), codes, size: 52 }],
        ratings: Vec::new(),
        target: Some(0),
    }
}

/// The same events with a number too, which is looked up in no table.
fn priced() -> Encoded {
    let mut encoded = encoded();
    let values = (0..encoded.time.len()).map(|i| if i % 7 == 0 { f32::NAN } else { (i % 5) as f32 - 2.0 }).collect();
    encoded.inputs.push(Input::Number { name: "price".into(), values });
    encoded
}

fn windows(encoded: &Encoded) -> Vec<Window> {
    encoded.offsets.windows(2).map(|w| Window { start: w[0], end: w[1] }).collect()
}

fn batch(encoded: &Encoded) -> Batch {
    Batch::new(encoded, &windows(encoded), Device::Cpu).unwrap()
}

/// The same weights for both; large enough that every part matters.
fn model(dropout: f64, half: bool) -> Model {
    model_over(&encoded(), &spec(dropout), half)
}

fn model_over(encoded: &Encoded, spec: &spec::Transformer, half: bool) -> Model {
    tch::manual_seed(11);
    let compute = Compute { half, ..Compute::plain() };
    let encoder = spec::Encoder::Transformer(spec.clone());
    let model = Model::new(&encoder, &Shape::of(encoded, &[]), compute).unwrap();
    let _guard = tch::no_grad_guard();
    for weight in model.parameters.tensors() {
        let noise = Tensor::f_randn_like(weight).unwrap().f_mul_scalar(0.15).unwrap();
        let _ = weight.shallow_clone().f_add_(&noise).unwrap();
    }
    drop(_guard);
    model.parameters.make_gradients().unwrap();
    model
}

fn available() -> bool {
    let available = crate::cpu::simd::is_available();
    if !available {
        println!("not run: this processor lacks AVX512-BF16");
    }
    available
}

fn difference(a: &Tensor, b: &Tensor) -> f64 {
    ((a - b).square().mean(Kind::Float).sqrt() / b.square().mean(Kind::Float).sqrt()).double_value(&[])
}

/// The widths are no multiple of what a product forms together, and are.
#[test]
fn states_in_single_precision_are_those_of_libtorch() {
    for (dim, heads, layers, causal) in [
        (32, 1, 1, true),
        (32, 4, 2, true),
        (40, 1, 2, true),
        (64, 1, 2, true),
        (64, 2, 3, false),
        (96, 4, 2, true),
        (128, 2, 1, false),
    ] {
        let encoded = if layers == 1 { priced() } else { encoded() };
        let batch = batch(&encoded);
        let model = model_over(&encoded, &spec::Transformer { dim, heads, layers, causal, ..spec(0.3) }, false);
        if model.inferring_by_hand().is_none() {
            println!("not run: this processor lacks AVX2");
            return;
        }
        let plain = tch::no_grad(|| model.by_autograd(&batch, false)).unwrap();
        let states = model.states(&batch).unwrap();
        let profiles = model.profiles(&batch).unwrap();
        for (by_hand, plain) in [(states, &plain), (profiles, &batch.layout.last(&plain).unwrap())] {
            let (off, most) = (difference(&by_hand, plain), (&by_hand - plain).abs().max().double_value(&[]));
            assert!(off < 5e-6 && most < 5e-5, "{off} and {most} of {dim}, {heads}, {layers}, {causal}");
        }
    }
}

#[test]
fn states_in_single_precision_do_not_depend_on_who_else_is_computed() {
    let (encoded, model) = (encoded(), model(0.0, false));
    if model.inferring_by_hand().is_none() {
        return;
    }
    let profiles = |windows: &[Window]| {
        let batch = Batch::new(&encoded, windows, Device::Cpu).unwrap();
        floats(&model.profiles(&batch).unwrap()).unwrap()
    };
    let windows = windows(&encoded);
    let alone: Vec<f32> = windows.iter().flat_map(|&window| profiles(&[window])).collect();
    assert_eq!(profiles(&windows), alone);
}

#[test]
fn states_and_gradients_are_those_of_autograd() {
    if !available() {
        return;
    }
    let encoded = encoded();
    let (fast, plain) = (model(0.0, true), model(0.0, false));
    assert!(fast.training_by_hand().is_some() && plain.training_by_hand().is_none());
    let (a, b) = (fast.forward(batch(&encoded)).unwrap(), plain.forward(batch(&encoded)).unwrap());
    assert!(difference(&a.states, &b.states) < 0.01, "{}", difference(&a.states, &b.states));
    let last = batch(&encoded).layout.last(&a.states).unwrap();
    assert!(difference(&fast.profiles(&batch(&encoded)).unwrap(), &last) < 0.01);
    let gradient = Tensor::randn(a.states.size(), (Kind::Float, Device::Cpu));
    fast.backward(a, &gradient).unwrap();
    plain.backward(b, &gradient).unwrap();
    for (a, b) in fast.parameters.tensors().zip(plain.parameters.tensors()) {
        let difference = difference(&a.grad(), &b.grad());
        assert!(difference < 0.02, "{difference} for a weight of {:?}", a.size());
    }
}

/// With one decision about what is dropped, the loss changes along the gradient as the gradient says.
#[test]
fn dropout_is_the_same_on_the_way_back() {
    if !available() {
        return;
    }
    let (encoded, model) = (encoded(), model(0.5, true));
    let weights: Vec<_> = model.parameters.tensors().map(Tensor::shallow_clone).collect();
    let gradient = Tensor::randn([LENGTHS.iter().sum::<usize>() as i64, 32], (Kind::Float, Device::Cpu));
    let pass = || {
        tch::manual_seed(5);
        model.forward(batch(&encoded)).unwrap()
    };
    let loss = || (pass().states * &gradient).sum(Kind::Double).double_value(&[]);
    model.backward(pass(), &gradient).unwrap();
    let steepness: f64 = weights.iter().map(|w| w.grad().square().sum(Kind::Double).double_value(&[])).sum();
    let step = 0.2 / steepness.sqrt();
    let shift = |by: f64| {
        let _guard = tch::no_grad_guard();
        weights.iter().for_each(|w| drop(w.shallow_clone().f_add_(&(w.grad() * by)).unwrap()));
    };
    shift(step);
    let above = loss();
    shift(-2.0 * step);
    let below = loss();
    let (slope, expected) = ((above - below) / (2.0 * step), steepness);
    assert!((slope / expected - 1.0).abs() < 0.05, "{slope} for {expected}");
    tch::manual_seed(6);
    let other = model.forward(batch(&encoded)).unwrap();
    assert!(difference(&other.states, &pass().states) > 0.1);
}

#[test]
fn the_same_seed_and_threads_give_the_same_gradients() {
    if !available() {
        return;
    }
    let run = || {
        let (encoded, model) = (encoded(), model(0.3, true));
        let pass = model.forward(batch(&encoded)).unwrap();
        let gradient = pass.states.copy();
        model.backward(pass, &gradient).unwrap();
        model.parameters.tensors().flat_map(|w| floats(&w.grad()).unwrap()).collect::<Vec<f32>>()
    };
    assert_eq!(run(), run());
}
