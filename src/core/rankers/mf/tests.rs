use super::*;
use crate::rankers::Sequences;

/// Two worlds: entities of even number have four of the items 0 to 5, the others four of 6 to 11.
fn worlds() -> Sequences {
    let event = |entity: usize, i: usize| (2 + entity % 2 * 6 + (entity / 2 + i * (1 + entity / 12 % 2)) % 6) as u32;
    let codes: Vec<u32> = (0..80).flat_map(|entity| (0..4).map(move |i| event(entity, i))).collect();
    let offsets: Vec<usize> = (0..=80).map(|entity| entity * 4).collect();
    Sequences::new(&codes, &offsets, &offsets[1..], 12)
}

/// The same entities rate the items of their own world 5 and those of the other one 1, six each.
fn ratings() -> Sequences {
    let pair = |entity: usize, i: usize| {
        let item = (entity / 2 * 5 + i * 7) % 12;
        (item as u32 + 2, if item / 6 == entity % 2 { 5.0 } else { 1.0 })
    };
    let events: Vec<(u32, f32)> = (0..80).flat_map(|entity| (0..6).map(move |i| pair(entity, i))).collect();
    let offsets: Vec<usize> = (0..=80).map(|entity| entity * 6).collect();
    let (codes, values): (Vec<u32>, Vec<f32>) = events.into_iter().unzip();
    Sequences::rated(&codes, &values, &offsets, &offsets[1..], 12)
}

fn specs() -> [(Spec, Sequences); 3] {
    [
        (Spec::Als(Als { dim: 4, ..Als::default() }), worlds()),
        (Spec::Bpr(Bpr { dim: 4, ..Bpr::default() }), worlds()),
        (Spec::Squared(Squared { dim: 4, epochs: 200, ..Squared::default() }), ratings()),
    ]
}

fn scores(mf: &Mf, history: History) -> Vec<f32> {
    let mut scores = vec![9.0; mf.items()];
    mf.scores(history, &mut scores);
    scores
}

#[test]
fn every_loss_learns_the_two_worlds() {
    for (spec, sequences) in specs() {
        let mf = Mf::fit(&sequences, &spec, 1, 1).unwrap();
        let history = History { codes: &[2, 1, 3], values: &[5.0, 1.0, 5.0] };
        let scores = scores(&mf, history);
        let mean = |items: &[f32]| items.iter().sum::<f32>() / 6.0;
        let best = (0..12).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap();
        assert!(best < 6 && mean(&scores[..6]) > mean(&scores[6..]) + 0.3, "{spec:?} {scores:?}");
    }
}

#[test]
fn ratings_are_predicted() {
    let [.., (spec, sequences)] = specs();
    let mf = Mf::fit(&sequences, &spec, 1, 1).unwrap();
    let history = History { codes: &[3, 9, 5, 4], values: &[5.0, 1.0, 5.0, f32::NAN] };
    let scores = scores(&mf, history);
    let error = |(item, score): (usize, &f32)| (score - if item < 6 { 5.0 } else { 1.0 }).powi(2);
    assert!(scores.iter().enumerate().map(error).sum::<f32>() / 12.0 < 0.5, "{scores:?}");
    // Nothing is known of this one but the mean rating and the items' biases.
    let unknown = self::scores(&mf, (&[]).into());
    assert!(unknown.iter().all(|score| (1.5..4.5).contains(score)), "{unknown:?}");
}

#[test]
fn scores_are_products_of_profile_and_vectors() {
    for (spec, sequences) in specs() {
        let mf = Mf::fit(&sequences, &spec, 1, 1).unwrap();
        let history = History { codes: &[2, 9], values: &[4.0, 2.0] };
        let mut profile = vec![9.0; mf.dim()];
        mf.profile(history, &mut profile);
        assert_eq!(mf.vectors().len(), mf.items() * mf.dim());
        for (score, vector) in scores(&mf, history).iter().zip(mf.vectors().chunks(mf.dim())) {
            let product: f32 = vector.iter().zip(&profile).map(|(a, b)| a * b).sum();
            assert!((score - product).abs() < 1e-5);
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_whatever_the_threads() {
    for (spec, sequences) in specs() {
        let fit = |seed, threads| Mf::fit(&sequences, &spec, seed, threads).unwrap();
        assert_eq!(fit(1, 1), fit(1, 3));
        assert_ne!(fit(1, 1), fit(2, 1));
    }
}

#[test]
fn an_artifact_brings_it_back_and_damage_is_noticed() {
    for (spec, sequences) in specs() {
        let mf = Mf::fit(&sequences, &spec, 1, 1).unwrap();
        let mut artifact = Artifact::new();
        mf.write(&mut artifact).unwrap();
        let mut artifact = Artifact::from_bytes(&artifact.to_bytes().unwrap()).unwrap();
        assert_eq!(Mf::read(&artifact).unwrap(), mf);
        artifact.put_f32(VECTORS, &[3, 5], &[0.0; 15]);
        assert!(Mf::read(&artifact).is_err());
        artifact.put_f32(VECTORS, &[0], &[]);
        assert!(Mf::read(&artifact).is_err());
    }
}

#[test]
fn squared_error_needs_ratings() {
    let error = Mf::fit(&worlds(), &Spec::Squared(Squared::default()), 1, 1).unwrap_err();
    assert_eq!(error.message, "there is no rating to learn from");
}
