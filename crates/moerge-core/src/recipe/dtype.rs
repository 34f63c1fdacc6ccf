//! The type of an output's weights.

use moerge_checkpoint::Dtype;

use super::fields::Field;
use crate::error::Result;

/// The types that an output may have.
const DTYPES: [Dtype; 3] = [Dtype::BF16, Dtype::F16, Dtype::F32];

/// The output's type; an empty string is mergekit's way to say none.
pub(super) fn dtype(field: Field) -> Result<Option<Dtype>> {
    match field.text()?.text.as_str() {
        "" => Ok(None),
        "float64" | "int64" | "torch.float64" | "torch.int64" => Err(field
            .wrong("`bfloat16`, `float16` or `float32`")
            .hint("`float32` is the widest type of weights; sums are taken in float64 whatever the type")),
        written => match Dtype::from_common_name(written) {
            Some(dtype) => Ok(Some(dtype)),
            None => {
                let table = DTYPES.map(|dtype| (dtype.torch_name().unwrap_or_default(), dtype));
                field.one_of(&table).map(|d| Some(d.value))
            }
        },
    }
}
