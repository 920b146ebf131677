//! A network's weights in an artifact: whole, or smaller at the price of some precision.
//!
//! Halves are IEEE 754's. Whole numbers of eight bits have a scale a row, the largest size of its numbers over 127, so
//! that a number is at most half a scale off (symmetric quantisation, Jacob et al. 2018). Where enough numbers are zero
//! only the others are kept, after a map with a bit for each place. All are single precision again when they are read.

use crate::artifact::{Artifact, Dtype, TensorData, damaged};
use crate::error::{Error, ErrorKind, Result};
use half::f16;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Before a weight's name in an artifact.
pub(crate) const PREFIX: &str = "weights.";

/// How the weights that are not plain are stored, by name.
pub(crate) const KEY: &str = "weights";

/// Of what precision weights are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// Single.
    #[default]
    Full,
    Half,
    Int8,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Form {
    precision: Precision,
    shape: Vec<usize>,
    /// Whether zeros are left out.
    sparse: bool,
}

/// Numbers of a weight in the order of its places.
#[derive(Clone, Debug, PartialEq)]
pub struct Weight {
    pub shape: Vec<usize>,
    /// Row-major.
    pub numbers: Vec<f32>,
}

impl Artifact {
    /// Stores a weight plainly.
    pub fn put_weight(&mut self, name: &str, shape: &[usize], numbers: &[f32]) {
        self.put_f32(&format!("{PREFIX}{name}"), shape, numbers);
    }

    /// Stores a weight in as few bytes as its precision allows. An error where a half cannot hold a number.
    pub fn put_small_weight(
        &mut self,
        name: &str,
        shape: &[usize],
        numbers: &[f32],
        precision: Precision,
    ) -> Result<()> {
        let width = shape.last().copied().unwrap_or(1).max(1);
        let zeros = numbers.iter().filter(|number| **number == 0.0).count();
        let size = precision.bytes();
        let sparse = numbers.len().div_ceil(8) < zeros * size;
        if precision == Precision::Full && !sparse {
            self.put_weight(name, shape, numbers);
            return Ok(());
        }
        let scales = scales(numbers, width);
        if precision == Precision::Int8 {
            self.put_f32(&format!("{PREFIX}{name}.scale"), &[scales.len()], &scales);
        }
        if sparse {
            let map = numbers.chunks(8).map(|eight| bits(eight.iter().map(|number| *number != 0.0))).collect();
            self.put_bytes(&format!("{PREFIX}{name}.map"), Dtype::U8, map);
        }
        let kept = numbers.iter().enumerate().filter(|(_, number)| !sparse || **number != 0.0);
        let (dtype, bytes) = match precision {
            Precision::Full => (Dtype::F32, kept.flat_map(|(_, number)| number.to_le_bytes()).collect()),
            Precision::Half => {
                let halves = kept.map(|(_, &number)| f16::from_f32(number)).collect::<Vec<f16>>();
                if !halves.iter().all(|half| half.is_finite()) {
                    return Err(Error::new(
                        ErrorKind::InvalidData,
                        format!("the weight \"{name}\" has numbers that a half cannot hold"),
                    )
                    .hint("Choose \"weights\" \"int8\", or leave it out."));
                }
                (Dtype::F16, halves.iter().flat_map(|half| half.to_le_bytes()).collect())
            }
            Precision::Int8 => {
                let whole =
                    |(i, number): (usize, &f32)| (number / scales[i / width]).round().clamp(-127.0, 127.0) as i8;
                (Dtype::U8, kept.map(|kept| whole(kept).cast_unsigned()).collect())
            }
        };
        self.put_bytes(&format!("{PREFIX}{name}"), dtype, bytes);
        let mut forms = self.forms()?;
        forms.insert(name.to_string(), Form { precision, shape: shape.to_vec(), sparse });
        self.put_json(KEY, &forms)
    }

    /// A weight, if there is one of this name.
    pub fn weight(&self, name: &str) -> Result<Option<Weight>> {
        let stored = format!("{PREFIX}{name}");
        let Some(tensor) = self.tensors.get(&stored) else { return Ok(None) };
        let Some(form) = self.forms()?.remove(name) else {
            return Ok(Some(Weight { shape: tensor.shape.clone(), numbers: self.get_f32(&stored)? }));
        };
        let Form { precision, shape, sparse } = form;
        let (count, width) = (shape.iter().product::<usize>(), shape.last().copied().unwrap_or(1).max(1));
        let short = || damaged(format!("Its weight \"{name}\" has too few numbers."));
        let places: Vec<usize> = match sparse {
            true => {
                let map = &self.tensor(&format!("{stored}.map"))?.bytes;
                (0..count).filter(|i| map.get(i / 8).is_some_and(|byte| byte >> (i % 8) & 1 == 1)).collect()
            }
            false => (0..count).collect(),
        };
        let kept: Vec<f32> = match precision {
            Precision::Full => self.get_f32(&stored)?,
            Precision::Half => self.get_halves(&stored)?,
            Precision::Int8 => {
                let scales = self.get_f32(&format!("{stored}.scale"))?;
                let number = |(&byte, &place): (&u8, &usize)| {
                    Ok(f32::from(byte.cast_signed()) * scales.get(place / width).ok_or_else(short)?)
                };
                tensor.bytes.iter().zip(&places).map(number).collect::<Result<_>>()?
            }
        };
        if kept.len() != places.len() {
            return Err(short());
        }
        let mut numbers = vec![0.0; count];
        places.into_iter().zip(kept).for_each(|(place, number)| numbers[place] = number);
        Ok(Some(Weight { shape, numbers }))
    }

    fn forms(&self) -> Result<BTreeMap<String, Form>> {
        if self.meta.contains_key(KEY) { self.get_json(KEY) } else { Ok(BTreeMap::new()) }
    }

    fn put_bytes(&mut self, name: &str, dtype: Dtype, bytes: Vec<u8>) {
        let shape = vec![bytes.len() / dtype.size()];
        self.tensors.insert(name.to_string(), TensorData { dtype, shape, bytes });
    }

    fn get_halves(&self, name: &str) -> Result<Vec<f32>> {
        let tensor = self.tensor(name)?;
        if tensor.dtype != Dtype::F16 {
            return Err(damaged(format!("Its tensor \"{name}\" has no halves.")));
        }
        let (halves, _) = tensor.bytes.as_chunks::<2>();
        Ok(halves.iter().map(|&half| f16::from_le_bytes(half).to_f32()).collect())
    }
}

impl Precision {
    /// Of a number.
    fn bytes(self) -> usize {
        match self {
            Precision::Full => 4,
            Precision::Half => 2,
            Precision::Int8 => 1,
        }
    }
}

/// Of each row the largest size over 127; one where all are zero.
fn scales(numbers: &[f32], width: usize) -> Vec<f32> {
    let scale = |row: &[f32]| row.iter().fold(0f32, |most, number| most.max(number.abs())) / 127.0;
    numbers.chunks(width).map(|row| Some(scale(row)).filter(|scale| *scale > 0.0).unwrap_or(1.0)).collect()
}

/// Eight at most, the first one lowest.
fn bits(bits: impl Iterator<Item = bool>) -> u8 {
    bits.enumerate().fold(0, |byte, (i, bit)| byte | u8::from(bit) << i)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: [usize; 2] = [3, 5];

    /// Of sixteenths, so that a half holds them exactly; `zero` of five are none.
    fn numbers(zero: usize) -> Vec<f32> {
        (0..15).map(|i| if i % 5 < zero { 0.0 } else { (i as f32 - 7.5) * (1 + i / 5) as f32 / 16.0 }).collect()
    }

    fn stored(numbers: &[f32], precision: Precision) -> (Weight, usize) {
        let mut artifact = Artifact::new();
        artifact.put_small_weight("w", &SHAPE, numbers, precision).unwrap();
        let bytes = artifact.tensors.values().map(|tensor| tensor.bytes.len()).sum();
        let again = Artifact::from_bytes(&artifact.to_bytes().unwrap()).unwrap();
        assert_eq!(again.weight("other").unwrap(), None);
        (again.weight("w").unwrap().unwrap(), bytes)
    }

    #[test]
    fn a_weight_comes_back_whole_or_half() {
        for (zero, full, half) in [(0, 60, 30), (3, 2 + 24, 2 + 12)] {
            let numbers = numbers(zero);
            let whole = Weight { shape: SHAPE.to_vec(), numbers: numbers.clone() };
            assert_eq!(stored(&numbers, Precision::Full), (whole.clone(), full));
            assert_eq!(stored(&numbers, Precision::Half), (whole, half));
        }
    }

    #[test]
    fn eight_bits_are_off_by_half_a_scale_of_their_row_at_most() {
        for (zero, bytes) in [(0, 15 + 12), (3, 2 + 6 + 12)] {
            let numbers = numbers(zero);
            let (weight, stored) = stored(&numbers, Precision::Int8);
            assert_eq!((weight.shape.as_slice(), stored), (&SHAPE[..], bytes));
            for (row, (own, other)) in numbers.chunks(5).zip(weight.numbers.chunks(5)).enumerate() {
                let scale = scales(&numbers, 5)[row];
                assert!(own.iter().zip(other).all(|(a, b)| (a - b).abs() <= 0.501 * scale), "{own:?} {other:?}");
                assert!(own.iter().zip(other).all(|(a, b)| (*a == 0.0) == (*b == 0.0)));
            }
        }
    }

    #[test]
    fn what_a_half_cannot_hold_is_refused_and_what_is_missing_is_damage() {
        let mut artifact = Artifact::new();
        let error = artifact.put_small_weight("w", &[1], &[1e6], Precision::Half).unwrap_err();
        assert_eq!((error.kind, error.hint.is_some()), (ErrorKind::InvalidData, true));
        artifact.put_small_weight("w", &SHAPE, &numbers(3), Precision::Half).unwrap();
        artifact.tensors.get_mut("weights.w").unwrap().bytes.truncate(2);
        assert_eq!(artifact.weight("w").unwrap_err().kind, ErrorKind::InvalidData);
    }
}
