use super::*;
use crate::optimizer::AdamW;
use crate::parameters::floats;
use persona_core::artifact::Artifact;
use persona_core::batch::Window;
use persona_core::events::Keys;
use persona_core::features::{Encoded, Input};
use tch::Device;

/// Learned positions count from the end, so the states of the first depend on how many events follow.
fn encoders() -> [spec::Encoder; 9] {
    let small = spec::Transformer { dim: 8, heads: 2, layers: 2, length: 6, ..Default::default() };
    let rotary = spec::Transformer { positions: spec::Positions::Rotary, ..small.clone() };
    let timed = spec::Transformer { time_bias: true, ..rotary.clone() };
    let gated = spec::Transformer { gated: true, ..rotary.clone() };
    let recurrent = spec::Recurrent { dim: 8, layers: 2, length: 6, ..Default::default() };
    let attentive = spec::Recurrent { pooling: spec::Pooling::Attention, ..recurrent.clone() };
    let cnn = spec::Cnn { dim: 8, layers: 2, length: 6, ..Default::default() };
    [
        spec::Encoder::Transformer(small),
        spec::Encoder::Transformer(rotary),
        spec::Encoder::Transformer(timed),
        spec::Encoder::Transformer(gated),
        spec::Encoder::Rnn(recurrent.clone()),
        spec::Encoder::Lstm(recurrent.clone()),
        spec::Encoder::Gru(recurrent),
        spec::Encoder::Gru(attentive),
        spec::Encoder::Cnn(cnn),
    ]
}

/// The same without dropout.
fn calm(encoder: &spec::Encoder) -> spec::Encoder {
    let mut encoder = encoder.clone();
    match &mut encoder {
        spec::Encoder::Transformer(t) => t.dropout = 0.0,
        spec::Encoder::Rnn(r) | spec::Encoder::Lstm(r) | spec::Encoder::Gru(r) => r.dropout = 0.0,
        spec::Encoder::Cnn(c) => c.dropout = 0.0,
        spec::Encoder::Dnn(d) => d.dropout = 0.0,
        _ => {}
    }
    encoder
}

fn encoded() -> Encoded {
    let codes = vec![2, 3, 4, 5, 0, 1, 6, 2, 3];
    let values = vec![0.5, f32::NAN, -1.0, 2.0, 0.0, 1.0, f32::NAN, 0.1, 0.2];
    Encoded {
        keys: Keys::Integer(vec![1, 2, 3]),
        offsets: vec![0, 4, 5, 9],
        time: (0..9).map(f64::from).collect(),
        inputs: vec![
            Input::Number { name: "price".into(), values },
            Input::Category { name: "item".into(), codes, size: 7 },
        ],
        ratings: Vec::new(),
        target: Some(1),
    }
}

fn model(encoder: &spec::Encoder, seed: i64) -> Model {
    tch::manual_seed(seed);
    Model::new(encoder, &Shape::of(&encoded(), &[]), Compute::plain()).unwrap()
}

fn states(model: &Model, windows: &[(usize, usize)]) -> Vec<f32> {
    let windows: Vec<Window> = windows.iter().map(|&(start, end)| Window { start, end }).collect();
    let batch = model.batch(&encoded(), &windows).unwrap();
    floats(&model.states(&batch).unwrap()).unwrap()
}

fn near(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5)
}

#[test]
fn windows_of_different_lengths_are_as_each_alone() {
    for encoder in encoders() {
        let model = model(&encoder, 1);
        let alone = [states(&model, &[(0, 4)]), states(&model, &[(4, 5)]), states(&model, &[(5, 9)])].concat();
        assert!(near(&states(&model, &[(0, 4), (4, 5), (5, 9)]), &alone), "{encoder:?}");
    }
}

#[test]
fn no_state_sees_what_comes_later() {
    for encoder in &encoders()[1..] {
        let model = model(encoder, 1);
        assert!(near(&states(&model, &[(0, 4)])[..16], &states(&model, &[(0, 2)])), "{encoder:?}");
    }
}

#[test]
fn without_causality_every_state_sees_its_window() {
    let shape = spec::Cnn { dim: 8, layers: 1, length: 6, causal: false, ..Default::default() };
    let model = model(&spec::Encoder::Cnn(shape), 1);
    let (whole, first) = (states(&model, &[(0, 4)]), states(&model, &[(0, 2)]));
    assert!(!near(&whole[..8], &first[..8]));
    let alone = [states(&model, &[(0, 4)]), states(&model, &[(4, 5)]), states(&model, &[(5, 9)])].concat();
    assert!(near(&states(&model, &[(0, 4), (4, 5), (5, 9)]), &alone));
}

/// The last of four events is six ticks later in one of two histories that are otherwise the same.
#[test]
fn attention_sees_the_time_between_events_where_it_is_asked_to() {
    let windows = [Window { start: 0, end: 4 }];
    let early_and_late = |encoder: &spec::Encoder| {
        let model = model(encoder, 1);
        for bias in model.parameters.tensors().filter(|weight| weight.size() == [161, 2]) {
            let _ = bias.detach().normal_(0.0, 1.0);
        }
        [3.0, 9.0].map(|at| {
            let mut encoded = encoded();
            encoded.time[3] = at;
            floats(&model.profiles(&model.batch(&encoded, &windows).unwrap()).unwrap()).unwrap()
        })
    };
    let [_, rotary, timed, ..] = &encoders();
    let [early, late] = early_and_late(rotary);
    assert_eq!(early, late);
    let [early, late] = early_and_late(timed);
    assert!(!near(&early, &late));
}

/// Every family is to tell from an event's item whether the price two events before was high: items are the
/// same in all windows, and so is the last price.
#[test]
fn every_family_learns_what_an_earlier_event_says() {
    let high = |window: usize| window % 2 == 1;
    let (windows, length) = (8, 4);
    let values = (0..windows * length).map(|i| if i % length == 1 && high(i / length) { 1.0 } else { 0.0 });
    let encoded = Encoded {
        keys: Keys::Integer((0..windows as i64).collect()),
        offsets: (0..=windows).map(|i| i * length).collect(),
        time: (0..windows * length).map(|i| i as f64).collect(),
        inputs: vec![
            Input::Number { name: "price".into(), values: values.collect() },
            Input::Category { name: "item".into(), codes: vec![2; windows * length], size: 3 },
        ],
        ratings: Vec::new(),
        target: Some(1),
    };
    let spans: Vec<Window> = (0..windows).map(|i| Window { start: i * length, end: (i + 1) * length }).collect();
    let wanted: Vec<f32> = (0..windows).map(|i| if high(i) { 1.0 } else { -1.0 }).collect();
    let wanted = Tensor::from_slice(&wanted);
    for encoder in encoders() {
        tch::manual_seed(1);
        let model = Model::new(&calm(&encoder), &Shape::of(&encoded, &[]), Compute::plain()).unwrap();
        model.parameters.make_gradients().unwrap();
        let training = spec::Training { learning_rate: 0.02, warmup: 0, ..Default::default() };
        let mut optimizer = AdamW::new(&model.parameters, &training, 200).unwrap();
        let error = |states: &Tensor, layout: &Layout| {
            let first = model.pool(states, layout).unwrap().narrow(1, 0, 1).squeeze_dim(1);
            (first - &wanted).square().mean(Kind::Float)
        };
        for _ in 0..200 {
            let pass = model.forward(model.batch(&encoded, &spans).unwrap()).unwrap();
            let layout = Layout::new(vec![length; windows], Device::Cpu).unwrap();
            error(&pass.states, &layout).backward();
            optimizer.step().unwrap();
        }
        let batch = model.batch(&encoded, &spans).unwrap();
        let left = error(&model.states(&batch).unwrap(), &batch.layout).double_value(&[]);
        assert!(left < 0.1, "{encoder:?}: {left}");
    }
}

#[test]
fn an_artifact_brings_the_same_states_back() {
    for encoder in encoders() {
        let (first, mut second) = (model(&encoder, 1), model(&encoder, 2));
        assert_ne!(states(&first, &[(0, 4)]), states(&second, &[(0, 4)]));
        let mut artifact = Artifact::new();
        first.parameters.write(&mut artifact).unwrap();
        second.parameters.read(&Artifact::from_bytes(&artifact.to_bytes().unwrap()).unwrap()).unwrap();
        assert_eq!(states(&first, &[(0, 4)]), states(&second, &[(0, 4)]));
    }
}

#[test]
fn a_gpu_gives_the_states_and_gradients_of_the_processor() {
    let Ok(gpu) = Compute::choose("cuda", spec::Precision::F32) else {
        println!("not run: there is no CUDA device, so no path of the GPU was run");
        return;
    };
    for encoder in encoders() {
        let run = |compute: Compute| {
            tch::manual_seed(1);
            let model = Model::new(&calm(&encoder), &Shape::of(&encoded(), &[]), compute).unwrap();
            model.parameters.make_gradients().unwrap();
            let windows = [Window { start: 0, end: 4 }, Window { start: 4, end: 5 }, Window { start: 5, end: 9 }];
            let pass = model.forward(model.batch(&encoded(), &windows).unwrap()).unwrap();
            let states = floats(&pass.states).unwrap();
            let gradient = pass.states.detach().copy();
            model.backward(pass, &gradient).unwrap();
            let weights: Vec<f32> = model.parameters.tensors().flat_map(|w| floats(&w.grad()).unwrap()).collect();
            [states, weights].concat()
        };
        let (on_gpu, plain) = (run(gpu), run(Compute::plain()));
        // By cuDNN recurrent layers multiply in TF32, whose factors have 10 bits.
        let norm = |x: &mut dyn Iterator<Item = f32>| x.map(|x| x * x).sum::<f32>().sqrt();
        let off = norm(&mut on_gpu.iter().zip(&plain).map(|(a, b)| a - b)) / norm(&mut plain.iter().copied());
        assert!(off < 2e-3, "{encoder:?}: {off}");
    }
}

/// A transformer whose windows are shorter and longer than an attention's block and than a chunk.
mod by_hand {
    use super::*;

    const LENGTHS: [usize; 7] = [1, 2, 17, 100, 5, 300, 49];

    fn spec(dropout: f64) -> spec::Encoder {
        spec::Encoder::Transformer(spec::Transformer {
            dim: 32,
            heads: 2,
            layers: 2,
            length: 300,
            dropout,
            ..Default::default()
        })
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

    fn batch(encoded: &Encoded) -> Batch {
        let windows: Vec<Window> = encoded.offsets.windows(2).map(|w| Window { start: w[0], end: w[1] }).collect();
        Batch::new(encoded, &windows, Device::Cpu).unwrap()
    }

    /// The same weights for both; large enough that every part matters.
    fn model(dropout: f64, half: bool) -> Model {
        tch::manual_seed(11);
        let encoded = encoded();
        let compute = Compute { half, ..Compute::plain() };
        let model = Model::new(&spec(dropout), &Shape::of(&encoded, &[]), compute).unwrap();
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

    #[test]
    fn states_and_gradients_are_those_of_autograd() {
        if !available() {
            return;
        }
        let encoded = encoded();
        let (fast, plain) = (model(0.0, true), model(0.0, false));
        assert!(fast.by_hand().is_some() && plain.by_hand().is_none());
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
}
