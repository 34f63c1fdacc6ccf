//! YAML as a tree in which every node has its byte span.
//!
//! A recipe's errors point at the place they are about, so the tree is built from the parser's events, whose spans
//! survive aliases, nesting and untyped values (they are lost when going through serde). What a value means is not
//! decided here: a scalar is its text, and [`super::fields`] reads it as its key demands.
//!
//! Nothing in a file can make this allocate wildly: nesting, nodes and text are bounded, aliases included.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
};

use granit_parser::{Event, Parser, ScalarStyle, Tag};

use super::{located::Located, source::Source, yaml_error::syntax_error};
use crate::{
    error::{Error, Result},
    suggest::shorten,
};

/// Maximum nesting; a recipe has four levels.
const MAX_DEPTH: usize = 32;
/// Maximum number of nodes, including those that aliases repeat.
const MAX_NODES: usize = 1_000_000;
/// Maximum bytes of text, including those that aliases repeat.
const MAX_TEXT: usize = 64 << 20;

/// One value of the file.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Its byte span in the file.
    pub span: Range<usize>,
    /// Its kind and content.
    pub kind: Kind,
}

/// The three kinds of YAML values.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    /// A single value.
    Scalar(Scalar),
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order of the file.
    Map(Vec<Entry>),
}

/// A single value.
#[derive(Debug, Clone)]
pub(super) struct Scalar {
    /// Its text, escapes resolved.
    pub text: String,
    /// Whether it has no quotes, so that it may mean `null` or a number.
    pub plain: bool,
}

/// A key and its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// The key.
    pub key: Located<String>,
    /// The value.
    pub value: Node,
}

impl Node {
    /// Whether the value is absent: nothing after the colon, `~` or `null`.
    pub fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar(Scalar { text, plain: true })
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// What the value is, for messages.
    pub fn describe(&self) -> &'static str {
        match &self.kind {
            Kind::Scalar(_) if self.is_null() => "empty",
            Kind::Scalar(_) => "a single value",
            Kind::List(_) => "a list",
            Kind::Map(_) => "a mapping",
        }
    }
}

/// Parses a file of one document; `None` where it holds nothing but comments or a null.
pub(super) fn tree(source: &Source) -> Result<Option<Node>> {
    let mut documents = documents(source)?;
    match documents.get(1) {
        Some(second) => Err(source
            .error("the file holds several YAML documents, a recipe is one", second.span.clone(), "the second")
            .hint("put each recipe into a file of its own")),
        None => Ok(documents.pop()),
    }
}

/// Parses a file into its documents, without those that hold nothing but comments or a null.
pub(super) fn documents(source: &Source) -> Result<Vec<Node>> {
    let options = granit_parser::options! {
        emit_comments: false,
        flow_nesting_limit: MAX_DEPTH,
        block_nesting_limit: MAX_DEPTH,
        // As PyYAML reads a block scalar at the end of a file.
        block_scalar_eof_without_line_feed: true,
    };
    let mut builder = Builder {
        source,
        open: Vec::new(),
        root: None,
        anchors: HashMap::new(),
        budget: Budget { nodes: MAX_NODES, text: MAX_TEXT },
    };
    let mut documents = Vec::new();
    for event in Parser::new_from_str_with_options(source.text, options) {
        let (event, place) = event.map_err(|e| syntax_error(source, &e))?;
        let end = source.text.len();
        let span = place.byte_range().unwrap_or(end..end);
        if let Some(tag) = event.tag() {
            let at = place.tag_span().and_then(|s| s.byte_range()).unwrap_or(span.clone());
            check_tag(source, &event, tag, at)?;
        }
        match event {
            Event::DocumentStart(..) => {
                documents.extend(builder.root.take());
                builder.anchors.clear();
            }
            Event::Scalar(text, style, anchor, tag) => {
                let plain = style == ScalarStyle::Plain;
                // The parser gives `~` as the text of a value that is not there.
                let text = if plain && span.is_empty() { String::new() } else { text.into_owned() };
                let is_text = tag.is_some_and(|t| t.core_suffix() == Some("str"));
                builder.add(Node { span, kind: Kind::Scalar(Scalar { text, plain: plain && !is_text }) }, anchor)?;
            }
            Event::SequenceStart(_, anchor, _) => builder.open(Kind::List(Vec::new()), anchor, span),
            Event::MappingStart(_, anchor, _) => builder.open(Kind::Map(Vec::new()), anchor, span),
            Event::SequenceEnd | Event::MappingEnd => builder.close(span)?,
            Event::Alias(anchor) => builder.alias(anchor, span)?,
            _ => {}
        }
    }
    documents.extend(builder.root);
    documents.retain(|root| !root.is_null());
    Ok(documents)
}

/// A list or mapping that is still open.
struct Open {
    span: Range<usize>,
    kind: Kind,
    anchor: usize,
    /// A key whose value has not been read yet.
    key: Option<Located<String>>,
}

struct Builder<'a> {
    source: &'a Source<'a>,
    open: Vec<Open>,
    root: Option<Node>,
    anchors: HashMap<usize, Node>,
    budget: Budget,
}

impl Builder<'_> {
    fn open(&mut self, kind: Kind, anchor: usize, span: Range<usize>) {
        self.open.push(Open { span, kind, anchor, key: None });
    }

    fn close(&mut self, end: Range<usize>) -> Result<()> {
        let Some(done) = self.open.pop() else { return Ok(()) };
        let span = done.span.start..end.end.max(done.span.end);
        let kind = match done.kind {
            Kind::Map(entries) => Kind::Map(self.merge(entries)?),
            other => other,
        };
        self.add(Node { span, kind }, done.anchor)
    }

    fn alias(&mut self, anchor: usize, span: Range<usize>) -> Result<()> {
        let Some(target) = self.anchors.get(&anchor) else {
            return Err(self.source.error("an alias cannot be inside of what it names", span, ""));
        };
        // Counted before it is allocated.
        if !self.budget.take(target, self.open.len()) {
            return Err(self.too_large(span));
        }
        let copy = target.clone();
        self.place(copy)
    }

    /// Adds a complete node. Its parts were counted when they were added.
    fn add(&mut self, node: Node, anchor: usize) -> Result<()> {
        let text = match &node.kind {
            Kind::Scalar(scalar) => scalar.text.len(),
            _ => 0,
        };
        if !self.budget.take_one(text) {
            return Err(self.too_large(node.span));
        }
        if anchor != 0 {
            if !self.budget.take(&node, self.open.len()) {
                return Err(self.too_large(node.span));
            }
            self.anchors.insert(anchor, node.clone());
        }
        self.place(node)
    }

    /// Adds a node as the root, the next element of a list, a key, or a value.
    fn place(&mut self, node: Node) -> Result<()> {
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match (&mut parent.kind, parent.key.take()) {
            (Kind::List(items), _) => items.push(node),
            (Kind::Map(entries), Some(key)) => entries.push(Entry { key, value: node }),
            (_, None) => match node.kind {
                Kind::Scalar(scalar) => parent.key = Some(Located { value: scalar.text, span: node.span }),
                _ => {
                    return Err(self.source.error(
                        format!("a key is {}, expected a name", node.describe()),
                        node.span,
                        "keys are names like `base_model`",
                    ));
                }
            },
            (Kind::Scalar(_), Some(_)) => {}
        }
        Ok(())
    }

    /// Resolves YAML 1.1's merge key: the entries of `<<: *defaults` stand for those the mapping does not have.
    fn merge(&mut self, entries: Vec<Entry>) -> Result<Vec<Entry>> {
        let (merges, mut own): (Vec<_>, Vec<_>) = entries.into_iter().partition(|e| e.key.value == "<<");
        if merges.is_empty() {
            return Ok(own);
        }
        let mut known: HashSet<String> = own.iter().map(|e| e.key.value.clone()).collect();
        for merge in merges {
            let maps = match merge.value.kind {
                Kind::List(items) => items,
                _ => vec![merge.value],
            };
            for map in maps {
                let Kind::Map(entries) = map.kind else {
                    return Err(self.source.error(
                        format!("`<<` is {}, expected a mapping", map.describe()),
                        map.span,
                        "name a mapping here: `*defaults`",
                    ));
                };
                for entry in entries {
                    if known.insert(entry.key.value.clone()) {
                        own.push(entry);
                    }
                }
            }
        }
        Ok(own)
    }

    fn too_large(&self, span: Range<usize>) -> Error {
        let limits = format!("{MAX_NODES} values, {} MiB, {} levels", MAX_TEXT >> 20, 2 * MAX_DEPTH);
        self.source
            .error("the recipe grows too large here", span, format!("beyond {limits}"))
            .hint("put thousands of prompts into a `positive_prompts_file`; use fewer aliases (`*name`)")
    }
}

/// Refuses tags other than YAML's own, each on what it may stand on; `!include` and Python's objects are none.
fn check_tag(source: &Source, event: &Event, tag: &Tag, span: Range<usize>) -> Result<()> {
    let allowed: &[&str] = match event {
        Event::SequenceStart(..) => &["seq"],
        Event::MappingStart(..) => &["map"],
        _ => &["str", "int", "float", "bool", "null"],
    };
    if tag.core_suffix().is_some_and(|suffix| allowed.contains(&suffix)) {
        return Ok(());
    }
    let message = format!("the tag `{}` means nothing here", shorten(&tag.original()));
    Err(source.error(message, span, "").hint("a string that begins with `!` needs quotes"))
}

/// How much more a file may allocate.
struct Budget {
    nodes: usize,
    text: usize,
}

impl Budget {
    /// Takes one node with this much text.
    fn take_one(&mut self, text: usize) -> bool {
        match (self.nodes.checked_sub(1), self.text.checked_sub(text)) {
            (Some(nodes), Some(text)) => {
                (self.nodes, self.text) = (nodes, text);
                true
            }
            _ => false,
        }
    }

    /// Takes a node that will stand `depth` levels deep, with all below it. Aliases could nest without end where the
    /// parser sees only short lists, so the depth is checked here too, and with it that of every recursion on a node.
    fn take(&mut self, node: &Node, depth: usize) -> bool {
        let fits = depth <= 2 * MAX_DEPTH;
        match &node.kind {
            Kind::Scalar(scalar) => self.take_one(scalar.text.len()),
            Kind::List(items) => fits && self.take_one(0) && items.iter().all(|n| self.take(n, depth + 1)),
            Kind::Map(entries) => {
                let mut take = |e: &Entry| self.take_one(e.key.value.len()) && self.take(&e.value, depth + 1);
                fits && entries.iter().all(&mut take) && self.take_one(0)
            }
        }
    }
}
