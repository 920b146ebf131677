//! Events of several questions as those of one.

use super::{Encoded, Input};
use crate::events::Keys;

impl Encoded {
    /// The entities of all parts one after the other, each as it was; none where an input's values lie in a pool of the
    /// part's own, as those of lists and vectors do. The parts were encoded alike; a key may be in several.
    pub fn join(parts: &[&Encoded]) -> Option<Encoded> {
        let (first, others) = parts.split_first()?;
        let mut all = (*first).clone();
        for part in others {
            let before = all.len();
            all.keys.extend(&part.keys);
            all.offsets.extend(part.offsets[1..].iter().map(|end| before + end));
            all.time.extend_from_slice(&part.time);
            all.ratings.extend_from_slice(&part.ratings);
            for (all, input) in all.inputs.iter_mut().zip(&part.inputs) {
                match (all, input) {
                    (Input::Category { codes, .. }, Input::Category { codes: more, .. }) => codes.extend(more),
                    (Input::Clock { codes, .. }, Input::Clock { codes: more, .. }) => codes.extend(more),
                    (Input::Number { values, .. }, Input::Number { values: more, .. }) => values.extend(more),
                    _ => return None,
                }
            }
        }
        Some(all)
    }
}

impl Keys {
    /// Adds keys of the same type.
    fn extend(&mut self, others: &Keys) {
        match (self, others) {
            (Keys::Integer(keys), Keys::Integer(others)) => keys.extend(others),
            (Keys::Text(keys), Keys::Text(others)) => others.iter().for_each(|key| keys.push(key)),
            (Keys::Uuid(keys), Keys::Uuid(others)) => keys.extend(others),
            // They were read with the type of one source.
            _ => unreachable!("keys of two types"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::Lists;

    fn part(key: &str, codes: &[u32]) -> Encoded {
        Encoded {
            keys: Keys::Text([key].into_iter().collect()),
            offsets: vec![0, codes.len()],
            time: codes.iter().map(|&code| f64::from(code)).collect(),
            inputs: vec![
                Input::Category { name: "item".into(), codes: codes.to_vec(), size: 9 },
                Input::Clock { name: "hour".into(), codes: vec![1; codes.len()], size: 3 },
                Input::Number { name: "price".into(), values: vec![0.5; codes.len()] },
            ],
            ratings: Vec::new(),
            target: Some(0),
        }
    }

    #[test]
    fn entities_of_several_questions_stay_as_they_were() {
        let (a, b) = (part("a", &[3, 4]), part("b", &[5]));
        let none =
            Encoded { keys: Keys::Text(std::iter::empty::<&str>().collect()), offsets: vec![0], ..part("", &[]) };
        let all = Encoded::join(&[&a, &none, &b]).unwrap();
        assert_eq!(all.keys, Keys::Text(["a", "b"].into_iter().collect()));
        assert_eq!(all.offsets, [0, 2, 3]);
        assert_eq!(all.target_codes(), [3, 4, 5]);
        assert_eq!((all.time.as_slice(), all.last(1)), (&[3.0, 4.0, 5.0][..], 5.0));
        assert_eq!(all.inputs[2], Input::Number { name: "price".into(), values: vec![0.5; 3] });
        assert_eq!(Encoded::join(&[&a]).unwrap(), a);
    }

    #[test]
    fn texts_are_not_joined() {
        let lists: Lists = [&[2][..]].iter().collect();
        let text = Input::List { name: "review".into(), codes: vec![0], lists, size: 3 };
        let part = Encoded { inputs: vec![text], target: None, ..part("a", &[3]) };
        assert_eq!(Encoded::join(&[&part, &part]), None);
    }
}
