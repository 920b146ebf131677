//! Less of what a model sees: only the values and numbers that were selected.

use super::{Encoded, FIRST, FieldState, Fitted, Input, Lists, UNKNOWN};
use crate::importance::{Kept, Selection};

/// Why a field is left out of which nothing was kept.
const TOO_LITTLE: &str = "tells too little of what is to be learned";

impl Fitted {
    /// The same without what was not kept: other values are unknown, other fields are left out.
    pub fn narrowed(&self, selection: &Selection) -> Fitted {
        let mut kept = selection.0.iter();
        let mut narrowed = self.clone();
        for field in narrowed
            .fields
            .iter_mut()
            .filter(|field| !matches!(field.state, FieldState::Dropped(_) | FieldState::Ratings))
        {
            let places = match kept.next() {
                Some(Kept::Values(codes)) if !codes.is_empty() => {
                    codes.iter().map(|code| code - FIRST).collect::<Vec<u32>>()
                }
                Some(Kept::All) | None => continue,
                Some(Kept::Values(_) | Kept::Nothing) => {
                    field.state = FieldState::Dropped(TOO_LITTLE.to_string());
                    continue;
                }
            };
            field.state.keep(&places);
        }
        narrowed
    }

    /// Events that this encoded, as what [`Fitted::narrowed`] gives encodes them.
    pub fn narrow(&self, encoded: &Encoded, selection: &Selection) -> Encoded {
        let inputs = encoded.inputs.iter().zip(&selection.0).filter_map(|(input, kept)| match (input, kept) {
            (_, Kept::Nothing) => None,
            (_, Kept::Values(codes)) if codes.is_empty() => None,
            (Input::Category { name, codes, size }, Kept::Values(kept)) => {
                let place = places(*size, kept);
                let codes = codes.iter().map(|&code| place[code as usize]).collect();
                Some(Input::Category { name: name.clone(), codes, size: kept.len() + FIRST as usize })
            }
            (Input::List { name, codes, lists, size }, Kept::Values(kept)) => {
                let place = places(*size, kept);
                let lists = lists.iter().map(|list| self.list(name, list, &place)).collect::<Lists>();
                Some(Input::List { name: name.clone(), codes: codes.clone(), lists, size: kept.len() + FIRST as usize })
            }
            _ => Some(input.clone()),
        });
        Encoded { inputs: inputs.collect(), ..encoded.clone() }
    }

    /// A text forgets what is unknown, as long as it has anything else; tags keep a mark of it.
    fn list(&self, field: &str, list: &[u32], place: &[u32]) -> Vec<u32> {
        let text = |field: &super::FittedField| matches!(field.state, FieldState::Text(_));
        let is_text = self.fields.iter().any(|known| known.name == field && text(known));
        let mut codes: Vec<u32> = list.iter().map(|&code| place[code as usize]).collect();
        if is_text && codes.iter().any(|&code| code != UNKNOWN) {
            codes.retain(|&code| code != UNKNOWN);
        }
        codes.sort_unstable();
        codes.dedup();
        codes
    }
}

impl FieldState {
    /// Keeps the values at these places, ascending.
    fn keep(&mut self, places: &[u32]) {
        match self {
            FieldState::Category(vocabulary) => vocabulary.keep(places),
            FieldState::Tags(tags) => tags.vocabulary.keep(places),
            FieldState::Text(texts) => {
                texts.buckets = places.iter().map(|&place| texts.buckets[place as usize]).collect();
            }
            FieldState::Number(_)
            | FieldState::Binned(_)
            | FieldState::Ratings
            | FieldState::Time(_)
            | FieldState::Vector(_)
            | FieldState::Dropped(_) => {}
        }
    }
}

impl super::Vocabulary {
    fn keep(&mut self, places: &[u32]) {
        let counts = places.iter().map(|&place| self.counts[place as usize]).collect();
        *self = super::Vocabulary::new(self.values.select(places), counts);
    }
}

/// By old code the new one.
fn places(size: usize, kept: &[u32]) -> Vec<u32> {
    let mut place = vec![UNKNOWN; size];
    (0..FIRST).for_each(|code| place[code as usize] = code);
    kept.iter().zip(FIRST..).for_each(|(&code, new)| place[code as usize] = new);
    place
}
