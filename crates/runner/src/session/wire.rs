//! What goes through a terminal as WebSocket messages: GitLab's subprotocols, which know bytes and nothing else, no size of the
//! terminal and no exit code.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use tokio_tungstenite::tungstenite::Message;

/// How bytes travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    /// No subprotocol was agreed on: as [`Wire::Binary`].
    Plain,
    /// `terminal.gitlab.com`: bytes are binary messages.
    Binary,
    /// `base64.terminal.gitlab.com`: bytes are text messages in base64.
    Base64,
}

/// What came from a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Input {
    /// Bytes for the shell.
    Bytes(Bytes),
    /// Nothing of interest.
    Nothing,
    /// It says good-bye.
    Left,
    /// It does not speak the subprotocol.
    Garbled(&'static str),
}

impl Wire {
    /// The first known one of those that a client offers.
    pub(super) fn choose<'a>(offered: impl Iterator<Item = &'a str>) -> Self {
        let known = |name: &str| match name {
            "terminal.gitlab.com" => Some(Self::Binary),
            "base64.terminal.gitlab.com" => Some(Self::Base64),
            _ => None,
        };
        offered.into_iter().find_map(known).unwrap_or(Self::Plain)
    }

    /// Name of the subprotocol.
    pub(super) fn name(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Binary => Some("terminal.gitlab.com"),
            Self::Base64 => Some("base64.terminal.gitlab.com"),
        }
    }

    /// Output of a shell.
    pub(super) fn output(self, bytes: Bytes) -> Message {
        match self {
            Self::Plain | Self::Binary => Message::Binary(bytes),
            Self::Base64 => Message::Text(STANDARD.encode(bytes).into()),
        }
    }

    /// A message of a client. Of data either kind is taken, as the peer does.
    pub(super) fn input(self, message: Message) -> Input {
        let data = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => text.into(),
            Message::Close(_) => return Input::Left,
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => return Input::Nothing,
        };
        match self {
            Self::Plain | Self::Binary => Input::Bytes(data),
            Self::Base64 => match STANDARD.decode(&data) {
                Ok(bytes) => Input::Bytes(bytes.into()),
                Err(_) => Input::Garbled("a message is not base64"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(Wire::Plain, Message::binary(vec![0, 255]), Input::Bytes(Bytes::from_static(&[0, 255])))]
    #[case(Wire::Binary, Message::binary(vec![0, 255]), Input::Bytes(Bytes::from_static(&[0, 255])))]
    #[case(
        Wire::Binary,
        Message::text("ls\n"),
        Input::Bytes(Bytes::from_static(b"ls\n"))
    )]
    #[case(
        Wire::Base64,
        Message::text("bHMK"),
        Input::Bytes(Bytes::from_static(b"ls\n"))
    )]
    #[case(
        Wire::Base64,
        Message::binary("bHMK"),
        Input::Bytes(Bytes::from_static(b"ls\n"))
    )]
    #[case(
        Wire::Base64,
        Message::text("ls"),
        Input::Garbled("a message is not base64")
    )]
    #[case(Wire::Binary, Message::Ping(Bytes::new()), Input::Nothing)]
    #[case(Wire::Binary, Message::Pong(Bytes::new()), Input::Nothing)]
    #[case(Wire::Base64, Message::Close(None), Input::Left)]
    fn messages_become_input(#[case] wire: Wire, #[case] message: Message, #[case] input: Input) {
        assert_eq!(wire.input(message), input);
    }

    #[rstest]
    #[case(Wire::Plain, Message::binary("hi"))]
    #[case(Wire::Binary, Message::binary("hi"))]
    #[case(Wire::Base64, Message::text("aGk="))]
    fn output_becomes_messages(#[case] wire: Wire, #[case] message: Message) {
        assert_eq!(wire.output(Bytes::from_static(b"hi")), message);
    }
}
