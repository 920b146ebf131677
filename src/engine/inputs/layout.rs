//! Windows of events one after the other, and as a rectangle.

use super::{integers, rows};
use crate::error::Result;
use tch::{Device, Kind, Tensor};

/// How packed tokens form windows.
pub struct Layout {
    /// Events of each window.
    pub lengths: Vec<usize>,
    /// The longest of them.
    pub width: usize,
    /// Each token's distance from its window's end. [tokens], i64
    pub from_end: Tensor,
    /// Each token's time, where the model asks for it. [tokens], f64
    pub times: Option<Tensor>,
    padding: Option<Padding>,
}

/// Index vectors between the packed form and a rectangle [windows, width]; absent where all lengths are equal.
struct Padding {
    /// Which token stands in each place; token 0 stands in for none. [windows * width], i64
    token_of_place: Tensor,
    /// Where each token stands. [tokens], i64
    place_of_token: Tensor,
}

impl Layout {
    pub fn new(lengths: Vec<usize>, device: Device) -> Result<Self> {
        let width = lengths.iter().copied().max().unwrap_or(0);
        let from_end: Vec<i64> = lengths.iter().flat_map(|&n| (0..n as i64).rev()).collect();
        let uniform = lengths.iter().all(|&n| n == width);
        let padding = if uniform { None } else { Some(Padding::new(&lengths, width, device)?) };
        Ok(Layout { from_end: integers(&from_end, device)?, times: None, lengths, width, padding })
    }

    /// [tokens, d] -> [windows, width, d], windows to the left. What stands in the padding is arbitrary.
    pub fn pad(&self, packed: &Tensor) -> Result<Tensor> {
        let shape = [self.lengths.len() as i64, self.width as i64, packed.size()[1]];
        match &self.padding {
            None => Ok(packed.f_view(shape)?),
            Some(padding) => Ok(rows(packed, &padding.token_of_place)?.f_view(shape)?),
        }
    }

    /// [windows, width, d] -> [tokens, d]
    pub fn pack(&self, padded: &Tensor) -> Result<Tensor> {
        let flat = padded.f_reshape([-1, padded.size()[2]])?;
        match &self.padding {
            None => Ok(flat),
            Some(padding) => rows(&flat, &padding.place_of_token),
        }
    }

    /// Whether a place of the rectangle is padding. [windows, width]
    pub fn padding(&self) -> Result<Tensor> {
        let device = self.from_end.device();
        let lengths: Vec<i64> = self.lengths.iter().map(|&n| n as i64).collect();
        let places = Tensor::f_arange(self.width as i64, (Kind::Int64, device))?;
        Ok(places.f_ge_tensor(&integers(&lengths, device)?.f_unsqueeze(1)?)?)
    }

    /// The mean of each window's tokens: [tokens, d] -> [windows, d]
    pub fn mean(&self, packed: &Tensor) -> Result<Tensor> {
        let count: Vec<f32> = self.lengths.iter().map(|&n| n.max(1) as f32).collect();
        let count = Tensor::f_from_slice(&count)?.f_unsqueeze(1)?.f_to_device(packed.device())?;
        Ok(self.sum(packed)?.f_div(&count)?)
    }

    /// The sum of each window's tokens: [tokens, d] -> [windows, d]
    pub fn sum(&self, packed: &Tensor) -> Result<Tensor> {
        let tokens = self.padding()?.f_logical_not()?.f_to_dtype(Kind::Float, false, false)?.f_unsqueeze(2)?;
        Ok(self.pad(packed)?.f_mul(&tokens)?.f_sum_dim_intlist(1i64, false, Kind::Float)?)
    }

    /// Which places of the rectangle are tokens; absent where all are. [windows, 1, 1, width], bool
    pub fn mask(&self) -> Result<Option<Tensor>> {
        let Some(_) = &self.padding else { return Ok(None) };
        Ok(Some(self.padding()?.f_logical_not()?.f_unsqueeze(1)?.f_unsqueeze(1)?))
    }

    /// Which window each token is of. [tokens], i64
    pub fn window_of(&self) -> Result<Tensor> {
        let windows = self.lengths.iter().enumerate().flat_map(|(window, &n)| std::iter::repeat_n(window as i64, n));
        integers(&windows.collect::<Vec<_>>(), self.from_end.device())
    }

    /// The last token of each window: [tokens, d] -> [windows, d]
    pub fn last(&self, packed: &Tensor) -> Result<Tensor> {
        let ends = self.lengths.iter().scan(0, |end, &n| {
            *end += n as i64;
            Some(*end - 1)
        });
        rows(packed, &integers(&ends.collect::<Vec<_>>(), packed.device())?)
    }
}

impl Padding {
    fn new(lengths: &[usize], width: usize, device: Device) -> Result<Self> {
        let mut token_of_place = Vec::with_capacity(lengths.len() * width);
        let mut place_of_token = Vec::with_capacity(lengths.iter().sum());
        for &length in lengths {
            let (place, token) = (token_of_place.len() as i64, place_of_token.len() as i64);
            token_of_place.extend(token..token + length as i64);
            token_of_place.resize(token_of_place.len() + width - length, 0);
            place_of_token.extend(place..place + length as i64);
        }
        Ok(Padding {
            token_of_place: integers(&token_of_place, device)?,
            place_of_token: integers(&place_of_token, device)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::floats;

    #[test]
    fn padding_and_packing_are_inverse() {
        for lengths in [vec![3, 1, 2], vec![2, 2], vec![4]] {
            let layout = Layout::new(lengths.clone(), Device::Cpu).unwrap();
            let flat: Vec<f32> = (0..2 * lengths.iter().sum::<usize>()).map(|x| x as f32).collect();
            let packed = Tensor::from_slice(&flat).view([-1, 2]);
            let padded = layout.pad(&packed).unwrap();
            assert_eq!(padded.size(), [lengths.len() as i64, layout.width as i64, 2]);
            assert_eq!(floats(&layout.pack(&padded).unwrap()).unwrap(), flat);
        }
    }

    #[test]
    fn a_mean_is_over_a_windows_own_tokens() {
        let layout = Layout::new(vec![3, 1, 2], Device::Cpu).unwrap();
        let numbers = Tensor::from_slice(&[1f32, 2., 6., 7., 4., 5.]).view([-1, 1]);
        assert_eq!(floats(&layout.mean(&numbers).unwrap()).unwrap(), [3., 7., 4.5]);
    }

    #[test]
    fn last_tokens_and_distances_from_the_end() {
        let layout = Layout::new(vec![3, 1, 2], Device::Cpu).unwrap();
        let numbers = Tensor::from_slice(&[0f32, 1., 2., 3., 4., 5.]).view([-1, 1]);
        assert_eq!(floats(&layout.last(&numbers).unwrap()).unwrap(), [2., 3., 5.]);
        assert_eq!(Vec::<i64>::try_from(&layout.from_end).unwrap(), [2, 1, 0, 0, 1, 0]);
        let padding = layout.padding().unwrap().view([-1]);
        assert_eq!(
            Vec::<bool>::try_from(&padding).unwrap(),
            [false, false, false, false, true, true, false, false, true]
        );
    }
}
