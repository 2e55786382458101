//! Events → tree. No recursion, so that depth costs no stack.

use std::collections::HashMap;
use std::sync::Arc;

use granit_parser::{Event, Marker, Parser, ScalarStyle, ScanError, StrInput, StructureStyle};

use super::scalar::{self, Typed};
use super::{Document, Entry, Limits, Map, Node, Style, Tag, Value};
use crate::problem::{Problem, ProblemKind};
use crate::source::{Position, Source, Span};
use crate::suggest::nearest;

mod map;
mod syntax;

use map::{KeyId, MapBuilder, merge_sources};

/// Prefix of the tags of YAML itself, written `!!`.
const CORE: &str = "tag:yaml.org,2002:";

/// Problems beyond this many are not collected: nobody reads them.
const MOST_PROBLEMS: usize = 100;

/// What a text came to.
#[derive(Debug, Clone, Default)]
pub struct Composed {
    /// Documents that could be read, in order.
    pub documents: Vec<Document>,
    /// Why the file cannot be used; empty if it can.
    pub problems: Vec<Problem>,
    /// What may surprise.
    pub warnings: Vec<Problem>,
}

/// Reads all documents of a file. Never panics; time and memory are bounded by the length of the
/// text and [`Limits`].
pub fn compose(source: &Source, limits: &Limits) -> Composed {
    let mut composer = Composer::new(source, limits);
    if source.text().len() > limits.bytes {
        let message = format!(
            "the file has {} bytes, more than the {} that a pipeline may have",
            source.text().len(),
            limits.bytes
        );
        composer.problem(Problem::new(
            source,
            ProblemKind::Limit,
            source.span_at(0),
            message,
        ));
        return composer.out;
    }
    let options = granit_parser::options! {
        // As libyaml, on which GitLab's parser stands.
        block_scalar_eof_without_line_feed: true,
        // So that one unknown alias does not hide other problems.
        emit_unresolved_aliases: true,
        emit_anchor_events: true,
        emit_comments: false,
    };
    let mut parser = Parser::<StrInput<'_>>::new_from_str_with_options(source.text(), options);
    while let Some(next) = parser.next_event() {
        let stop = match next {
            Ok((event, span)) => composer.event(event, &span),
            Err(error) => composer.syntax(&error),
        };
        if stop.is_err() {
            break;
        }
    }
    composer.out
}

/// The text is not worth reading on; the reason is in the problems.
struct Stop;

/// A collection whose end has not come.
struct Open {
    tag: Option<Tag>,
    style: Style,
    anchor: usize,
    start: Span,
    content: Content,
}

enum Content {
    Seq(Vec<Arc<Node>>),
    Map(MapBuilder),
}

/// A finished node, and whether it was written as an alias.
struct Finished {
    node: Arc<Node>,
    alias: bool,
}

struct Composer<'a> {
    source: &'a Source,
    limits: &'a Limits,
    out: Composed,
    open: Vec<Open>,
    document: Option<Span>,
    root: Option<Arc<Node>>,
    /// Finished anchors by id.
    anchors: HashMap<usize, Arc<Node>>,
    anchor_names: Vec<String>,
    /// Entries copied by merge keys so far.
    merged: usize,
}

impl<'a> Composer<'a> {
    fn new(source: &'a Source, limits: &'a Limits) -> Self {
        Self {
            source,
            limits,
            out: Composed::default(),
            open: Vec::new(),
            document: None,
            root: None,
            anchors: HashMap::new(),
            anchor_names: Vec::new(),
            merged: 0,
        }
    }

    fn problem(&mut self, problem: Problem) {
        if self.out.problems.len() < MOST_PROBLEMS {
            self.out.problems.push(problem);
        }
    }

    fn warn(&mut self, problem: Problem) {
        if self.out.warnings.len() < MOST_PROBLEMS {
            self.out.warnings.push(problem.warning());
        }
    }

    fn at(&self, kind: ProblemKind, span: Span, message: impl Into<String>) -> Problem {
        Problem::new(self.source, kind, span, message)
    }

    fn syntax(&mut self, error: &ScanError) -> Result<(), Stop> {
        let problem = syntax::problem(self.source, error);
        self.problem(problem);
        Err(Stop)
    }

    fn event(&mut self, event: Event<'_>, span: &granit_parser::Span) -> Result<(), Stop> {
        match event {
            Event::DocumentStart(..) => {
                self.document = Some(self.span(span));
                self.anchors.clear();
                self.anchor_names.clear();
                Ok(())
            }
            Event::DocumentEnd => {
                if let Some(root) = self.root.take() {
                    let span = self.document.take().unwrap_or(root.span);
                    self.out.documents.push(Document { root, span });
                }
                Ok(())
            }
            Event::Anchor(_, name) => {
                self.anchor_names.push(name.into_owned());
                Ok(())
            }
            Event::Alias(id) => self.alias(id, self.span(span)),
            Event::UnresolvedAlias(name) => self.unresolved(&name, self.span(span)),
            Event::Scalar(text, style, anchor, tag) => {
                let tag = tag.map(|tag| self.tag(&tag, span));
                let style = scalar_style(style);
                let span = self.scalar_span(span, style);
                self.check_indentation(span);
                let value = self.scalar(&text, style, tag.as_ref(), span);
                self.finish(Node::new(value, tag, span, style), anchor)
            }
            Event::SequenceStart(style, anchor, tag) => {
                let tag = tag.map(|tag| self.tag(&tag, span));
                self.begin(Content::Seq(Vec::new()), style, anchor, tag, span)
            }
            Event::MappingStart(style, anchor, tag) => {
                let tag = tag.map(|tag| self.tag(&tag, span));
                self.begin(
                    Content::Map(MapBuilder::default()),
                    style,
                    anchor,
                    tag,
                    span,
                )
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(span),
            // Stream start and end, and events of later versions that carry no node.
            _ => Ok(()),
        }
    }

    fn begin(
        &mut self,
        content: Content,
        style: StructureStyle,
        anchor: usize,
        tag: Option<Tag>,
        span: &granit_parser::Span,
    ) -> Result<(), Stop> {
        let start = self.span(span);
        if let Some(tag) = &tag {
            self.check_collection_tag(tag);
        }
        if style == StructureStyle::Flow {
            self.check_indentation(start);
        }
        if self.open.len() >= self.limits.depth {
            return self.too_deep(start);
        }
        let style = match style {
            StructureStyle::Block => Style::Block,
            StructureStyle::Flow => Style::Flow,
        };
        self.open.push(Open {
            tag,
            style,
            anchor,
            start,
            content,
        });
        Ok(())
    }

    fn end(&mut self, span: &granit_parser::Span) -> Result<(), Stop> {
        let Some(open) = self.open.pop() else {
            return Ok(());
        };
        let (value, last) = match open.content {
            Content::Seq(items) => {
                let last = items.last().map(|item| item.span);
                (Value::Seq(items), last)
            }
            Content::Map(map) => {
                let last = map.entries.iter().map(|entry| entry.value.span).max();
                (Value::Map(Map::from_unique(map.entries)), last)
            }
        };
        // A block ends where its last item does; the event stands before the next token.
        let end = match open.style {
            Style::Flow => self.span(span),
            _ => last
                .filter(|last| last.start >= open.start.start)
                .unwrap_or(open.start),
        };
        self.finish(
            Node::new(value, open.tag, open.start.to(end), open.style),
            open.anchor,
        )
    }

    fn finish(&mut self, node: Node, anchor: usize) -> Result<(), Stop> {
        let node = Arc::new(node);
        if anchor > 0 {
            self.anchors.insert(anchor, Arc::clone(&node));
        }
        self.place(Finished { node, alias: false })
    }

    fn alias(&mut self, id: usize, span: Span) -> Result<(), Stop> {
        if let Some(node) = self.anchors.get(&id) {
            let node = Arc::clone(node);
            return self.place(Finished { node, alias: true });
        }
        let problem = self
            .at(
                ProblemKind::Undefined,
                span,
                "an alias stands inside the anchor it refers to",
            )
            .help("a node cannot contain itself");
        self.problem(problem);
        self.place_null(span)
    }

    fn unresolved(&mut self, name: &str, span: Span) -> Result<(), Stop> {
        let help = match nearest(name, self.anchor_names.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `*{near}`?"),
            None => {
                format!("an anchor `&{name}` must stand before it, in the same file and document")
            }
        };
        let problem = self
            .at(
                ProblemKind::Undefined,
                span,
                format!("unknown alias `*{name}`"),
            )
            .label("no such anchor before this")
            .help(help);
        self.problem(problem);
        self.place_null(span)
    }

    fn place_null(&mut self, span: Span) -> Result<(), Stop> {
        let node = Arc::new(Node::new(Value::Null, None, span, Style::Plain));
        self.place(Finished { node, alias: true })
    }

    /// Puts a finished node where it belongs: into the innermost open collection.
    fn place(&mut self, finished: Finished) -> Result<(), Stop> {
        let node = &finished.node;
        if node.size() > self.limits.nodes {
            let problem = self
                .at(
                    ProblemKind::Limit,
                    node.span,
                    format!(
                        "written out, this has more than {} nodes",
                        self.limits.nodes
                    ),
                )
                .help("aliases and merge keys repeat too much here");
            self.problem(problem);
            return Err(Stop);
        }
        if node.depth() + self.open.len() > self.limits.depth {
            return self.too_deep(node.span);
        }
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.root = Some(finished.node),
            Some(Content::Seq(items)) => items.push(finished.node),
            Some(Content::Map(map)) => match map.key.take() {
                None => map.key = Some(finished.node),
                Some(key) => return self.entry(&key, finished),
            },
        }
        Ok(())
    }

    fn entry(&mut self, key: &Arc<Node>, value: Finished) -> Result<(), Stop> {
        let is_merge = key.as_str() == Some("<<")
            && key
                .tag_name()
                .is_none_or(|name| name.strip_prefix(CORE) != Some("str"));
        if let Some(maps) = is_merge.then(|| merge_sources(&value)).flatten() {
            return self.merge(key, &maps);
        }
        if key.is_null() && key.span.start == key.span.end {
            let problem = self
                .at(
                    ProblemKind::Syntax,
                    key.span,
                    "not YAML: a key is missing before the colon",
                )
                .label("nothing before the colon");
            self.problem(problem);
            return Ok(());
        }
        if KeyId::of(key).is_none() {
            let message = format!("a key must be text, not {}", key.what());
            let problem = self
                .at(ProblemKind::Type, key.span, message)
                .help("put the key in quotes");
            self.problem(problem);
            return Ok(());
        }
        let Some(map) = self.innermost_map() else {
            return Ok(());
        };
        let old = map.set(Entry {
            key: Arc::clone(key),
            value: value.node,
            merged_at: None,
        });
        if let Some(old) = old.filter(|old| old.merged_at.is_none()) {
            let message = format!("`{}` is given twice", key.to_text().unwrap_or_default());
            let problem = self
                .at(ProblemKind::Duplicate, key.span, message)
                .label(format!(
                    "replaces the one of line {}",
                    old.key.span.start.line
                ))
                .help("the last one wins; remove the other");
            self.warn(problem);
        }
        Ok(())
    }

    /// Copies the entries of `maps` into the innermost map, as `<<` does.
    fn merge(&mut self, key: &Node, maps: &[&Map]) -> Result<(), Stop> {
        // The earlier map of a list wins, so the later ones go in first.
        let mut together = MapBuilder::default();
        for map in maps.iter().rev() {
            self.merged = self.merged.saturating_add(map.entries().len());
            if self.merged > self.limits.nodes {
                let problem = self
                    .at(ProblemKind::Limit, key.span, "merge keys copy too much")
                    .help("use fewer merge keys on large maps");
                self.problem(problem);
                return Err(Stop);
            }
            for entry in map.entries() {
                together.set(Entry {
                    merged_at: Some(key.span),
                    ..entry.clone()
                });
            }
        }
        let Some(map) = self.innermost_map() else {
            return Ok(());
        };
        let mut covered = Vec::new();
        for entry in together.entries {
            let name = entry.key.to_text().unwrap_or_default();
            if map.set(entry).is_some_and(|old| old.merged_at.is_none()) {
                covered.push(format!("`{name}`"));
            }
        }
        if !covered.is_empty() {
            let message = format!(
                "`<<` overwrites {} that stands before it",
                covered.join(", ")
            );
            let problem = self
                .at(ProblemKind::Duplicate, key.span, message)
                .label("the merged value wins, as in GitLab")
                .help("put `<<` first in the map, so that the keys after it win");
            self.warn(problem);
        }
        Ok(())
    }

    fn innermost_map(&mut self) -> Option<&mut MapBuilder> {
        match self.open.last_mut().map(|open| &mut open.content) {
            Some(Content::Map(map)) => Some(map),
            _ => None,
        }
    }

    fn too_deep(&mut self, span: Span) -> Result<(), Stop> {
        let problem = self
            .at(
                ProblemKind::Limit,
                span,
                format!("nested more than {} levels deep", self.limits.depth),
            )
            .label("one level too many");
        self.problem(problem);
        Err(Stop)
    }

    fn scalar(&mut self, text: &str, style: Style, tag: Option<&Tag>, span: Span) -> Value {
        let name = tag.map(|tag| tag.name.as_str());
        let core = name.and_then(|name| name.strip_prefix(CORE));
        let typed = match (name, core) {
            (None, _) if style != Style::Plain => return Value::Str(text.to_owned()),
            (Some("!str"), _) | (_, Some("str")) => return Value::Str(text.to_owned()),
            (Some(name), _) if refused_tag(name) || core == Some("binary") => {
                self.refuse_tag(tag);
                return Value::Null;
            }
            _ => scalar::resolve(text),
        };
        let (what, value) = match typed {
            Typed::Value(value) if core == Some("float") || name == Some("!float") => {
                match as_float(&value) {
                    Some(value) => return Value::Float(value),
                    None => ("no number", value),
                }
            }
            Typed::Value(value) => return value,
            Typed::Date => ("a date", Value::Str(text.to_owned())),
            Typed::Time => ("a time", Value::Str(text.to_owned())),
        };
        let problem = self
            .at(
                ProblemKind::Scalar,
                span,
                format!("`{text}` is {what}, which GitLab refuses"),
            )
            .label("read as text only in quotes")
            .help(format!("write \"{text}\""));
        self.problem(problem);
        value
    }

    fn check_collection_tag(&mut self, tag: &Tag) {
        let core = tag.name.strip_prefix(CORE);
        if refused_tag(&tag.name) || matches!(core, Some("set" | "omap" | "binary" | "timestamp")) {
            self.refuse_tag(Some(tag));
        }
    }

    fn refuse_tag(&mut self, tag: Option<&Tag>) {
        let Some(tag) = tag else { return };
        let name = match tag.name.strip_prefix(CORE) {
            Some(core) => format!("!!{core}"),
            None => tag.name.clone(),
        };
        let problem = self.at(
            ProblemKind::Scalar,
            tag.span,
            format!("the tag `{name}` is not allowed"),
        );
        self.problem(problem);
    }

    /// Refuses a tab where libyaml does and YAML 1.2 does not: before a node that begins a line or
    /// follows a dash.
    fn check_indentation(&mut self, span: Span) {
        let in_flow = self
            .open
            .last()
            .is_some_and(|open| open.style == Style::Flow);
        let before = self
            .source
            .text()
            .as_bytes()
            .get(..span.start.byte)
            .unwrap_or_default();
        let blanks = before
            .iter()
            .rev()
            .take_while(|byte| matches!(byte, b' ' | b'\t'))
            .count();
        let (before, blanks) = before.split_at(before.len() - blanks);
        let indents = matches!(before.last(), None | Some(b'\n' | b'-'));
        if in_flow || span.start == span.end || !indents {
            return;
        }
        if let Some(tab) = blanks.iter().position(|byte| *byte == b'\t') {
            let place = self.source.span_at(before.len() + tab);
            let problem = self
                .at(
                    ProblemKind::Syntax,
                    place,
                    "not YAML: a tab in the indentation",
                )
                .label("this tab")
                .help("indent with spaces, not with tabs");
            self.problem(problem);
        }
    }

    fn tag(&self, tag: &granit_parser::Tag, span: &granit_parser::Span) -> Tag {
        let place = match span.tag_span() {
            Some(span) => self.span(&span),
            None => self.span(span),
        };
        Tag {
            name: format!("{}{}", tag.handle(), tag.suffix()),
            span: place,
        }
    }

    fn span(&self, span: &granit_parser::Span) -> Span {
        Span {
            source: self.source.id(),
            start: position(&span.start),
            end: position(&span.end).max(position(&span.start)),
        }
    }

    /// A block scalar's event runs into the next line's indent; its span does not.
    fn scalar_span(&self, span: &granit_parser::Span, style: Style) -> Span {
        let mut place = self.span(span);
        if !matches!(style, Style::Literal | Style::Folded) {
            return place;
        }
        let Some(text) = self.source.text().get(place.start.byte..place.end.byte) else {
            return place;
        };
        let kept = text.trim_end();
        let lines = kept.matches('\n').count();
        let last_line = kept.rsplit('\n').next().unwrap_or_default().chars().count();
        place.end = Position {
            byte: place.start.byte + kept.len(),
            line: place.start.line + lines,
            column: if lines == 0 {
                place.start.column + last_line
            } else {
                last_line + 1
            },
        };
        place
    }
}

/// Tags that would make objects of the server's language.
fn refused_tag(name: &str) -> bool {
    name.starts_with("!ruby/") || name.starts_with("!struct") || name == "!binary"
}

#[expect(clippy::cast_precision_loss, reason = "as Ruby's Float() does")]
fn as_float(value: &Value) -> Option<f64> {
    match value {
        Value::Float(value) => Some(*value),
        Value::Int(value) => Some(*value as f64),
        Value::BigInt(digits) => digits.parse().ok(),
        _ => None,
    }
}

fn scalar_style(style: ScalarStyle) -> Style {
    match style {
        ScalarStyle::SingleQuoted => Style::SingleQuoted,
        ScalarStyle::DoubleQuoted => Style::DoubleQuoted,
        ScalarStyle::Literal => Style::Literal,
        ScalarStyle::Folded => Style::Folded,
        _ => Style::Plain,
    }
}

fn position(mark: &Marker) -> Position {
    Position {
        byte: mark.byte_offset().unwrap_or_default(),
        line: mark.line(),
        column: mark.col() + 1,
    }
}
