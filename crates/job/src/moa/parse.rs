//! The grammar.

use super::value::Data;
use super::{Binary, Expression, MoaError, Node, OPEN, Piece, Unary, Value};

/// How deep expressions may be nested: each level takes the program's stack.
const MAX_DEPTH: usize = 64;

/// Words that are no identifiers.
const RESERVED: [&str; 34] = [
    "array",
    "as",
    "break",
    "case",
    "const",
    "continue",
    "default",
    "else",
    "fallthrough",
    "float",
    "for",
    "func",
    "function",
    "goto",
    "if",
    "import",
    "in",
    "int",
    "let",
    "loop",
    "map",
    "namespace",
    "number",
    "object",
    "package",
    "range",
    "return",
    "string",
    "struct",
    "switch",
    "type",
    "var",
    "void",
    "while",
];

/// Binary operators by precedence, the weakest first; longer symbols before their beginnings.
const OPERATORS: [&[Binary]; 5] = [
    &[Binary::Or],
    &[Binary::And],
    &[
        Binary::Equal,
        Binary::NotEqual,
        Binary::LessOrEqual,
        Binary::GreaterOrEqual,
        Binary::Less,
        Binary::Greater,
    ],
    &[Binary::Add, Binary::Subtract],
    &[Binary::Multiply, Binary::Divide, Binary::Remainder],
];

/// A whole text.
pub(super) fn template(text: &str) -> Result<Vec<Piece>, MoaError> {
    let mut parser = Parser {
        text,
        at: 0,
        depth: 0,
    };
    let mut pieces = Vec::new();
    let mut plain = String::new();
    while let Some(char) = parser.peek() {
        if parser.rest().starts_with("\\${{") {
            parser.at += 1 + OPEN.len();
            plain.push_str(OPEN);
        } else if parser.rest().starts_with(OPEN) {
            flush(&mut plain, &mut pieces);
            pieces.push(Piece::Expression(parser.interpolation()?));
        } else {
            plain.push(char);
            parser.at += char.len_utf8();
        }
    }
    flush(&mut plain, &mut pieces);
    Ok(pieces)
}

fn flush(plain: &mut String, pieces: &mut Vec<Piece>) {
    if !plain.is_empty() {
        pieces.push(Piece::Text(std::mem::take(plain)));
    }
}

struct Parser<'a> {
    text: &'a str,
    /// Bytes read.
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// The place as people count.
    fn position(&self) -> usize {
        self.text[..self.at].chars().count() + 1
    }

    fn error<T>(&self, message: impl Into<String>) -> Result<T, MoaError> {
        Err(MoaError {
            message: message.into(),
            position: self.position(),
        })
    }

    fn unexpected<T>(&self, wanted: &str) -> Result<T, MoaError> {
        match self.peek() {
            Some(char) => self.error(format!("expected {wanted}, found {char:?}")),
            None => self.error(format!("expected {wanted}, found the end")),
        }
    }

    fn blanks(&mut self) {
        let rest = self.rest();
        let blank = |char: char| matches!(char, ' ' | '\t' | '\n' | '\r');
        self.at += rest.len() - rest.trim_start_matches(blank).len();
    }

    /// Takes a symbol, if it is there behind blanks.
    fn take(&mut self, symbol: &str) -> bool {
        self.blanks();
        let there = self.rest().starts_with(symbol);
        if there {
            self.at += symbol.len();
        }
        there
    }

    fn expect(&mut self, symbol: &str) -> Result<(), MoaError> {
        if self.take(symbol) {
            Ok(())
        } else {
            self.unexpected(&format!("{symbol:?}"))
        }
    }

    /// `${{ expression }}`
    fn interpolation(&mut self) -> Result<Expression, MoaError> {
        self.expect(OPEN)?;
        let expression = self.expression()?;
        self.expect("}}")?;
        Ok(expression)
    }

    fn expression(&mut self) -> Result<Expression, MoaError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.error("the expression is nested too deep");
        }
        let expression = self.operation(0);
        self.depth -= 1;
        expression
    }

    fn operation(&mut self, level: usize) -> Result<Expression, MoaError> {
        let Some(operators) = OPERATORS.get(level) else {
            return self.signed();
        };
        let mut left = self.operation(level + 1)?;
        let mut count = 0;
        loop {
            self.blanks();
            let at = self.position();
            let found = operators
                .iter()
                .find(|operator| self.rest().starts_with(operator.symbol()));
            let Some(operator) = found else {
                return Ok(left);
            };
            // A long chain nests to the left.
            count += 1;
            if count > 1000 {
                return self.error("the expression is too long");
            }
            self.at += operator.symbol().len();
            let right = self.operation(level + 1)?;
            left = Expression {
                at,
                node: Node::Binary(*operator, Box::new(left), Box::new(right)),
            };
        }
    }

    fn signed(&mut self) -> Result<Expression, MoaError> {
        self.blanks();
        let at = self.position();
        let operator = match self.peek() {
            Some('+') => Unary::Plus,
            Some('-') => Unary::Minus,
            Some('!') if !self.rest().starts_with("!=") => Unary::Not,
            _ => return self.selected(),
        };
        self.at += 1;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.error("the expression is nested too deep");
        }
        let operand = self.signed();
        self.depth -= 1;
        Ok(Expression {
            at,
            node: Node::Unary(operator, Box::new(operand?)),
        })
    }

    fn selected(&mut self) -> Result<Expression, MoaError> {
        let mut value = self.primary()?;
        let mut count = 0;
        loop {
            self.blanks();
            let at = self.position();
            let key = if self.take(".") {
                self.blanks();
                let Some(name) = self.word() else {
                    return self.unexpected("the name of an attribute");
                };
                Expression {
                    at,
                    node: Node::Literal(Value::string(name)),
                }
            } else if self.take("[") {
                let key = self.expression()?;
                self.expect("]")?;
                key
            } else {
                return Ok(value);
            };
            count += 1;
            if count > MAX_DEPTH {
                return self.error("the expression is nested too deep");
            }
            value = Expression {
                at,
                node: Node::Select(Box::new(value), Box::new(key)),
            };
        }
    }

    fn primary(&mut self) -> Result<Expression, MoaError> {
        self.blanks();
        let at = self.position();
        let node = match self.peek() {
            Some('(') => {
                self.at += 1;
                let expression = self.expression()?;
                self.expect(")")?;
                return Ok(expression);
            }
            Some('[') => {
                self.at += 1;
                Node::Array(self.list("]", Self::expression)?)
            }
            Some('{') => {
                self.at += 1;
                Node::Object(self.list("}", Self::entry)?)
            }
            Some('"') => self.template_string()?,
            Some('\'') => Node::Literal(Value::string(self.raw_string()?)),
            Some(char) if char.is_ascii_digit() => self.number()?,
            _ => self.named()?,
        };
        Ok(Expression { at, node })
    }

    /// Elements up to a closing symbol; a last comma is allowed.
    fn list<T>(
        &mut self,
        close: &str,
        element: fn(&mut Self) -> Result<T, MoaError>,
    ) -> Result<Vec<T>, MoaError> {
        let mut elements = Vec::new();
        loop {
            if self.take(close) {
                return Ok(elements);
            }
            elements.push(element(self)?);
            if !self.take(",") {
                self.expect(close)?;
                return Ok(elements);
            }
        }
    }

    fn entry(&mut self) -> Result<(Expression, Expression), MoaError> {
        self.blanks();
        let at = self.position();
        let key = match self.peek() {
            Some('(' | '"' | '\'') => self.primary()?,
            _ => match self.word() {
                Some(name) => Expression {
                    at,
                    node: Node::Literal(Value::string(name)),
                },
                None => return self.unexpected("a key"),
            },
        };
        self.expect(":")?;
        Ok((key, self.expression()?))
    }

    /// A run of letters, digits and underscores that begins with no digit.
    fn word(&mut self) -> Option<&'a str> {
        let rest = self.rest();
        let end = rest
            .find(|char: char| !(char.is_ascii_alphanumeric() || char == '_'))
            .unwrap_or(rest.len());
        let word = &rest[..end];
        if word.is_empty() || word.as_bytes()[0].is_ascii_digit() {
            return None;
        }
        self.at += end;
        Some(word)
    }

    fn named(&mut self) -> Result<Node, MoaError> {
        let start = self.at;
        let Some(word) = self.word() else {
            return self.unexpected("an expression");
        };
        match word {
            "null" => return Ok(Node::Literal(Data::Null.into())),
            "true" => return Ok(Node::Literal(Data::Bool(true).into())),
            "false" => return Ok(Node::Literal(Data::Bool(false).into())),
            _ => {}
        }
        if RESERVED.contains(&word) {
            self.at = start;
            return self.error(format!("{word:?} is a reserved word"));
        }
        if self.take("(") {
            let arguments = self.list(")", Self::expression)?;
            return Ok(Node::Call(word.to_owned(), arguments));
        }
        Ok(Node::Identifier(word.to_owned()))
    }

    fn number(&mut self) -> Result<Node, MoaError> {
        let bytes = self.rest().as_bytes();
        let digits = |from: usize| {
            let run = bytes.get(from..).unwrap_or_default().iter();
            run.take_while(|byte| byte.is_ascii_digit()).count()
        };
        let mut end = digits(0);
        if bytes.get(end) == Some(&b'.') && digits(end + 1) > 0 {
            end += 1 + digits(end + 1);
        }
        if matches!(bytes.get(end), Some(b'e' | b'E')) {
            let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
            let exponent = digits(end + 1 + sign);
            if exponent > 0 {
                end += 1 + sign + exponent;
            }
        }
        match self.rest()[..end].parse::<f64>() {
            Ok(number) if number.is_finite() => {
                self.at += end;
                Ok(Node::Literal(Data::Number(number).into()))
            }
            _ => self.error("the number is too large"),
        }
    }

    /// `'…'`: only a backslash and the quote can be escaped.
    fn raw_string(&mut self) -> Result<String, MoaError> {
        self.at += 1;
        let mut text = String::new();
        loop {
            let Some(char) = self.peek() else {
                return self.unexpected("a closing quote");
            };
            self.at += char.len_utf8();
            match char {
                '\'' => return Ok(text),
                '\\' => match self.peek() {
                    Some(escaped @ ('\\' | '\'')) => {
                        self.at += 1;
                        text.push(escaped);
                    }
                    _ => return self.error("only \\\\ and \\' are escapes in single quotes"),
                },
                char => text.push(char),
            }
        }
    }

    /// `"…"`, with escapes and expressions in it.
    fn template_string(&mut self) -> Result<Node, MoaError> {
        self.at += 1;
        let mut pieces = Vec::new();
        let mut plain = String::new();
        loop {
            let Some(char) = self.peek() else {
                return self.unexpected("a closing quote");
            };
            if self.rest().starts_with(OPEN) {
                flush(&mut plain, &mut pieces);
                pieces.push(Piece::Expression(self.interpolation()?));
                continue;
            }
            self.at += char.len_utf8();
            match char {
                '"' => break,
                '\\' => plain.push_str(&self.escape()?),
                char => plain.push(char),
            }
        }
        if pieces.is_empty() {
            return Ok(Node::Literal(Value::string(plain)));
        }
        // A string in any case, also around a single expression.
        pieces.push(Piece::Text(plain));
        Ok(Node::Template(pieces))
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Result<String, MoaError> {
        if self.rest().starts_with(OPEN) {
            self.at += OPEN.len();
            return Ok(OPEN.to_owned());
        }
        let Some(char) = self.peek() else {
            return self.unexpected("an escape");
        };
        self.at += char.len_utf8();
        let escaped = match char {
            '\\' | '"' | '/' => char,
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'a' => '\x07',
            'b' => '\x08',
            'f' => '\x0c',
            'v' => '\x0b',
            'u' => self.unicode()?,
            _ => return self.error(format!("\\{char} is no escape")),
        };
        Ok(escaped.to_string())
    }

    /// Four hexadecimal digits; two such escapes where a character needs a pair.
    fn unicode(&mut self) -> Result<char, MoaError> {
        let first = self.hex()?;
        if (0xd800..0xdc00).contains(&first) && self.rest().starts_with("\\u") {
            self.at += 2;
            let second = self.hex()?;
            let pair = char::decode_utf16([first, second]).next();
            return match pair {
                Some(Ok(char)) => Ok(char),
                _ => self.error("no such character"),
            };
        }
        match char::from_u32(u32::from(first)) {
            Some(char) => Ok(char),
            None => self.error("no such character"),
        }
    }

    fn hex(&mut self) -> Result<u16, MoaError> {
        let digits = self.rest().get(..4).unwrap_or_default();
        let valid = digits.len() == 4 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        match u16::from_str_radix(digits, 16) {
            Ok(code) if valid => {
                self.at += 4;
                Ok(code)
            }
            _ => self.error("\\u needs four hexadecimal digits"),
        }
    }
}
