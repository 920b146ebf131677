//! One trained version as one safetensors file: weights (`weights.<parameter>`), vocabularies and
//! counts as tensors, the specification and fitted statistics as JSON in the metadata.

use crate::error::{Error, ErrorKind, Result};
use crate::events::{Strings, Values};
use crate::weights;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype as FileDtype, TensorView, serialize};
use serde::{Serialize, de::DeserializeOwned};
use std::collections::{BTreeMap, HashMap};

/// The one key of the file's metadata; under it, ours as JSON. The format's own map has no order,
/// and the same version should be the same bytes.
const METADATA: &str = "persona";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    F32,
    F16,
    BF16,
    I64,
    U32,
    U8,
}

impl Dtype {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Dtype::I64 => 8,
            Dtype::F32 | Dtype::U32 => 4,
            Dtype::F16 | Dtype::BF16 => 2,
            Dtype::U8 => 1,
        }
    }

    fn file(self) -> FileDtype {
        match self {
            Dtype::F32 => FileDtype::F32,
            Dtype::F16 => FileDtype::F16,
            Dtype::BF16 => FileDtype::BF16,
            Dtype::I64 => FileDtype::I64,
            Dtype::U32 => FileDtype::U32,
            Dtype::U8 => FileDtype::U8,
        }
    }

    fn from_file(dtype: FileDtype) -> Result<Self> {
        [Dtype::F32, Dtype::F16, Dtype::BF16, Dtype::I64, Dtype::U32, Dtype::U8]
            .into_iter()
            .find(|known| known.file() == dtype)
            .ok_or_else(|| damaged(format!("It has a tensor of type {dtype:?}.")))
    }
}

/// Little endian, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorData {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Artifact {
    pub meta: BTreeMap<String, String>,
    pub tensors: BTreeMap<String, TensorData>,
}

/// The error for whatever is wrong with a stored artifact; `detail` is a sentence.
pub(crate) fn damaged(detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidData, "the stored model version is damaged")
        .detail(detail)
        .hint("Train the model again, or restore the version from a backup.")
}

impl Artifact {
    pub fn new() -> Self {
        Artifact::default()
    }

    /// The same contents give the same bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let failed =
            |reason: String| Error::new(ErrorKind::Engine, format!("could not write the model version: {reason}"));
        let meta = serde_json::to_string(&self.meta).map_err(|e| failed(e.to_string()))?;
        let views = self
            .tensors
            .iter()
            .map(|(name, tensor)| {
                let view = TensorView::new(tensor.dtype.file(), tensor.shape.clone(), &tensor.bytes);
                Ok((name.as_str(), view.map_err(|e| failed(format!("tensor \"{name}\": {e}")))?))
            })
            .collect::<Result<Vec<_>>>()?;
        serialize(views, Some(HashMap::from([(METADATA.to_string(), meta)]))).map_err(|e| failed(e.to_string()))
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let unreadable = |e: safetensors::SafeTensorError| damaged(format!("It is not a safetensors file: {e}."));
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(unreadable)?;
        let meta = header.metadata().as_ref().and_then(|map| map.get(METADATA));
        let meta = meta.ok_or_else(|| damaged("Its metadata is missing."))?;
        let meta = serde_json::from_str(meta).map_err(|e| damaged(format!("Its metadata is not readable: {e}.")))?;
        let tensors = SafeTensors::deserialize(bytes)
            .map_err(unreadable)?
            .iter()
            .map(|(name, view)| {
                let dtype = Dtype::from_file(view.dtype())?;
                let tensor = TensorData { dtype, shape: view.shape().to_vec(), bytes: view.data().to_vec() };
                Ok((name.to_string(), tensor))
            })
            .collect::<Result<_>>()?;
        Ok(Artifact { meta, tensors })
    }

    /// Forgets all weights of a network.
    pub fn remove_weights(&mut self) {
        self.tensors.retain(|name, _| !name.starts_with(weights::PREFIX));
        self.meta.remove(weights::KEY);
    }

    /// The tensor of this name; an error when there is none.
    pub fn tensor(&self, name: &str) -> Result<&TensorData> {
        self.tensors.get(name).ok_or_else(|| damaged(format!("It has no tensor \"{name}\".")))
    }

    pub fn put_json<T: Serialize>(&mut self, key: &str, value: &T) -> Result<()> {
        let json = serde_json::to_string(value).map_err(|e| {
            Error::new(ErrorKind::Engine, format!("could not write \"{key}\" of the model version: {e}"))
        })?;
        self.meta.insert(key.to_string(), json);
        Ok(())
    }

    pub fn get_json<T: DeserializeOwned>(&self, key: &str) -> Result<T> {
        let json = self.meta.get(key).ok_or_else(|| damaged(format!("It has no \"{key}\".")))?;
        serde_json::from_str(json).map_err(|e| damaged(format!("Its \"{key}\" is not readable: {e}.")))
    }

    /// A tensor of any shape.
    pub fn put_f32(&mut self, name: &str, shape: &[usize], values: &[f32]) {
        self.put(name, Dtype::F32, shape, values.iter().flat_map(|value| value.to_le_bytes()).collect());
    }

    pub fn put_i64(&mut self, name: &str, values: &[i64]) {
        self.put(name, Dtype::I64, &[values.len()], values.iter().flat_map(|value| value.to_le_bytes()).collect());
    }

    pub fn put_u32(&mut self, name: &str, values: &[u32]) {
        self.put(name, Dtype::U32, &[values.len()], values.iter().flat_map(|value| value.to_le_bytes()).collect());
    }

    /// Two tensors: the text as `name.text`, and where each string ends as `name.ends`.
    pub fn put_strings(&mut self, name: &str, strings: &Strings) {
        let (text, ends) = strings.parts();
        self.put(&format!("{name}.text"), Dtype::U8, &[text.len()], text.as_bytes().to_vec());
        let ends: Vec<i64> = ends.iter().map(|&end| end as i64).collect();
        self.put_i64(&format!("{name}.ends"), &ends);
    }

    /// Integers as one tensor, text as [`Artifact::put_strings`].
    pub fn put_values(&mut self, name: &str, values: &Values) {
        match values {
            Values::Integer(values) => self.put_i64(name, values),
            Values::Text(strings) => self.put_strings(name, strings),
        }
    }

    /// The values in row-major order.
    pub fn get_f32(&self, name: &str) -> Result<Vec<f32>> {
        self.get(name, Dtype::F32, f32::from_le_bytes)
    }

    pub fn get_i64(&self, name: &str) -> Result<Vec<i64>> {
        self.get(name, Dtype::I64, i64::from_le_bytes)
    }

    pub fn get_u32(&self, name: &str) -> Result<Vec<u32>> {
        self.get(name, Dtype::U32, u32::from_le_bytes)
    }

    pub fn get_strings(&self, name: &str) -> Result<Strings> {
        let unreadable = || damaged(format!("Its strings \"{name}\" are not readable."));
        let bytes = self.get(&format!("{name}.text"), Dtype::U8, |byte: [u8; 1]| byte[0])?;
        let text = String::from_utf8(bytes).map_err(|_| unreadable())?;
        let ends = self.get_i64(&format!("{name}.ends"))?;
        let ends = ends.into_iter().map(|end| usize::try_from(end).map_err(|_| unreadable()));
        Strings::from_parts(text, ends.collect::<Result<_>>()?).ok_or_else(unreadable)
    }

    /// What [`Artifact::put_values`] wrote.
    pub fn get_values(&self, name: &str) -> Result<Values> {
        match self.tensors.contains_key(name) {
            true => Ok(Values::Integer(self.get_i64(name)?)),
            false => Ok(Values::Text(self.get_strings(name)?)),
        }
    }

    fn put(&mut self, name: &str, dtype: Dtype, shape: &[usize], bytes: Vec<u8>) {
        self.tensors.insert(name.to_string(), TensorData { dtype, shape: shape.to_vec(), bytes });
    }

    fn get<const N: usize, T>(&self, name: &str, dtype: Dtype, read: impl Fn([u8; N]) -> T) -> Result<Vec<T>> {
        let tensor = self.tensor(name)?;
        if tensor.dtype != dtype {
            return Err(damaged(format!("Its tensor \"{name}\" is of type {:?}, not {dtype:?}.", tensor.dtype)));
        }
        let (elements, _) = tensor.bytes.as_chunks::<N>();
        Ok(elements.iter().map(|&element| read(element)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Artifact {
        let mut artifact = Artifact::new();
        artifact.put_json("numbers", &vec![1, 2]).unwrap();
        artifact.put_json("words", &"ä").unwrap();
        artifact.put_f32("weights.a", &[2, 2], &[1.0, -2.0, 0.5, f32::MIN_POSITIVE]);
        artifact.put_i64("long", &[i64::MIN, 0, i64::MAX]);
        artifact.put_u32("short", &[]);
        artifact.put_values("text", &Values::Text(["", "ä", "b"].iter().collect()));
        let halves = TensorData { dtype: Dtype::BF16, shape: vec![3, 1], bytes: vec![1, 2, 3, 4, 5, 6] };
        artifact.tensors.insert("halves".into(), halves);
        artifact
    }

    #[test]
    fn a_file_brings_everything_back() {
        let artifact = Artifact::from_bytes(&example().to_bytes().unwrap()).unwrap();
        assert_eq!(artifact, example());
        assert_eq!(artifact.get_json::<Vec<u32>>("numbers").unwrap(), [1, 2]);
        assert_eq!(artifact.get_f32("weights.a").unwrap(), [1.0, -2.0, 0.5, f32::MIN_POSITIVE]);
        assert_eq!(artifact.tensor("weights.a").unwrap().shape, [2, 2]);
        assert_eq!(artifact.get_i64("long").unwrap(), [i64::MIN, 0, i64::MAX]);
        assert_eq!(artifact.get_u32("short").unwrap(), [0; 0]);
        assert_eq!(artifact.get_strings("text").unwrap().iter().collect::<Vec<_>>(), ["", "ä", "b"]);
        assert_eq!(artifact.get_values("long").unwrap(), Values::Integer(vec![i64::MIN, 0, i64::MAX]));
    }

    #[test]
    fn the_same_contents_are_the_same_bytes() {
        let bytes = example().to_bytes().unwrap();
        for _ in 0..20 {
            assert_eq!(example().to_bytes().unwrap(), bytes);
        }
    }

    #[test]
    fn what_is_missing_or_of_another_type_is_an_error() {
        let artifact = example();
        for error in [
            artifact.get_f32("absent").unwrap_err(),
            artifact.get_f32("long").unwrap_err(),
            artifact.get_json::<Vec<u32>>("words").unwrap_err(),
            artifact.get_json::<Vec<u32>>("absent").unwrap_err(),
            artifact.get_strings("long").unwrap_err(),
        ] {
            assert_eq!(error.kind, ErrorKind::InvalidData);
        }
    }

    #[test]
    fn a_damaged_file_is_an_error() {
        let bytes = example().to_bytes().unwrap();
        for end in [0, 7, 8, 20, bytes.len() - 1] {
            assert_eq!(Artifact::from_bytes(&bytes[..end]).unwrap_err().kind, ErrorKind::InvalidData);
        }
    }

    #[test]
    fn a_shape_that_does_not_fit_is_not_written() {
        let mut artifact = Artifact::new();
        artifact.put_f32("a", &[3], &[1.0]);
        assert!(artifact.to_bytes().unwrap_err().message.contains("tensor \"a\""));
    }
}
