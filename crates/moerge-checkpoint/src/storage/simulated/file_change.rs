//! Changes of a file on the simulated disk that no sync has made durable yet, and what a crash keeps of them.

#[derive(Clone)]
pub(super) enum FileChange {
    Write(u64, Vec<u8>),
    SetLen(u64),
}

impl FileChange {
    pub(super) fn apply(&self, content: &mut Vec<u8>) {
        match self {
            FileChange::SetLen(len) => content.resize(*len as usize, 0),
            FileChange::Write(offset, bytes) => {
                let start = *offset as usize;
                let end = start + bytes.len();
                content.resize(content.len().max(end), 0);
                content[start..end].copy_from_slice(bytes);
            }
        }
    }

    /// Keeps all, a part, or nothing of the change.
    pub(super) fn survive(self, content: &mut Vec<u8>, random: &mut Random) {
        match (random.below(3), self) {
            (0, _) => {}
            (1, FileChange::Write(offset, mut bytes)) => {
                bytes.truncate(random.below(bytes.len() as u64 + 1) as usize);
                FileChange::Write(offset, bytes).apply(content);
            }
            (_, change) => change.apply(content),
        }
    }
}

/// SplitMix64.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}
