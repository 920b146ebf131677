use super::*;
use crate::rankers::Sequences;

/// Two worlds: entities of even number have three of the items 0 to 4, the others three of 5 to 9.
fn worlds() -> Sequences {
    let event = |entity: usize, i: usize| (2 + entity % 2 * 5 + (entity / 2 + i * (1 + entity / 10 % 2)) % 5) as u32;
    let codes: Vec<u32> = (0..40).flat_map(|entity| (0..3).map(move |i| event(entity, i))).collect();
    let offsets: Vec<usize> = (0..=40).map(|entity| entity * 3).collect();
    Sequences::new(&codes, &offsets, &offsets[1..], 10)
}

/// The same entities rate the items of their own world 5 and those of the other one 1, four each.
fn ratings() -> Sequences {
    let pair = |entity: usize, i: usize| {
        let item = (entity / 2 * 3 + i * 5 + i / 2) % 10;
        (item as u32 + 2, if item / 5 == entity % 2 { 5.0 } else { 1.0 })
    };
    let events: Vec<(u32, f32)> = (0..40).flat_map(|entity| (0..4).map(move |i| pair(entity, i))).collect();
    let offsets: Vec<usize> = (0..=40).map(|entity| entity * 4).collect();
    let (codes, values): (Vec<u32>, Vec<f32>) = events.into_iter().unzip();
    Sequences::rated(&codes, &values, &offsets, &offsets[1..], 10)
}

fn spec(by: By) -> Spec {
    Spec { by, shrinkage: Some(1.0), ..Spec::default() }
}

fn scores(knn: &Knn, history: History) -> Vec<f32> {
    let mut scores = vec![9.0; knn.items()];
    knn.scores(history, &mut scores);
    scores
}

const ALL: [By; 3] = [By::Item, By::User, By::Regression];

#[test]
fn cosines_by_hand() {
    // a b | a b c | c: a and b share both entities, of which the second has three items.
    let sequences = Sequences::new(&[2, 3, 2, 3, 4, 4], &[0, 2, 5, 6], &[2, 5, 6], 3);
    let knn = Knn::fit(&sequences, &spec(By::Item), 1);
    let (two, three) = (1.0 / 2f32.sqrt(), 1.0 / 3f32.sqrt());
    let expected = [0.0, (two + three) / 3.0, three / 3.0];
    scores(&knn, (&[2]).into())
        .iter()
        .zip(expected)
        .for_each(|(score, expected)| assert!((score - expected).abs() < 1e-6));
    let older = scores(&knn, (&[2, 4]).into());
    assert!((older[1] - (three / 3.0 + 0.7 * expected[1])).abs() < 1e-6);
    let nearest = Knn::fit(&sequences, &Spec { neighbours: Some(1), ..spec(By::Item) }, 1);
    assert_eq!(scores(&nearest, (&[2]).into())[2], 0.0);
}

#[test]
fn likeness_of_entities_by_hand() {
    // a b | a c | d: a history of b and then a, with rarities ln(3) and ln(3/2).
    let sequences = Sequences::new(&[2, 3, 2, 4, 5], &[0, 2, 4, 5], &[2, 4, 5], 4);
    let knn = Knn::fit(&sequences, &spec(By::User), 1);
    let norm = (1.0f32 + 0.7 * 0.7).sqrt() * 2f32.sqrt() + 1.0;
    let first = (1.5f32.ln() + 0.7 * 3f32.ln()) / norm;
    let second = 1.5f32.ln() / norm;
    let expected = [first + second, first, second, 0.0];
    let found = scores(&knn, (&[3, 2]).into());
    found.iter().zip(expected).for_each(|(score, expected)| assert!((score - expected).abs() < 1e-6));
    let nearest = Knn::fit(&sequences, &Spec { neighbours: Some(1), ..spec(By::User) }, 1);
    assert_eq!(scores(&nearest, (&[3, 2]).into())[2], 0.0);
}

#[test]
fn a_regression_by_hand() {
    // a b | a b | a: b from a alone is 2 / (3 + 1), a from b alone 2 / (2 + 1).
    let sequences = Sequences::new(&[2, 3, 2, 3, 2], &[0, 2, 4, 5], &[2, 4, 5], 2);
    let knn = Knn::fit(&sequences, &spec(By::Regression), 1);
    assert_eq!(scores(&knn, (&[2]).into()), [0.0, 0.5]);
    assert!((scores(&knn, (&[3]).into())[0] - 2.0 / 3.0).abs() < 1e-6);
}

#[test]
fn a_regression_on_all_items_is_the_closed_form() {
    // Steck's: weights[i, j] = -P[i, j] / P[j, j], with P the inverse of the penalised Gram matrix.
    let sequences = Sequences::new(&[2, 3, 4, 2, 3, 3, 4, 2], &[0, 3, 5, 7, 8], &[3, 5, 7, 8], 3);
    let knn = Knn::fit(&sequences, &spec(By::Regression), 1);
    let gram = [[4.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 3.0]];
    for target in 0..3 {
        let mut column = [0.0, 0.0, 0.0];
        column[target] = 1.0;
        crate::rankers::linear::solve(&mut gram.as_flattened().to_vec(), &mut column);
        for item in (0..3).filter(|&item| item != target) {
            let weight = scores(&knn, (&[item as u32 + 2]).into())[target];
            assert!((f64::from(weight) + column[item] / column[target]).abs() < 1e-6);
        }
    }
}

#[test]
fn every_kind_ranks_the_history_s_world_first() {
    for by in ALL {
        let knn = Knn::fit(&worlds(), &spec(by), 1);
        for (code, own) in [(2, 0..5), (9, 5..10)] {
            let scores = scores(&knn, (&[1, code]).into());
            let others = (0..10).filter(|item| !own.contains(item)).map(|item| scores[item]).fold(f32::MIN, f32::max);
            assert!(own.clone().filter(|&item| item as u32 != code - 2).all(|item| scores[item] > others), "{by:?}");
        }
        assert_eq!(scores(&knn, (&[0, 1]).into()), [0.0; 10]);
    }
}

#[test]
fn every_kind_predicts_ratings() {
    for by in ALL {
        let knn = Knn::fit(&ratings(), &spec(by), 1);
        let history = History { codes: &[2, 8, 3], values: &[5.0, 1.0, f32::NAN] };
        let scores = scores(&knn, history);
        let mean = |items: std::ops::Range<usize>| scores[items].iter().sum::<f32>() / 5.0;
        assert!(mean(0..5) > mean(5..10) + 0.5, "{by:?} {scores:?}");
        assert!(scores.iter().all(|score| (0.0..6.5).contains(score)), "{by:?} {scores:?}");
    }
}

#[test]
fn an_artifact_brings_it_back_and_damage_is_noticed() {
    for (by, sequences) in ALL.into_iter().flat_map(|by| [(by, worlds()), (by, ratings())]) {
        let knn = Knn::fit(&sequences, &spec(by), 1);
        let mut artifact = Artifact::new();
        knn.write(&mut artifact).unwrap();
        let mut artifact = Artifact::from_bytes(&artifact.to_bytes().unwrap()).unwrap();
        assert_eq!(Knn::read(&artifact).unwrap(), knn);
        artifact.put_json(WIDTH, &4).unwrap();
        assert!(Knn::read(&artifact).is_err(), "{by:?}");
    }
}

#[test]
fn nothing_depends_on_threads() {
    let codes: Vec<u32> = (0..3000u32).map(|i| 2 + i * i % 211 % 200).collect();
    let offsets: Vec<usize> = (0..=300).map(|entity| entity * 10).collect();
    let sequences = Sequences::new(&codes, &offsets, &offsets[1..], 200);
    for by in ALL {
        assert_eq!(Knn::fit(&sequences, &spec(by), 1), Knn::fit(&sequences, &spec(by), 3));
    }
}
