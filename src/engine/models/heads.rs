//! What is said of an entity beside its vector: a linear map of it for each label, by each member of the model.

use crate::error::Result;
use crate::inputs::Shape;
use crate::parameters::{DEVIATION, Parameters, Start};
use persona_core::{Error, ErrorKind};
use tch::Tensor;

pub struct Heads {
    heads: Vec<Head>,
    /// Width of the profile vector, which the members share out.
    width: i64,
}

struct Head {
    label: String,
    /// [members, width / members, outputs]
    weight: Tensor,
    /// [members, 1, outputs]
    bias: Tensor,
    /// Where this label's outputs begin among those that a wide path has put after the vector.
    wide: i64,
}

impl Heads {
    /// `width`: of what they read.
    pub fn new(parameters: &mut Parameters, shape: &Shape, width: i64, members: i64) -> Result<Self> {
        let (mut heads, mut wide) = (Vec::new(), width);
        for (label, outputs) in &shape.heads {
            let outputs = *outputs as i64;
            let of = |name: &str| format!("head.{label}.{name}");
            heads.push(Head {
                label: label.clone(),
                weight: parameters.make(
                    of("weight"),
                    &[members, width / members, outputs],
                    Start::Normal(DEVIATION),
                )?,
                bias: parameters.make(of("bias"), &[members, 1, outputs], Start::Constant(0.0))?,
                wide,
            });
            wide += outputs;
        }
        Ok(Heads { heads, width })
    }

    /// Lets a label's outputs begin at these numbers, instead of being moved there by many steps.
    pub fn begin(&self, label: &str, outputs: &[f32]) -> Result<()> {
        let _guard = tch::no_grad_guard();
        for head in self.heads.iter().filter(|head| head.label == label) {
            head.bias.shallow_clone().f_copy_(&Tensor::f_from_slice(outputs)?.f_expand_as(&head.bias)?)?;
        }
        Ok(())
    }

    /// Logits of the classes, or the scaled number, by each member: [windows, width + all outputs, or width
    /// alone] -> [windows, members, outputs]
    pub fn forward(&self, label: &str, profiles: &Tensor) -> Result<Tensor> {
        let Some(head) = self.heads.iter().find(|head| head.label == label) else {
            return Err(Error::new(ErrorKind::Engine, format!("the model has no head for label \"{label}\"")).into());
        };
        let (members, part, outputs) = (head.weight.size()[0], head.weight.size()[1], head.weight.size()[2]);
        let vectors = profiles.f_narrow(1, 0, self.width)?.f_reshape([-1, members, part])?.f_transpose(0, 1)?;
        let said = vectors.f_bmm(&head.weight)?.f_add(&head.bias)?.f_transpose(0, 1)?;
        match profiles.size()[1] > self.width {
            true => Ok(said.f_add(&profiles.f_narrow(1, head.wide, outputs)?.f_unsqueeze(1)?)?),
            false => Ok(said),
        }
    }
}
