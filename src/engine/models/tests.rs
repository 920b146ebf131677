use super::*;
use crate::optimizer::AdamW;
use crate::parameters::floats;
use persona_core::artifact::Artifact;
use persona_core::batch::Window;
use persona_core::events::Keys;
use persona_core::features::{Encoded, Input};
use tch::Device;

mod by_hand;

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
