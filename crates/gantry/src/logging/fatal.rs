//! The last line of a command that failed, in the form of the log (cli §5: prefix `FATAL: `, level `fatal`).

use super::line::now;

/// The line and what to do about it, in the form of this number.
pub(super) fn line(form: u8, message: &str, hints: &[String]) -> String {
    let hint = hints.join("; ");
    match form {
        1 if hints.is_empty() => format!("time=\"{}\" level=fatal msg={message:?}\n", now()),
        1 => format!(
            "time=\"{}\" level=fatal msg={message:?} hint={hint:?}\n",
            now()
        ),
        2 => {
            let mut object = serde_json::json!({"level": "fatal", "msg": message, "time": now()});
            if !hints.is_empty() {
                object["hint"] = hint.into();
            }
            format!("{object}\n")
        }
        _ => {
            let hints = hints.iter().map(|hint| format!("hint: {hint}\n"));
            let line = format!("\x1b[31;1mFATAL: {message:<43}\x1b[0;m \n");
            line + &hints.collect::<String>()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn the_last_line_has_the_peers_form() {
        assert_eq!(
            line(0, "Failed to verify runners", &[]),
            format!(
                "\x1b[31;1mFATAL: {:<43}\x1b[0;m \n",
                "Failed to verify runners"
            )
        );
        assert!(line(1, "a \"b\"", &[]).contains("level=fatal msg=\"a \\\"b\\\"\""));
        let json: serde_json::Value =
            serde_json::from_str(&line(2, "a", &["b".to_owned()])).unwrap();
        assert_eq!(
            (&json["level"], &json["msg"], &json["hint"]),
            (&"fatal".into(), &"a".into(), &"b".into())
        );
    }
}
