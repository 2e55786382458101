//! Moa, the expression language of `${{ … }}` (public reference: GitLab's documentation, `ci/functions/moa`).
//!
//! A text is a template: pieces of text and expressions between `${{` and `}}`. Nothing is converted by itself: where text stands
//! around an expression, the expression has to give a string, else it is an error (job-lifecycle §1.6). A text that is one
//! expression and nothing else may give anything.

use std::fmt;

mod eval;
mod parse;
mod value;

#[cfg(test)]
mod tests;

pub use value::{Kind, Value};

/// Opens an expression.
const OPEN: &str = "${{";

/// Bytes one result may have.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// Why a text could not be evaluated. Shows names and places, no values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} (at character {position})")]
pub struct MoaError {
    /// What is wrong.
    pub message: String,
    /// Where, counted in characters from 1.
    pub position: usize,
}

/// An operator between two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Binary {
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

impl Binary {
    fn symbol(self) -> &'static str {
        match self {
            Self::Or => "||",
            Self::And => "&&",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
        }
    }
}

impl fmt::Display for Binary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.symbol())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unary {
    Plus,
    Minus,
    Not,
}

/// An expression with its place.
#[derive(Debug)]
struct Expression {
    at: usize,
    node: Node,
}

#[derive(Debug)]
enum Node {
    Literal(Value),
    /// Text and expressions in turn.
    Template(Vec<Piece>),
    Identifier(String),
    Select(Box<Expression>, Box<Expression>),
    Call(String, Vec<Expression>),
    Unary(Unary, Box<Expression>),
    Binary(Binary, Box<Expression>, Box<Expression>),
    Array(Vec<Expression>),
    Object(Vec<(Expression, Expression)>),
}

#[derive(Debug)]
enum Piece {
    Text(String),
    Expression(Expression),
}

/// Evaluates a template. `root` is the object in which identifiers are looked up.
///
/// # Errors
/// If the text is no template, or an expression in it cannot be evaluated.
pub fn evaluate(text: &str, root: &Value) -> Result<Value, MoaError> {
    if !text.contains(OPEN) {
        return Ok(Value::string(text));
    }
    let pieces = parse::template(text)?;
    eval::template(&pieces, root)
}
