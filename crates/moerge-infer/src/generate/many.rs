//! Continues many sequences at once: each step reads every weight once and appends a token to each sequence. A sequence
//! that has ended makes room for the next prompt.

use crate::decoder::{Activations, KvCache, Observer, ResidentModel};
use moerge_core::{error::Result, progress::Progress};

/// How much of the work is done in one step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Together {
    /// Sequences in progress.
    pub sequences: usize,
    /// No further prompt begins in a step that reads this many tokens of prompts.
    pub prompt_tokens: usize,
}

/// A sequence in progress.
struct Sequence {
    /// The index of its prompt.
    number: usize,
    /// What the model has not read yet.
    next: Vec<u32>,
}

/// Gets the indices of the prompts whose sequences are in progress, and the logits `[vocabulary, sequences]` of their next
/// tokens. Gives these tokens, and `None` for a sequence that has ended.
pub(super) type Choose<'a> = dyn FnMut(&[usize], &Activations) -> Result<Vec<Option<u32>>> + 'a;

/// Continues each of `prompts` by what `choose` says in every step.
pub(super) fn continue_many(
    model: &ResidentModel,
    prompts: &[&[u32]],
    together: Together,
    observer: &mut (dyn Observer + Send),
    progress: &dyn Progress,
    choose: &mut Choose<'_>,
) -> Result<()> {
    let count = together.sequences.min(prompts.len());
    let mut cache = KvCache::new(model.options(), count);
    let mut slots: Vec<Option<Sequence>> = (0..count).map(|_| None).collect();
    let mut waiting = (0..prompts.len()).peekable();
    loop {
        let mut new_tokens = 0;
        for (slot, sequence) in slots.iter_mut().enumerate().filter(|(_, sequence)| sequence.is_none()) {
            let Some(number) = waiting.next_if(|_| new_tokens < together.prompt_tokens) else { break };
            new_tokens += prompts[number].len();
            cache.truncate(slot, 0);
            *sequence = Some(Sequence { number, next: prompts[number].to_vec() });
        }
        let active = || slots.iter().enumerate().filter_map(|(slot, sequence)| Some((slot, sequence.as_ref()?)));
        let next: Vec<(usize, &[u32])> = active().map(|(slot, sequence)| (slot, &sequence.next[..])).collect();
        if next.is_empty() {
            return Ok(());
        }
        let scores = model.step(&mut cache, &next, observer, progress)?;
        let numbers: Vec<usize> = active().map(|(_, sequence)| sequence.number).collect();
        let chosen = choose(&numbers, &scores)?;
        for (slot, token) in slots.iter_mut().filter(|slot| slot.is_some()).zip(chosen) {
            match (slot.as_mut(), token) {
                (Some(sequence), Some(token)) => sequence.next = vec![token],
                _ => *slot = None,
            }
        }
    }
}
