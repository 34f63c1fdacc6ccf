//! Types of tokens (`llama_token_type`).

/// A piece of text.
pub const NORMAL: i32 = 1;
/// What stands for text that the vocabulary cannot say.
pub const UNKNOWN: i32 = 2;
/// A mark, such as the end of a text.
pub const CONTROL: i32 = 3;
/// A piece of text that is found before anything is split.
pub const USER_DEFINED: i32 = 4;
/// An id without a token.
pub const UNUSED: i32 = 5;
/// A byte of text that no other token says.
pub const BYTE: i32 = 6;
