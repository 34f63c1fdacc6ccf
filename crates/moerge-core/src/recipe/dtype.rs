//! The type of an output's weights.

use moerge_checkpoint::Dtype;

use super::fields::Field;
use crate::error::Result;

/// The types that an output may have, and what people write for them besides PyTorch's names.
const DTYPES: [(&str, Dtype); 3] = [("bfloat16", Dtype::BF16), ("float16", Dtype::F16), ("float32", Dtype::F32)];
const DTYPE_ALIASES: [(&str, Dtype); 5] =
    [("bf16", Dtype::BF16), ("f16", Dtype::F16), ("fp16", Dtype::F16), ("f32", Dtype::F32), ("fp32", Dtype::F32)];

/// The output's type; an empty string is mergekit's way to say none.
pub(super) fn dtype(field: Field) -> Result<Option<Dtype>> {
    match field.text()?.text.as_str() {
        "" => Ok(None),
        "float64" | "int64" | "torch.float64" | "torch.int64" => Err(field
            .wrong("`bfloat16`, `float16` or `float32`")
            .hint("`float32` is the widest type of weights; sums are taken in float64 whatever the type")),
        written => {
            let alias = || DTYPE_ALIASES.iter().find(|(name, _)| *name == written).map(|(_, dtype)| *dtype);
            match Dtype::from_torch_name(written).or_else(alias) {
                Some(dtype) => Ok(Some(dtype)),
                None => field.one_of(&DTYPES).map(|d| Some(d.value)),
            }
        }
    }
}
