//! Upper bounds on the memory of a pass over prompts and of generation, from shapes alone: what [`super::stream`],
//! [`super::linear`], [`super::attention`], [`super::ffn`] and [`mod@super::token_scores`] hold at once.

use super::{
    activations::Activations,
    attention::QUERY_BLOCK,
    ffn::FFN_TOKENS,
    forward::head,
    kv_cache::KvCache,
    linear::{CHUNK_WEIGHTS, PART_PRODUCTS, chunk_rows, part_rows},
    matmul::{MATMUL_BYTES, PANEL_COLUMNS},
    quantised::Quantisation,
    resident::ResidentModel,
    stream, token_scores,
    weights::matrix_shape,
};
use moerge_core::model::families::{AttentionSpec, Description, LayerRole, Role, RoleTensor};

const F32: usize = 4;

/// An upper bound on the bytes of a pass over sequences of these `lengths` in tokens, with `weight_bytes` per stored
/// weight and `threads` threads.
pub fn pass_memory(description: &Description, lengths: &[usize], weight_bytes: usize, threads: usize) -> u64 {
    let options = &description.decoder;
    let columns = Activations::padded(lengths.iter().sum()).max(PANEL_COLUMNS);
    let longest = lengths.iter().copied().max().unwrap_or(0);
    let head = head(options);
    let is_streamed = |t: &&RoleTensor| matches!(t.role, Role::Layer(..)) || t.role == head;
    let streamed = || description.tensors.iter().filter(is_streamed).map(matrix_shape);

    let tile = streamed().map(|(rows, inputs)| rows.min(stream::tile_rows(inputs)) * inputs).max().unwrap_or(0);
    let tiles = stream::BUFFERS * tile * weight_bytes;

    let largest = |size: fn(&AttentionSpec) -> usize| {
        options.layers.iter().map(|layer| size(layer.attention())).max().unwrap_or(0)
    };
    let (hidden, q, kv) = (options.hidden, largest(AttentionSpec::q_width), largest(AttentionSpec::kv_width));
    let head_dim = largest(|spec| spec.head_dim);
    // Residual stream, its norm and the angles; q, k, v; and either the copies that attention makes and the mixed values,
    // or the mixed values, their panels and the result.
    let attention = 2 * hidden + head_dim + (q + 2 * kv) + q + (q + 2 * kv).max(q + hidden);
    // Residual stream and both norms; for a block of tokens, the intermediate activations twice, their panels, and
    // the result.
    let is_inner = |role: Role| {
        matches!(role, Role::Layer(_, LayerRole::Ffn(_) | LayerRole::Expert(..) | LayerRole::SharedExpert(_)))
    };
    let ffn_tensors = description.tensors.iter().filter(|t| is_inner(t.role)).map(matrix_shape);
    let widest = ffn_tensors.map(|(rows, inputs)| rows.max(inputs)).max().unwrap_or(0);
    let at_once = columns.min(Activations::padded(FFN_TOKENS));
    let gathered = if columns > at_once || options.experts().is_some() { 2 * hidden } else { 0 };
    let ffn = columns * (3 * hidden + head_dim + gathered) + at_once * (3 * widest + 2 * hidden);
    let activations = F32 * ffn.max(columns * attention);

    // A chunk of weights, and the part of the logits that it gives.
    let multiplied = streamed().map(|shape| chunk_rows(shape) * shape.1).max().unwrap_or(0);
    let multiplying = F32 * (multiplied + PART_PRODUCTS);
    // Parts of the logits that wait for those in front of them: a largest logit and a sum for each token.
    let (entries, inputs) = description.get(head).map(matrix_shape).unwrap_or_default();
    let scored = columns.min(token_scores::COLUMNS);
    let tile_rows = stream::tile_rows(inputs);
    let parts = entries.div_ceil(tile_rows) * tile_rows.div_ceil(part_rows((entries, inputs), scored));
    let waiting = parts * scored * (size_of::<f32>() + size_of::<f64>());
    // Scores and their panels, and the panels of a head's queries.
    let scoring = F32 * QUERY_BLOCK * (2 * longest + head_dim);
    let per_thread = MATMUL_BYTES + multiplying.max(scoring);
    (tiles + activations + waiting + threads * per_thread) as u64
}

/// An upper bound on the bytes of a resident model that generates a batch of sequences with these final `lengths` in
/// tokens, on a pool of `threads`. If `models` do so one after another, the allocator may keep the freed KV cache of each
/// pool thread that allocated one.
pub fn generation_memory(
    description: &Description,
    quantisation: Quantisation,
    lengths: &[usize],
    models: usize,
    threads: usize,
) -> u64 {
    let options = &description.decoder;
    let caches = models.clamp(1, threads) as u64;
    let remembered = caches * lengths.iter().map(|tokens| KvCache::bytes(options, *tokens)).sum::<u64>();
    let columns = Activations::padded(lengths.len());
    let widest = description.tensors.iter().map(matrix_shape).map(|(rows, inputs)| rows.max(inputs)).max().unwrap_or(0);
    // The logits and their sorted copies, or the widest product of a layer.
    let activations = F32 * columns * 4 * widest;
    // The f32 buffer that a matrix is quantised from or multiplied in.
    let scratch = (F32 * 2 * CHUNK_WEIGHTS).max(MATMUL_BYTES);
    ResidentModel::bytes(description, quantisation) + remembered + (activations + (threads + 1) * scratch) as u64
}
