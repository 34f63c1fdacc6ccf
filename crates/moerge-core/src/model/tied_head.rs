//! A head that is stored beside the embeddings that `config.json` ties it to. transformers 5 uses it, transformers 4
//! and llama.cpp's converter do not, so a folder whose head differs from the embeddings is two different models.

use moerge_checkpoint::{Checkpoint, TensorView};

use crate::{
    error::Result,
    model::{
        config::ModelConfig,
        families::{Description, Role},
    },
};

/// Number and bytes of the samples that are compared. A trained head differs everywhere.
const PIECES: u64 = 8;
const PIECE: u64 = 4096;

/// A warning about a head that differs from the embeddings it is tied to; `None` if there is no separate head or it is
/// a copy. `description` describes the model as stored in `checkpoint`.
///
/// # Errors
/// The weights cannot be read.
pub fn warning(checkpoint: &Checkpoint, config: &ModelConfig, description: &Description) -> Result<Option<String>> {
    if !config.tied_embeddings || description.decoder.tied_embeddings {
        return Ok(None);
    }
    let view = |role| description.get(role).and_then(|tensor| checkpoint.get(&tensor.name));
    let (Some(embeddings), Some(head)) = (view(Role::Embeddings), view(Role::LmHead)) else { return Ok(None) };
    if same_bytes(embeddings, head)? {
        return Ok(None);
    }
    Ok(Some(format!(
        "{} ties the head to the embeddings (tie_word_embeddings), but {} differs from them: it is used, as in \
         transformers 5; transformers 4 and llama.cpp ignore it",
        config.path.display(),
        head.name
    )))
}

/// Compares evenly spaced samples.
fn same_bytes(a: &TensorView, b: &TensorView) -> Result<bool> {
    if (a.dtype, a.len) != (b.dtype, b.len) {
        return Ok(false);
    }
    let len = PIECE.min(a.len);
    let (mut of_a, mut of_b) = (vec![0; len as usize], vec![0; len as usize]);
    for piece in 0..PIECES {
        let offset = (a.len - len) * piece / (PIECES - 1);
        a.read_at(offset, &mut of_a)?;
        b.read_at(offset, &mut of_b)?;
        if of_a != of_b {
            return Ok(false);
        }
    }
    Ok(true)
}
