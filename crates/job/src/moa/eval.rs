//! Evaluation.

use super::value::{Data, Kind};
use super::{Binary, Expression, MAX_BYTES, MoaError, Node, Piece, Unary, Value};

fn error<T>(at: usize, message: impl Into<String>) -> Result<T, MoaError> {
    Err(MoaError {
        message: message.into(),
        position: at,
    })
}

/// A template: the value itself where it is one expression alone, else a string.
pub(super) fn template(pieces: &[Piece], root: &Value) -> Result<Value, MoaError> {
    if let [Piece::Expression(expression)] = pieces {
        return evaluate(expression, root);
    }
    let mut text = String::new();
    let mut sensitive = false;
    for piece in pieces {
        match piece {
            Piece::Text(piece) => text.push_str(piece),
            Piece::Expression(expression) => {
                let value = evaluate(expression, root)?;
                let Data::String(piece) = &value.data else {
                    let kind = value.kind();
                    return error(
                        expression.at,
                        format!(
                            "cannot put {} {kind} into text: convert it by str()",
                            if matches!(kind, Kind::Array | Kind::Object) {
                                "an"
                            } else {
                                "a"
                            }
                        ),
                    );
                };
                sensitive |= value.is_sensitive();
                text.push_str(piece);
            }
        }
        if text.len() > MAX_BYTES {
            return error(1, format!("the result is longer than {MAX_BYTES} bytes"));
        }
    }
    Ok(Value::string(text).sensitive(sensitive))
}

fn evaluate(expression: &Expression, root: &Value) -> Result<Value, MoaError> {
    let at = expression.at;
    match &expression.node {
        Node::Literal(value) => Ok(value.clone()),
        Node::Template(pieces) => template(pieces, root),
        Node::Identifier(name) => match root.get(name) {
            Some(value) => Ok(value.clone()),
            None => error(at, format!("unknown identifier {name:?}")),
        },
        Node::Select(from, key) => {
            let value = evaluate(from, root)?;
            let key = evaluate(key, root)?;
            select(at, &value, &key)
        }
        Node::Call(name, arguments) => {
            let arguments: Vec<_> = arguments
                .iter()
                .map(|argument| evaluate(argument, root))
                .collect::<Result<_, _>>()?;
            call(at, name, &arguments)
        }
        Node::Unary(operator, operand) => unary(at, *operator, &evaluate(operand, root)?),
        Node::Binary(operator, left, right) => {
            let left = evaluate(left, root)?;
            match operator {
                Binary::Or if left.is_truthy() => Ok(left),
                Binary::And if !left.is_truthy() => Ok(left),
                Binary::Or | Binary::And => {
                    Ok(evaluate(right, root)?.sensitive(left.is_sensitive()))
                }
                _ => binary(at, *operator, &left, &evaluate(right, root)?),
            }
        }
        Node::Array(items) => {
            let items: Vec<_> = items
                .iter()
                .map(|item| evaluate(item, root))
                .collect::<Result<_, _>>()?;
            Ok(Data::Array(items).into())
        }
        Node::Object(entries) => {
            let mut object = Vec::with_capacity(entries.len());
            for (key, value) in entries {
                let key_value = evaluate(key, root)?;
                let Data::String(name) = &key_value.data else {
                    let kind = key_value.kind();
                    return error(
                        key.at,
                        format!("an object needs a string as key, not a {kind}"),
                    );
                };
                let value = evaluate(value, root)?.sensitive(key_value.is_sensitive());
                object.push((name.clone(), value));
            }
            Ok(Value::object(object))
        }
    }
}

fn select(at: usize, value: &Value, key: &Value) -> Result<Value, MoaError> {
    let found = match (&value.data, &key.data) {
        (Data::Object(_), Data::String(name)) => match value.get(name) {
            Some(found) => found,
            None => return error(at, format!("attribute {name:?} not found")),
        },
        (Data::Array(items), Data::Number(index)) => {
            // What is no index becomes one that is out of range; the conversion saturates.
            let whole = index.fract() == 0.0 && *index >= 0.0;
            let position = if whole { *index as usize } else { usize::MAX };
            match items.get(position) {
                Some(found) => found,
                None => {
                    let length = items.len();
                    return error(
                        at,
                        format!("index {index} is not in an array of {length} elements"),
                    );
                }
            }
        }
        (Data::Object(_), _) => {
            let kind = key.kind();
            return error(at, format!("object requires string key not {kind}"));
        }
        (Data::Array(_), _) => {
            let kind = key.kind();
            return error(at, format!("array requires number index not {kind}"));
        }
        _ => {
            let kind = value.kind();
            return error(at, format!("a {kind} has no attributes"));
        }
    };
    let sensitive = value.is_marked() || key.is_sensitive();
    Ok(found.clone().sensitive(sensitive))
}

fn call(at: usize, name: &str, arguments: &[Value]) -> Result<Value, MoaError> {
    if !["str", "num", "bool"].contains(&name) {
        return error(at, format!("unknown function {name:?}"));
    }
    let [argument] = arguments else {
        let count = arguments.len();
        return error(at, format!("{name}() takes one argument, not {count}"));
    };
    let result: Value = match (name, &argument.data) {
        ("str", _) => Value::string(argument.text()),
        ("bool", _) => Data::Bool(argument.is_truthy()).into(),
        (_, Data::Number(_)) => argument.clone(),
        (_, Data::String(text)) => match text.trim().parse::<f64>() {
            Ok(number) if number.is_finite() => Data::Number(number).into(),
            _ => return error(at, "num() of a string that is no number"),
        },
        _ => {
            let kind = argument.kind();
            return error(at, format!("num() takes a string, not a {kind}"));
        }
    };
    Ok(result.sensitive(argument.is_sensitive()))
}

fn unary(at: usize, operator: Unary, operand: &Value) -> Result<Value, MoaError> {
    let result: Value = match (operator, &operand.data) {
        (Unary::Not, _) => Data::Bool(!operand.is_truthy()).into(),
        (Unary::Plus, Data::Number(number)) => Data::Number(*number).into(),
        (Unary::Minus, Data::Number(number)) => Data::Number(-number).into(),
        _ => {
            let kind = operand.kind();
            return error(at, format!("a sign needs a number, not a {kind}"));
        }
    };
    Ok(result.sensitive(operand.is_sensitive()))
}

fn binary(at: usize, operator: Binary, left: &Value, right: &Value) -> Result<Value, MoaError> {
    let sensitive = left.is_sensitive() || right.is_sensitive();
    let order = || left.compare(right);
    let result = match operator {
        Binary::Equal => Data::Bool(order().is_eq()),
        Binary::NotEqual => Data::Bool(order().is_ne()),
        Binary::Less => Data::Bool(order().is_lt()),
        Binary::LessOrEqual => Data::Bool(order().is_le()),
        Binary::Greater => Data::Bool(order().is_gt()),
        Binary::GreaterOrEqual => Data::Bool(order().is_ge()),
        _ => arithmetic(at, operator, left, right)?,
    };
    Ok(Value::from(result).sensitive(sensitive))
}

fn arithmetic(at: usize, operator: Binary, left: &Value, right: &Value) -> Result<Data, MoaError> {
    match (operator, &left.data, &right.data) {
        (Binary::Add, Data::String(left), Data::String(right)) => {
            if left.len() + right.len() > MAX_BYTES {
                return error(at, format!("the result is longer than {MAX_BYTES} bytes"));
            }
            Ok(Data::String(format!("{left}{right}")))
        }
        (Binary::Divide | Binary::Remainder, Data::Number(_), Data::Number(0.0)) => {
            error(at, "division by zero")
        }
        (_, Data::Number(left), Data::Number(right)) => Ok(Data::Number(match operator {
            Binary::Subtract => left - right,
            Binary::Multiply => left * right,
            Binary::Divide => left / right,
            Binary::Remainder => left % right,
            _ => left + right,
        })),
        _ => {
            let (left, right) = (left.kind(), right.kind());
            error(
                at,
                format!("operator {operator} does not take a {left} and a {right}"),
            )
        }
    }
}
