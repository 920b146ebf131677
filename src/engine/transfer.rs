//! Weights of another version as a network's own, wherever they fit.
//!
//! A weight is taken from the one of the same name. Where its places mean values (rows of an embedding or of items,
//! columns of a label's classes) each is taken from the place of the same value, so that a value that the other version
//! does not know begins fresh; all other places must be equally many. What reads a field is the same whatever the field
//! is for: rows of an item that one version predicts and another only reads are those of its values. Between families
//! the embeddings of fields alone are taken.

use crate::error::Result;
use crate::intake::Stored;
use crate::models::{GENERATOR, Model};
use crate::parameters::floats;
use crate::version::Version;
use persona_core::features::{Codes, Fitted, Inputs};
use persona_core::labels::FittedLabel;
use persona_core::protocol::Role;
use persona_core::spec::{Encoder, ModelSpec, VersionName};
use persona_core::weights::Weight;
use persona_core::{Error, ErrorKind};
use std::collections::HashMap;
use tch::Tensor;

/// Weights and fields that a note names at most.
const LISTED: usize = 8;

/// A version that training begins with.
pub struct Start {
    pub version: Version,
    pub name: VersionName,
}

/// What a network took from a version.
pub struct Taken {
    weights: usize,
    of: usize,
    /// Numbers that were taken, of how many.
    numbers: (usize, usize),
    /// Weights of which nothing was taken.
    fresh: Vec<String>,
    /// Values of fields that the version does not know, by field.
    new: Vec<(String, usize)>,
}

/// What the places along a weight's dimension are.
#[derive(Clone)]
enum Axis {
    /// The same as in the version, if they are equally many.
    Same,
    /// By place the version's.
    Of(Codes),
    /// The first ones are the same, as many as both have.
    First,
}

/// Where a weight comes from.
struct Origin {
    name: String,
    axes: Vec<Axis>,
}

impl Start {
    /// The version that came with a job, if its specification names one.
    pub fn open(stored: &Stored, spec: &ModelSpec) -> Result<Option<Start>> {
        let Some(name) = &spec.training.init_from else { return Ok(None) };
        let missing = || Error::protocol("a job came without the version that training begins with");
        let bytes = stored.one(Role::Start).ok_or_else(missing)?;
        Ok(Some(Start { version: Version::parse(bytes)?, name: name.clone() }))
    }

    /// Fills a network that was just made. `fitted` and `labels` are its own. An error where nothing fits.
    pub fn fill(&self, model: &Model, spec: &ModelSpec, fitted: &Fitted, labels: &[FittedLabel]) -> Result<Taken> {
        let pairing = Pairing { spec, start: &self.version, fitted, labels };
        let origins = pairing.origins();
        let same_family = spec.encoder.kind() == self.version.spec.encoder.kind();
        let new = pairing.new_values();
        let mut taken = Taken { weights: 0, of: 0, numbers: (0, 0), fresh: Vec::new(), new };
        for (name, weight) in model.parameters.named() {
            let plain = || {
                let leading = if name.ends_with("positions.weight") { Axis::First } else { Axis::Same };
                let axes = std::iter::once(leading).chain(std::iter::repeat(Axis::Same)).take(weight.dim()).collect();
                Origin { name: name.to_string(), axes }
            };
            let numbers = match origins.get(name) {
                Some(origin) => self.copy(weight, origin)?,
                None if same_family => self.copy(weight, &plain())?,
                None => 0,
            };
            taken.of += 1;
            taken.weights += usize::from(numbers > 0);
            taken.numbers = (taken.numbers.0 + numbers, taken.numbers.1 + weight.numel());
            if numbers == 0 {
                taken.fresh.push(name.to_string());
            }
        }
        match taken.weights {
            0 => Err(self.nothing_fits(spec).into()),
            _ => Ok(taken),
        }
    }

    /// Copies what fits; returns how many numbers that are.
    fn copy(&self, weight: &Tensor, origin: &Origin) -> Result<usize> {
        let Some(Weight { shape, numbers: from }) = self.version.artifact.weight(&origin.name)? else { return Ok(0) };
        let own: Vec<usize> = weight.size().into_iter().map(|n| n as usize).collect();
        if shape.len() != own.len() || origin.axes.len() != own.len() {
            return Ok(0);
        }
        let mut places = Vec::with_capacity(own.len());
        for ((axis, &own), &other) in origin.axes.iter().zip(&own).zip(&shape) {
            let Some(codes) = axis.places(own, other) else { return Ok(0) };
            places.push(codes);
        }
        let mut to = floats(weight)?;
        let count = gather(&mut to, &from, &shape, &places);
        if count > 0 {
            let _guard = tch::no_grad_guard();
            weight.shallow_clone().f_copy_(&Tensor::f_from_slice(&to)?.f_view_as(weight)?)?;
        }
        Ok(count)
    }

    fn nothing_fits(&self, spec: &ModelSpec) -> Error {
        let kind = |spec: &ModelSpec| {
            let dim = spec.dim().map_or(String::new(), |dim| format!(" of {dim} dimensions"));
            format!("\"{}\"{dim}", spec.encoder.kind())
        };
        Error::new(ErrorKind::InvalidParameter, format!("no weight of \"{}\" fits the model", self.name))
            .detail(format!("It is {}, the model {}.", kind(&self.version.spec), kind(spec)))
            .hint("Begin with a version of the same encoder.kind and dim, over fields of the same names.")
    }
}

impl Axis {
    /// By place of `own`, one of `other`; `None` where the two cannot be paired.
    fn places(&self, own: usize, other: usize) -> Option<Codes> {
        match self {
            Axis::Same => (own == other).then(|| (0..own as u32).map(Some).collect()),
            Axis::First => Some((0..own as u32).map(|place| ((place as usize) < other).then_some(place)).collect()),
            Axis::Of(codes) => {
                let sound = codes.len() == own && codes.iter().flatten().all(|&code| (code as usize) < other);
                sound.then(|| codes.clone())
            }
        }
    }
}

/// Numbers of `from` at their places in `to`, both row-major; returns how many. `places`: by place of each dimension of
/// `to`, one of `from`.
fn gather(to: &mut [f32], from: &[f32], shape: &[usize], places: &[Codes]) -> usize {
    let Some((last, outer)) = places.split_last() else { return 0 };
    let width = shape[shape.len() - 1];
    let mut count = 0;
    for (row, to) in to.chunks_exact_mut(last.len().max(1)).enumerate() {
        // The row's place in each outer dimension, from the innermost out.
        let (mut rest, mut offset, mut stride) = (row, Some(0), 1);
        for (codes, &size) in outer.iter().zip(shape).rev() {
            let code = codes[rest % codes.len()];
            rest /= codes.len();
            offset = offset.zip(code).map(|(offset, code)| offset + stride * code as usize);
            stride *= size;
        }
        let Some(offset) = offset else { continue };
        let from = &from[offset * width..][..width];
        for (to, code) in to.iter_mut().zip(last) {
            if let Some(code) = code {
                *to = from[*code as usize];
                count += 1;
            }
        }
    }
    count
}

/// A network to be and the version that it begins with.
struct Pairing<'a> {
    spec: &'a ModelSpec,
    start: &'a Version,
    fitted: &'a Fitted,
    labels: &'a [FittedLabel],
}

impl Pairing<'_> {
    /// Where the weights come from whose places mean values, by their names.
    fn origins(&self) -> HashMap<String, Origin> {
        let mut origins = HashMap::new();
        self.embedding(&mut origins, "", &Axis::Same);
        if self.spec.encoder.kind() != self.start.spec.encoder.kind() {
            return origins;
        }
        self.bags(&mut origins, "");
        let outputs = self.all_outputs();
        self.embedding(&mut origins, "wide.", &outputs);
        let recent = if let Encoder::Dnn(dnn) = &self.spec.encoder { dnn.recent.len() } else { 0 };
        for i in 0..recent {
            self.embedding(&mut origins, &format!("recent.{i}."), &Axis::Same);
            self.embedding(&mut origins, &format!("recent.{i}.wide."), &outputs);
            self.bags(&mut origins, &format!("recent.{i}."));
        }
        self.items(&mut origins);
        self.heads(&mut origins);
        self.generator(&mut origins);
        origins
    }

    fn inputs(&self) -> (Inputs<'_>, Inputs<'_>) {
        (self.fitted.inputs(), self.start.fitted.inputs())
    }

    /// Places of a category's or a list's codes.
    fn codes(&self, name: &str) -> Axis {
        match self.fitted.codes_in(&self.start.fitted, name) {
            Some(codes) => Axis::Of(codes),
            // Those of the clock are the same everywhere. Others have nothing in common.
            None if self.fitted.has_field(name) => Axis::Of(Vec::new()),
            None => Axis::Same,
        }
    }

    /// `width`: the dimension that is not of codes.
    fn embedding(&self, origins: &mut HashMap<String, Origin>, prefix: &str, width: &Axis) {
        let name = |fitted: &Fitted, input: &str| match fitted.target_name() == Some(input) {
            true => format!("{prefix}items.weight"),
            false => format!("{prefix}inputs.{input}.weight"),
        };
        let (own, other) = self.inputs();
        let mut put = |own: String, other: String, axes: Vec<Axis>| {
            origins.insert(own, Origin { name: other, axes });
        };
        for input in own.categories.iter().chain(&own.lists) {
            let axes = vec![self.codes(input), width.clone()];
            put(name(self.fitted, input), name(&self.start.fitted, input), axes);
        }
        for input in &own.vectors {
            let name = format!("{prefix}inputs.{input}.weight");
            put(name.clone(), name, vec![width.clone(), Axis::Same]);
        }
        for (weight, axis) in [("numbers", numbers(&own.numbers, &other.numbers)), ("mask", Axis::Same)] {
            let name = format!("{prefix}{weight}.weight");
            // A hidden event's vector stands in a row of its own, and numbers in columns.
            put(
                name.clone(),
                name,
                if weight == "mask" { vec![axis, width.clone()] } else { vec![width.clone(), axis] },
            );
        }
    }

    /// The mean weights of what bags hold, which go by place.
    fn bags(&self, origins: &mut HashMap<String, Origin>, prefix: &str) {
        let (own, other) = self.inputs();
        let place =
            |inputs: &Inputs, name: &str| inputs.categories.iter().chain(&inputs.lists).position(|i| *i == name);
        for (i, input) in own.categories.iter().chain(&own.lists).enumerate() {
            let other = place(&other, input).map_or("none".to_string(), |place| place.to_string());
            let name = format!("{prefix}bag.{other}.mean");
            origins.insert(format!("{prefix}bag.{i}.mean"), Origin { name, axes: vec![Axis::Same, self.codes(input)] });
        }
    }

    /// What items are compared with, where that is not what is read of them.
    fn items(&self, origins: &mut HashMap<String, Origin>) {
        let Some(target) = self.fitted.target_name() else { return };
        let same = self.start.fitted.target_name() == Some(target);
        let rows = if same { self.codes(target) } else { Axis::Of(Vec::new()) };
        for name in ["items.output.weight", "items.bias"] {
            origins.insert(name.into(), Origin { name: name.into(), axes: vec![rows.clone(), Axis::Same] });
        }
    }

    fn heads(&self, origins: &mut HashMap<String, Origin>) {
        for label in self.labels {
            let outputs = self.outputs(label).map_or(Axis::Of(Vec::new()), Axis::Of);
            for part in ["weight", "bias"] {
                let name = format!("head.{}.{part}", label.name);
                let axes = vec![Axis::Same, Axis::Same, outputs.clone()];
                origins.insert(name.clone(), Origin { name, axes });
            }
        }
    }

    /// By output of a label, that of the same class in the version; `None` where it has not learned the label so.
    fn outputs(&self, label: &FittedLabel) -> Option<Codes> {
        let other = self.start.labels.iter().find(|other| other.name == label.name)?;
        match (&label.classes, &other.classes) {
            (Some(own), Some(other)) => {
                let place = |class| (0..other.len()).find(|&i| other.text(i) == own.text(class)).map(|i| i as u32);
                Some((0..own.len()).map(place).collect())
            }
            (None, None) => (label.log == other.log).then(|| vec![Some(0)]),
            _ => None,
        }
    }

    /// The same of all labels' outputs, one label's after the other's.
    fn all_outputs(&self) -> Axis {
        let mut first = HashMap::new();
        let mut from = 0;
        for label in &self.start.labels {
            first.insert(label.name.as_str(), from);
            from += label.outputs() as u32;
        }
        let of = |label: &FittedLabel| {
            let first = first.get(label.name.as_str()).copied().unwrap_or(0);
            match self.outputs(label) {
                Some(outputs) => outputs.into_iter().map(|output| output.map(|output| first + output)).collect(),
                None => vec![None; label.outputs()],
            }
        };
        Axis::Of(self.labels.iter().flat_map(of).collect())
    }

    /// What draws events reads and says codes.
    fn generator(&self, origins: &mut HashMap<String, Origin>) {
        for input in self.fitted.inputs().categories {
            let codes = self.codes(input);
            for (weight, axes) in [
                ("weight", vec![codes.clone(), Axis::Same]),
                ("output.weight", vec![codes.clone(), Axis::Same]),
                ("output.bias", vec![codes.clone()]),
            ] {
                let name = format!("{GENERATOR}{input}.{weight}");
                origins.insert(name.clone(), Origin { name, axes });
            }
        }
    }

    /// Values that the version does not know, by field.
    fn new_values(&self) -> Vec<(String, usize)> {
        let inputs = self.fitted.inputs();
        let new = |name: &&str| {
            let codes = self.fitted.codes_in(&self.start.fitted, name)?;
            Some((name.to_string(), codes.iter().filter(|code| code.is_none()).count()))
        };
        inputs.categories.iter().chain(&inputs.lists).filter_map(new).filter(|(_, count)| *count > 0).collect()
    }
}

/// Columns of numbers: their values, then whether each is missing.
fn numbers(own: &[&str], other: &[&str]) -> Axis {
    let place = |name: &&str| other.iter().position(|other| other == name).map(|place| place as u32);
    let values = own.iter().map(place);
    let missing = own.iter().map(|name| place(name).map(|place| place + other.len() as u32));
    Axis::Of(values.chain(missing).collect())
}

impl Taken {
    /// A sentence.
    pub fn note(&self, name: &VersionName) -> String {
        let share = 100.0 * self.numbers.0 as f64 / self.numbers.1.max(1) as f64;
        let new: Vec<String> = self.new.iter().map(|(field, count)| format!("{count} values of \"{field}\"")).collect();
        let mut fresh = new.into_iter().chain(self.fresh.iter().cloned()).collect::<Vec<_>>();
        if fresh.len() > LISTED {
            let more = fresh.split_off(LISTED - 1).len();
            fresh.push(format!("{more} more"));
        }
        let fresh = if fresh.is_empty() { String::new() } else { format!("; what begins fresh: {}", fresh.join(", ")) };
        let (taken, all) = (self.weights, self.of);
        format!("Training began with {taken} of {all} weights of \"{name}\", {share:.1} % of their numbers{fresh}.")
    }
}
