//! The routers of a model, and the file that keeps them for a resumed run.

use moerge_checkpoint::{Dtype, Header, ShardLayout, TensorSpec};

use std::collections::HashMap;

use moerge_core::{
    error::{Error, Result},
    model::families::{LayerRole, Role},
    ops::Expr,
    plan::MoePlan,
};

/// The gates of all layers.
#[derive(Debug, Clone, PartialEq)]
pub struct Routers {
    /// Rows per gate.
    pub experts: usize,
    /// Columns per gate.
    pub hidden: usize,
    /// Per layer, the gate matrix `[experts, hidden]` in row-major order.
    pub gates: Vec<Vec<f32>>,
    /// Per layer, the shared expert's gate `[1, hidden]`; empty if there is none.
    pub shared_gates: Vec<Vec<f32>>,
}

const GATES: &str = "gates";
const SHARED_GATES: &str = "shared_gates";

impl Routers {
    /// Encodes a safetensors file with `gates` `[layers, experts, hidden]` and, if there are any, `shared_gates`
    /// `[layers, 1, hidden]`.
    ///
    /// # Errors
    /// The file would be too large.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let spec = |name: &str, layers: usize, rows: usize| TensorSpec {
            name: name.to_owned(),
            encoding: Dtype::F32.into(),
            shape: vec![layers, rows, self.hidden],
        };
        let mut specs = vec![spec(GATES, self.gates.len(), self.experts)];
        if !self.shared_gates.is_empty() {
            specs.push(spec(SHARED_GATES, self.shared_gates.len(), 1));
        }
        let mut bytes = Vec::new();
        for shard in ShardLayout::new(specs, u64::MAX)?.shards {
            bytes.extend(shard.header);
            for tensor in shard.tensors {
                let layers = if tensor.spec.name == GATES { &self.gates } else { &self.shared_gates };
                bytes.extend(layers.iter().flatten().flat_map(|x| x.to_le_bytes()));
            }
        }
        Ok(bytes)
    }

    /// The values of the computed tensors of `plan`, by name.
    pub fn computed(&self, plan: &MoePlan) -> HashMap<String, Vec<f32>> {
        let gate = |role| match role {
            Role::Layer(layer, LayerRole::Router) => self.gates.get(layer),
            Role::Layer(layer, LayerRole::SharedExpertGate) => self.shared_gates.get(layer),
            _ => None,
        };
        let computed = plan.tensors().filter(|(_, tensor)| matches!(tensor.expr, Expr::Computed { .. }));
        computed.filter_map(|(role, tensor)| Some((tensor.name.clone(), gate(role)?.clone()))).collect()
    }

    /// Decodes the result of [`Routers::to_bytes`].
    ///
    /// # Errors
    /// They are damaged.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Self::parse(bytes).ok_or_else(|| {
            Error::input("the routers kept from the previous run are damaged")
                .hint("remove the work folder next to the output folder to make them again")
        })
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let length = u64::from_le_bytes(*bytes.first_chunk::<8>()?);
        let data_start = usize::try_from(length).ok()?.checked_add(8)?;
        let header = Header::parse(bytes.get(8..data_start)?, bytes.len() as u64).ok()?;
        let data = &bytes[data_start..];
        let mut routers = Self { experts: 0, hidden: 0, gates: Vec::new(), shared_gates: Vec::new() };
        for tensor in &header.tensors {
            let (Dtype::F32, &[_, rows, hidden]) = (tensor.dtype, tensor.shape.as_slice()) else { return None };
            let values = data.get(tensor.begin as usize..tensor.end as usize)?.as_chunks::<4>().0;
            let values: Vec<f32> = values.iter().map(|b| f32::from_le_bytes(*b)).collect();
            let layers = values.chunks((rows * hidden).max(1)).map(<[f32]>::to_vec).collect();
            match tensor.name.as_str() {
                GATES => (routers.experts, routers.hidden, routers.gates) = (rows, hidden, layers),
                SHARED_GATES => routers.shared_gates = layers,
                _ => return None,
            }
        }
        let all_shared = routers.shared_gates.is_empty() || routers.shared_gates.len() == routers.gates.len();
        let fits = routers.shared_gates.iter().all(|gate| gate.len() == routers.hidden);
        (!routers.gates.is_empty() && all_shared && fits).then_some(routers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routers(shared: bool) -> Routers {
        let gates = vec![vec![1.0, -2.0, 0.5, f32::MIN_POSITIVE, 3.0, 4.0], vec![0.0; 6]];
        let shared_gates = if shared { vec![vec![7.0, 8.0, 9.0], vec![0.1; 3]] } else { Vec::new() };
        Routers { experts: 2, hidden: 3, gates, shared_gates }
    }

    #[test]
    fn come_back_as_they_were() {
        for shared in [false, true] {
            let bytes = routers(shared).to_bytes().unwrap();
            assert_eq!(Routers::from_bytes(&bytes).unwrap(), routers(shared));
        }
    }

    #[test]
    fn no_damage_panics() {
        let bytes = routers(true).to_bytes().unwrap();
        for end in 0..bytes.len() {
            assert!(Routers::from_bytes(&bytes[..end]).is_err());
        }
        for at in 0..bytes.len() {
            for value in [0, 1, b'9', b'}', 255] {
                let mut bytes = bytes.clone();
                bytes[at] = value;
                let _ = Routers::from_bytes(&bytes);
            }
        }
    }
}
