//! Errors of the YAML syntax: the parser's reason in terms of someone who writes a recipe.

use granit_parser::{ErrorKind, ScanError};

use super::source::Source;
use crate::error::Error;

/// The parser's error, pointing at where it stopped.
pub(super) fn syntax_error(source: &Source, error: &ScanError) -> Error {
    use ErrorKind as E;
    let tab = ("a tab in the indentation", "YAML indents with spaces; put spaces in the tab's place");
    let (message, hint) = match error.kind() {
        E::TabNotAllowed
        | E::TabInBlockIndentation
        | E::TabInIndentation
        | E::TabAtBlockScalarStart
        | E::TabInPlainScalar => tab,
        // The parser gives many reasons for a tab at the beginning of a line; the tab itself is the clearest.
        _ if begins_with_tab(source, error) => tab,
        E::UnclosedQuotedScalar | E::DocumentIndicatorInQuotedScalar => {
            ("a quote is opened here and never closed", "a string with a quote in it: 'it''s' or \"say \\\"hi\\\"\"")
        }
        E::UnclosedFlowCollection { .. } | E::UnexpectedEofFlowSequence | E::UnexpectedEofFlowMapping => {
            ("a bracket is opened here and never closed", "close it with `]` or `}`")
        }
        E::MismatchedFlowCollectionEnd { .. } | E::MisplacedFlowCollectionEnd => {
            ("this bracket closes none that is open", "`[` closes with `]`, `{` with `}`")
        }
        E::ExpectedFlowSequenceSeparator | E::ExpectedFlowMappingSeparator => {
            ("a comma or a closing bracket is missing here", "elements between brackets are separated by commas")
        }
        E::MappingValueNotAllowed | E::InvalidMappingValueWhitespace => (
            "a `:` where no key can be",
            "a string with `: ` in it needs quotes; otherwise compare the indentation with the line above",
        ),
        E::InvalidColonPlacement => ("a `:` where no key can be", "is a `]` or `}` missing in a line above?"),
        E::SimpleKeyExpected | E::InvalidSimpleKey => {
            ("a line that is neither `key: value` nor part of the value above", "is a `:` or a `- ` missing?")
        }
        E::ExpectedBlockMappingKey
        | E::ExpectedBlockSequenceEntry
        | E::BlockSequenceEntryNotAllowed
        | E::InvalidIndentation
        | E::InvalidBlockScalarIndent => {
            ("the indentation does not fit the lines above", "keys of one mapping begin in the same column")
        }
        E::UnknownAnchor => ("no `&name` before this alias", "a string that begins with `*` needs quotes"),
        E::UnexpectedCharacter { .. } | E::PlainScalarStartsWithDashFlowIndicator | E::InvalidDirectiveName => {
            ("a string cannot begin with this character", "put the string in quotes")
        }
        E::InvalidTrailingSingleQuotedScalar | E::InvalidTrailingDoubleQuotedScalar => (
            "there is more after the closing quote",
            "is a comma missing? In single quotes a quote is written twice: 'it''s'",
        ),
        E::UnknownQuotedScalarEscape => {
            ("an escape that YAML does not know", "in double quotes a backslash is written \\\\; single quotes keep it")
        }
        E::RecursionLimitExceeded => ("brackets or lists within lists, too deep for a recipe", ""),
        _ => ("this is not valid YAML", ""),
    };
    let start = error.marker().byte_offset().unwrap_or(source.text.len()).min(source.text.len());
    let width = source.text.get(start..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8);
    let error = source.error(
        message,
        start..start + width,
        if hint.is_empty() { error.kind().to_string() } else { String::new() },
    );
    if hint.is_empty() { error } else { error.hint(hint) }
}

/// Whether the line on which the parser stopped is indented with a tab.
fn begins_with_tab(source: &Source, error: &ScanError) -> bool {
    let line = source.text.lines().nth(error.marker().line().saturating_sub(1)).unwrap_or_default();
    line.trim_start_matches(' ').starts_with('\t') && !line.trim_start().is_empty()
}
