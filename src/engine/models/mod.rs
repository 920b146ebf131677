//! Model families behind one enum. All read the same input embedding and end in the same
//! normalisation, so that a family is only what turns vectors of events into states.

mod autoencoder;
mod bag;
mod cnn;
mod dbn;
mod dnn;
mod encoder_decoder;
mod gan;
mod generator;
mod heads;
mod layers;
mod ncf;
mod passes;
mod pooling;
mod recurrent;
mod transformer;
mod unfold;

use crate::cpu;
use crate::device::Compute;
use crate::error::Result;
use crate::inputs::{Batch, Embedding, Layout, Shape, rows};
use crate::parameters::{DEVIATION, Parameters, Start};
use autoencoder::Autoencoder;
use cnn::Cnn;
use dbn::Dbn;
use dnn::Dnn;
use encoder_decoder::EncoderDecoder;
pub use gan::Gan;
pub use generator::{Ends, PREFIX as GENERATOR};
use heads::Heads;
use layers::{Linear, Norm};
pub use ncf::Ncf;
pub use passes::Pass;
use persona_core::batch::{Window, buckets};
use persona_core::features::{Encoded, FIRST};
use persona_core::spec::{self, FAMILIES, listed};
use persona_core::{Error, ErrorKind};
use pooling::Pooling;
use rand_chacha::ChaCha8Rng;
use recurrent::{Cell, Recurrent};
use tch::{Kind, Tensor};
use transformer::Transformer;
use unfold::Unfold;

/// A family's network. Over sequences: [tokens, dim] -> [tokens, dim], where a token sees itself and what is
/// before it, unless the specification lets it see all of its window. Over bags: [tokens, dim] -> profiles.
enum Encoder {
    Transformer(Transformer),
    Recurrent(Recurrent),
    Cnn(Cnn),
    Dnn(Dnn),
    Autoencoder(Autoencoder),
    Dbn(Dbn),
    EncoderDecoder(EncoderDecoder),
    Ncf(Ncf),
    Gan(Gan),
}

/// What of a specification every family has.
struct Common {
    dim: i64,
    /// Width of the events' embeddings.
    embedding: i64,
    /// How widely the events' embeddings are spread when training begins.
    deviation: f64,
    /// Who share the profile vector out, and speak of labels each alone.
    members: i64,
    length: usize,
    dropout: f64,
}

pub struct Model {
    pub parameters: Parameters,
    pub compute: Compute,
    /// Width of states and item vectors.
    pub dim: usize,
    /// The most events of a window.
    pub length: usize,
    /// Whether a hidden event stands after the last one of what is read.
    hides: bool,
    embedding: Embedding,
    /// The items' vectors, where events' embeddings are of another width. [FIRST + items, dim]
    output: Option<Tensor>,
    unfold: Option<Unfold>,
    encoder: Encoder,
    /// Absent where states are probabilities.
    norm: Option<Norm>,
    pooling: Pooling,
    heads: Heads,
    dropout: f64,
}

impl Model {
    /// A model with fresh weights, from torch's generator.
    pub fn new(encoder: &spec::Encoder, shape: &Shape, compute: Compute) -> Result<Self> {
        let Common { dim, embedding: width, deviation, members, length, dropout } = common(encoder, shape.rates)?;
        let mut parameters = Parameters::new(&compute);
        // A deep belief network reads values alone.
        let values = matches!(encoder, spec::Encoder::Dbn(_)).then(|| shape.values());
        let read = values.as_ref().unwrap_or(shape);
        let embedding = Embedding::new(&mut parameters, read, width, "", Start::Normal(deviation))?;
        let pooling = encoder.pooling();
        let encoder = match encoder {
            spec::Encoder::Transformer(t) => Encoder::Transformer(Transformer::new(&mut parameters, t)?),
            spec::Encoder::Rnn(r) => Encoder::Recurrent(Recurrent::new(&mut parameters, "", Cell::Rnn, r)?),
            spec::Encoder::Lstm(r) => Encoder::Recurrent(Recurrent::new(&mut parameters, "", Cell::Lstm, r)?),
            spec::Encoder::Gru(r) => Encoder::Recurrent(Recurrent::new(&mut parameters, "", Cell::Gru, r)?),
            spec::Encoder::Cnn(c) => Encoder::Cnn(Cnn::new(&mut parameters, c)?),
            spec::Encoder::Dnn(d) => Encoder::Dnn(Dnn::new(&mut parameters, shape, d, &embedding)?),
            spec::Encoder::Autoencoder(a) => Encoder::Autoencoder(Autoencoder::new(&mut parameters, a)?),
            spec::Encoder::Dbn(d) => Encoder::Dbn(Dbn::new(&mut parameters, d)?),
            spec::Encoder::EncoderDecoder(e) => Encoder::EncoderDecoder(EncoderDecoder::new(&mut parameters, e)?),
            spec::Encoder::Ncf(n) => {
                let items = shape.target.map_or(0, |target| shape.categories[target].1);
                Encoder::Ncf(Ncf::new(&mut parameters, items, shape.rates, n)?)
            }
            spec::Encoder::Gan(g) => Encoder::Gan(Gan::new(&mut parameters, shape, g)?),
            other => return Err(without_vectors(other).into()),
        };
        let norm = match encoder {
            Encoder::Dbn(_) | Encoder::Dnn(_) | Encoder::Ncf(_) => None,
            _ => Some(Norm::new(&mut parameters, "norm", dim)?),
        };
        let pooling = Pooling::new(&mut parameters, pooling, dim)?;
        let heads = Heads::new(&mut parameters, shape, dim, members)?;
        let output = match shape.target {
            Some(target) if width != dim => {
                let size = [shape.categories[target].1 as i64, dim];
                Some(parameters.make("items.output.weight", &size, Start::Normal(DEVIATION))?)
            }
            _ => None,
        };
        let unfold = if shape.unfolds { Some(Unfold::new(&mut parameters, dim)?) } else { None };
        let (hides, dim) = (shape.hides, dim as usize);
        let length = length - usize::from(hides);
        Ok(Model {
            parameters,
            compute,
            dim,
            length,
            hides,
            embedding,
            output,
            unfold,
            encoder,
            norm,
            pooling,
            heads,
            dropout,
        })
    }

    /// What a model learns of histories before its objectives do: the mean squared error of each layer, by epoch. Nothing for
    /// most families. `afresh`: whether it begins with fresh weights; others have learned it before.
    pub fn pretrain(
        &self,
        encoded: &Encoded,
        histories: &[Window],
        batch_events: usize,
        afresh: bool,
        rng: &mut ChaCha8Rng,
    ) -> Result<Vec<Vec<f64>>> {
        let learns = match self.encoder {
            Encoder::Dbn(_) => afresh,
            Encoder::Dnn(_) => true,
            _ => false,
        };
        if !learns || histories.is_empty() {
            return Ok(Vec::new());
        }
        let lengths: Vec<usize> = histories.iter().map(Window::len).collect();
        let batch = |group: &Vec<usize>| {
            let windows: Vec<Window> = group.iter().map(|&i| histories[i]).collect();
            self.batch(encoded, &windows)
        };
        let batches = buckets(&lengths, batch_events, Some(rng));
        let batches = batches.iter().map(batch).collect::<Result<Vec<Batch>>>()?;
        let dbn = match &self.encoder {
            Encoder::Dbn(dbn) => dbn,
            Encoder::Dnn(dnn) => return dnn.center(&batches).map(|()| Vec::new()),
            _ => return Ok(Vec::new()),
        };
        let tables: Vec<&Tensor> = self.embedding.tables().collect();
        if tables.is_empty() {
            return Ok(Vec::new());
        }
        let errors = dbn.pretrain(&tables, &batches)?;
        if let (Some(output), Some(table)) = (&self.output, self.embedding.table()) {
            let _guard = tch::no_grad_guard();
            output.shallow_clone().f_copy_(&dbn.unrolled(table)?)?;
        }
        Ok(errors)
    }

    /// Events as this model reads them: with their times where it asks for them, and with a hidden event at the end.
    pub fn batch(&self, encoded: &Encoded, windows: &[Window]) -> Result<Batch> {
        match &self.encoder {
            _ if self.hides => Batch::with_hidden_end(encoded, windows, self.compute.device),
            Encoder::Dnn(d) if d.reads_times() => Batch::timed(encoded, windows, self.compute.device),
            Encoder::Transformer(t) if t.reads_times() => Batch::timed(encoded, windows, self.compute.device),
            _ => Batch::new(encoded, windows, self.compute.device),
        }
    }

    /// The vectors alone of profiles: [windows, dim]
    pub fn vectors(&self, profiles: &Tensor) -> Result<Tensor> {
        Ok(profiles.f_narrow(1, 0, self.dim as i64)?)
    }

    /// Lets what is said of a label begin at these outputs.
    pub fn begin(&self, label: &str, outputs: &[f32]) -> Result<()> {
        self.heads.begin(label, outputs)
    }

    /// What each member says of a label: [windows, members, outputs], with dropout in training
    pub fn head(&self, label: &str, profiles: &Tensor, train: bool) -> Result<Tensor> {
        match &self.encoder {
            // Its layers have had theirs.
            Encoder::Dnn(_) => self.heads.forward(label, profiles),
            _ => self.heads.forward(label, &profiles.f_dropout(self.dropout, train)?),
        }
    }

    /// The network of pairs of entity and item; an error of families that compare vectors.
    pub fn pairs(&self) -> Result<&Ncf> {
        match &self.encoder {
            Encoder::Ncf(ncf) => Ok(ncf),
            _ => Err(Error::new(ErrorKind::Engine, "the model scores no pairs").into()),
        }
    }

    /// The score of every item: [windows, dim] -> [windows, items]
    pub fn scores(&self, profiles: &Tensor) -> Result<Tensor> {
        match &self.encoder {
            Encoder::Ncf(ncf) => ncf.scores(profiles),
            _ => {
                let (vectors, items) = (self.vectors(profiles)?, self.items()?);
                match cpu::inner::products(&vectors, &items)? {
                    Some(scores) => Ok(scores),
                    None => Ok(vectors.f_mm(&items.f_tr()?)?),
                }
            }
        }
    }

    /// The same with a way back to the weights, of all items or of some, by index: [n, dim] -> [n, items]
    pub fn scores_in_training(&self, states: &Tensor, some: Option<&Tensor>) -> Result<Tensor> {
        let table = self.table()?;
        let count = table.size()[0] - i64::from(FIRST);
        match (&self.encoder, some) {
            (Encoder::Ncf(ncf), Some(items)) => ncf.all(states, items),
            (Encoder::Ncf(ncf), None) => ncf.all(states, &Tensor::f_arange(count, (Kind::Int64, states.device()))?),
            (_, Some(items)) => Ok(states.f_mm(&rows(table, &items.f_add_scalar(i64::from(FIRST))?)?.f_tr()?)?),
            (_, None) => Ok(states.f_mm(&table.f_narrow(0, i64::from(FIRST), count)?.f_tr()?)?),
        }
    }

    /// What draws events and tells them from real ones.
    pub fn gan(&self) -> Result<&Gan> {
        match &self.encoder {
            Encoder::Gan(gan) => Ok(gan),
            _ => Err(Error::new(ErrorKind::Engine, "the model draws no events").into()),
        }
    }

    /// Log odds, after each event, that all so far are real: [tokens, 1]
    pub fn verdicts(&self, batch: &Batch, train: bool) -> Result<Tensor> {
        self.gan()?.verdicts(&self.by_autograd(batch, train)?, &self.compute)
    }

    /// The same of drawn events, with a way back to the logits that they were drawn by, one [tokens, codes] an input.
    pub fn verdicts_of_drawn(&self, batch: &Batch, logits: &[Tensor]) -> Result<Tensor> {
        let tables: Vec<&Tensor> = self.embedding.tables().collect();
        let x = self.gan()?.read(&tables, &batch.categories, logits)?.f_dropout(self.dropout, true)?;
        self.gan()?.verdicts(&self.read(&x, batch, true)?, &self.compute)
    }

    /// Whether a decoder says what comes, event by event.
    pub fn foresees(&self) -> bool {
        matches!(self.encoder, Encoder::EncoderDecoder(_))
    }

    /// What comes after the histories, to be compared with items: [windows * (2 + n), dim], of each window the profile, then
    /// the next event, then each event after one of the `coming`, whose codes are told. `coming`: [windows * n], i64
    pub fn foresee(&self, batch: &Batch, coming: &Tensor, train: bool) -> Result<Tensor> {
        let (Encoder::EncoderDecoder(e), Some(norm)) = (&self.encoder, &self.norm) else {
            return Err(Error::new(ErrorKind::Engine, "the model has no decoder").into());
        };
        let x = self.inputs(batch)?.f_dropout(self.dropout, train)?;
        let (windows, dim) = (batch.layout.lengths.len() as i64, self.dim as i64);
        let coming = rows(self.table()?, coming)?.f_view([windows, coming.size()[0] / windows, dim])?;
        let states = e.foresee(&x, &coming, &batch.layout, &self.compute, train)?;
        norm.forward(&states.f_reshape([-1, dim])?)
    }

    /// What the profiles say of each event given those before it, to be compared with items: [windows, dim] -> [tokens, dim].
    /// `before`: codes of the event before each token; anything for a window's first.
    pub fn unfold(&self, profiles: &Tensor, before: &Tensor, layout: &Layout) -> Result<Tensor> {
        match &self.unfold {
            Some(unfold) => unfold.forward(profiles, &rows(self.table()?, before)?, layout, &self.compute),
            None => Err(Error::new(ErrorKind::Engine, "the model has no decoder").into()),
        }
    }

    /// The target's vectors with those of the special codes: [FIRST + items, dim]
    pub fn table(&self) -> Result<&Tensor> {
        Ok(self
            .output
            .as_ref()
            .or(self.embedding.table())
            .ok_or_else(|| Error::new(ErrorKind::Engine, "the model has no items"))?)
    }

    /// The vectors of all items: [items, dim]
    pub fn items(&self) -> Result<Tensor> {
        let table = self.table()?.f_detach()?;
        let items = table.size()[0] - i64::from(FIRST);
        Ok(table.f_narrow(0, i64::from(FIRST), items)?)
    }
}

impl Encoder {
    fn forward(&self, x: &Tensor, layout: &Layout, compute: &Compute, train: bool) -> Result<Tensor> {
        match self {
            Encoder::Transformer(transformer) => transformer.forward(x, layout, compute, train),
            Encoder::Recurrent(recurrent) => recurrent.forward(x, layout, train),
            Encoder::Cnn(cnn) => cnn.forward(x, layout, compute, train),
            Encoder::Dnn(_) | Encoder::Ncf(_) => {
                Err(Error::new(ErrorKind::Engine, "the family reads more than vectors of events").into())
            }
            Encoder::Autoencoder(autoencoder) => autoencoder.forward(x, layout, compute, train),
            Encoder::Dbn(dbn) => dbn.forward(&layout.sum(x)?),
            Encoder::EncoderDecoder(e) => e.forward(x, layout, compute, train),
            Encoder::Gan(gan) => gan.forward(x, layout, train),
        }
    }
}

fn common(encoder: &spec::Encoder, rates: bool) -> Result<Common> {
    let same = |dim: usize, length, dropout| Common {
        dim: dim as i64,
        embedding: dim as i64,
        deviation: DEVIATION,
        members: 1,
        length,
        dropout,
    };
    match encoder {
        spec::Encoder::Transformer(t) => Ok(same(t.dim, t.length, t.dropout)),
        spec::Encoder::Rnn(r) | spec::Encoder::Lstm(r) | spec::Encoder::Gru(r) => Ok(same(r.dim, r.length, r.dropout)),
        spec::Encoder::Cnn(c) => Ok(same(c.dim, c.length, c.dropout)),
        spec::Encoder::Dnn(d) => {
            Ok(Common { deviation: dnn::SPREAD, members: d.members as i64, ..same(d.dim, d.length, d.dropout) })
        }
        spec::Encoder::Autoencoder(a) => Ok(Common { embedding: a.width as i64, ..same(a.dim, a.length, a.dropout) }),
        spec::Encoder::EncoderDecoder(e) => Ok(same(e.dim, e.length, e.dropout)),
        spec::Encoder::Ncf(n) => Ok(Common { deviation: ncf::spread(rates), ..same(n.width(), n.length, n.dropout) }),
        spec::Encoder::Gan(g) => Ok(same(g.dim, g.length, g.dropout)),
        spec::Encoder::Dbn(d) => Ok(Common { embedding: d.outputs(0) as i64, ..same(d.dim, d.length, 0.0) }),
        other => Err(without_vectors(other).into()),
    }
}

/// Families that count have no vectors to store.
pub fn without_vectors(encoder: &spec::Encoder) -> Error {
    let able = FAMILIES.iter().filter(|family| family.vectors).map(|family| family.kind);
    Error::new(ErrorKind::Unsupported, format!("encoder \"{}\" has no vectors", encoder.kind()))
        .hint(format!("Families that have are {}.", listed(able)))
}

#[cfg(test)]
mod tests;
