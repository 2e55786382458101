use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    ArchiveCacheEntry, ArchiveCacheRequest, ArtifactEntry, ChangeOwnerRequest, Dependency,
    DownloadArtifactsRequest, EntryOutcome, EntryResult, Header, Hello, Offsets, RemoteSource,
    RestoreCacheRequest, RestoreCandidate, RestoreEntry, Run, Selection, SignedUrl, SourcesRequest,
    StageRequest, StageState, Stream, UploadArtifactsRequest, Variable, Welcome,
};

fn stream() -> impl Strategy<Value = Stream> {
    prop_oneof![Just(Stream::Stdout), Just(Stream::Stderr)]
}

fn offsets() -> impl Strategy<Value = Offsets> {
    (any::<u64>(), any::<u64>()).prop_map(|(stdout, stderr)| Offsets { stdout, stderr })
}

fn entry_result() -> impl Strategy<Value = EntryResult> {
    let outcome = prop_oneof![
        Just(EntryOutcome::Done),
        Just(EntryOutcome::Nothing),
        Just(EntryOutcome::Miss),
        Just(EntryOutcome::Partial),
        Just(EntryOutcome::Failed),
    ];
    (
        any::<u32>(),
        outcome,
        any::<Option<String>>(),
        any::<u64>(),
        any::<u64>(),
    )
        .prop_map(|(entry, outcome, error, files, bytes)| EntryResult {
            entry,
            outcome,
            error,
            files,
            bytes,
        })
}

fn state() -> impl Strategy<Value = StageState> {
    prop_oneof![
        Just(StageState::Unknown),
        Just(StageState::Running),
        (
            any::<i32>(),
            any::<Option<String>>(),
            offsets(),
            vec(entry_result(), 0..3)
        )
            .prop_map(|(exit_code, error, output, entries)| StageState::Done {
                exit_code,
                error,
                output,
                entries,
            }),
    ]
}

fn to_runner() -> impl Strategy<Value = ToRunner> {
    prop_oneof![
        (any::<u32>(), ".*", ".*", any::<Option<String>>()).prop_map(
            |(protocol, helper_version, hostname, git_version)| ToRunner::Welcome(Welcome {
                protocol,
                helper_version,
                hostname,
                git_version,
            })
        ),
        (".*", stream(), any::<u64>(), vec(any::<u8>(), 0..2000)).prop_map(
            |(id, stream, offset, bytes)| ToRunner::Output {
                id,
                stream,
                offset,
                bytes
            }
        ),
        (".*", state()).prop_map(|(id, state)| ToRunner::State { id, state }),
        ".*".prop_map(|reason| ToRunner::Refused { reason }),
    ]
}

fn request() -> impl Strategy<Value = StageRequest> {
    let variable = (".*", ".*").prop_map(|(key, value)| Variable {
        key,
        value: value.as_str().into(),
    });
    let selection = (vec(".*", 0..3), vec(".*", 0..3), any::<bool>()).prop_map(
        |(paths, exclude, untracked)| Selection {
            paths,
            exclude,
            untracked,
        },
    );
    let signed = (".*", ".*").prop_map(|(url, value)| SignedUrl {
        url: url.as_str().into(),
        headers: vec![Header {
            name: "x".into(),
            value: value.as_str().into(),
        }],
    });
    let caches = (selection, signed, ".*").prop_map(|(selection, signed, key)| {
        StageRequest::ArchiveCache(Box::new(ArchiveCacheRequest {
            entries: vec![ArchiveCacheEntry {
                key,
                selection,
                put: Some(signed),
                ..ArchiveCacheEntry::default()
            }],
            ..ArchiveCacheRequest::default()
        }))
    });
    prop_oneof![
        caches,
        Just(StageRequest::RestoreCache(Box::default())),
        Just(StageRequest::DownloadArtifacts(Box::default())),
        Just(StageRequest::UploadArtifacts(Box::default())),
        Just(StageRequest::ClearWorktree(Default::default())),
        Just(StageRequest::ChangeOwner(Box::new(ChangeOwnerRequest {
            paths: vec!["/builds/g/p".into(), "/builds/g/p.tmp".into()],
            uid: 1000,
            gid: 100,
        }))),
        Just(StageRequest::Cleanup(Box::default())),
        (".*", any::<u32>(), vec(variable, 0..5)).prop_map(|(sha, depth, variables)| {
            let sources = SourcesRequest {
                sha,
                depth,
                variables,
                ..SourcesRequest::default()
            };
            StageRequest::Sources(Box::new(sources))
        }),
    ]
}

fn to_agent() -> impl Strategy<Value = ToAgent> {
    prop_oneof![
        any::<u64>().prop_map(|generation| ToAgent::Hello(Hello::new(generation))),
        (".*", offsets(), request()).prop_map(|(id, from, request)| ToAgent::Run(Box::new(Run {
            id,
            from,
            request
        }))),
        (".*", offsets()).prop_map(|(id, from)| ToAgent::Attach { id, from }),
        ".*".prop_map(|id| ToAgent::Query { id }),
        (".*", stream(), any::<u64>()).prop_map(|(id, stream, offset)| ToAgent::Ack {
            id,
            stream,
            offset
        }),
        ".*".prop_map(|id| ToAgent::Cancel { id }),
        Just(ToAgent::Shutdown),
    ]
}

/// Decodes a byte stream cut at the given places.
fn decode<M: Message>(bytes: &[u8], cuts: &[usize]) -> Result<Vec<M>, CodecError> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    let mut decoder = Decoder::new();
    let mut messages = Vec::new();
    for pair in cuts.windows(2) {
        decoder.push(&bytes[pair[0]..pair[1]]);
        while let Some(message) = decoder.next_message()? {
            messages.push(message);
        }
    }
    decoder.finish()?;
    Ok(messages)
}

fn encoded<M: Message>(messages: &[M]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for message in messages {
        encode_into(message, &mut bytes).unwrap();
    }
    bytes
}

proptest! {
    #[test]
    fn messages_to_the_runner_survive_any_chunking(
        messages in vec(to_runner(), 0..8),
        cuts in vec(any::<usize>(), 0..40),
    ) {
        prop_assert_eq!(decode::<ToRunner>(&encoded(&messages), &cuts), Ok(messages));
    }

    #[test]
    fn messages_to_the_agent_survive_any_chunking(
        messages in vec(to_agent(), 0..8),
        cuts in vec(any::<usize>(), 0..40),
    ) {
        prop_assert_eq!(decode::<ToAgent>(&encoded(&messages), &cuts), Ok(messages));
    }

    #[test]
    fn a_stream_cut_short_is_told_from_a_whole_one(messages in vec(to_runner(), 1..4), cut in any::<prop::sample::Index>()) {
        let bytes = encoded(&messages);
        let cut = cut.index(bytes.len());
        match decode::<ToRunner>(&bytes[..cut], &[]) {
            Ok(some) => prop_assert!(encoded(&some).len() == cut),
            Err(error) => prop_assert!(matches!(error, CodecError::Truncated(_)), "{}", error),
        }
    }

    #[test]
    fn garbage_never_panics(data in vec(any::<u8>(), 0..400)) {
        fuzz_decoder(&data);
    }

    #[test]
    fn damaged_messages_never_panic(
        messages in vec(to_runner(), 1..4),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        size in 1_u8..,
    ) {
        let mut bytes = encoded(&messages);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes.insert(0, size);
        fuzz_decoder(&bytes);
    }
}

fn error<M: Message>(bytes: &[u8]) -> String {
    decode::<M>(bytes, &[]).unwrap_err().to_string()
}

fn frame(header: usize, body: usize, rest: &[u8]) -> Vec<u8> {
    let lengths = [header as u32, body as u32].map(u32::to_be_bytes).concat();
    [&MAGIC[..], &lengths, rest].concat()
}

#[test]
fn what_a_shell_prints_is_quoted_to_the_runner() {
    assert_eq!(
        error::<ToRunner>(b"sh: 1: gantry-helper: not found\n"),
        "expected a message of the helper protocol, got \"sh: 1: gantry-helper: not found\\n\""
    );
    // Even one byte is enough to tell.
    assert!(error::<ToRunner>(b"s").contains("got \"s\""));
}

#[test]
fn what_came_to_the_agent_is_not_quoted() {
    let text = error::<ToAgent>(b"token=s3cret");
    assert!(
        text.contains("12 other bytes") && !text.contains("s3cret"),
        "{text}"
    );
    let wrong = br#"{"type":"run","id":"x","request":{"kind":"sources","token":["s3cret"]}}"#;
    let text = error::<ToAgent>(&frame(wrong.len(), 0, wrong));
    assert!(
        text.contains("unknown message or wrong type") && !text.contains("s3cret"),
        "{text}"
    );
}

#[test]
fn lengths_beyond_the_limits_are_refused_before_anything_is_kept() {
    let huge = u32::MAX as usize;
    assert!(
        error::<ToRunner>(&frame(huge, 0, b""))
            .starts_with("header of a message has 4294967295 bytes")
    );
    assert!(
        error::<ToRunner>(&frame(2, huge, b""))
            .starts_with("body of a message has 4294967295 bytes")
    );
    assert!(
        error::<ToAgent>(&frame(2, 1, b""))
            .starts_with("body of a message has 1 bytes, more than 0")
    );
    let bytes = vec![0; <ToRunner as Message>::MAX_BODY + 1];
    let output = ToRunner::Output {
        id: "x".into(),
        stream: Stream::Stdout,
        offset: 0,
        bytes,
    };
    let mut out = b"before".to_vec();
    assert!(matches!(
        encode_into(&output, &mut out),
        Err(CodecError::BodyTooLong { .. })
    ));
    let long = ToRunner::Refused {
        reason: "x".repeat(<ToRunner as Message>::MAX_HEADER),
    };
    assert!(matches!(
        encode_into(&long, &mut out),
        Err(CodecError::HeaderTooLong { .. })
    ));
    assert_eq!(out, b"before");
}

#[test]
fn a_body_where_none_belongs_is_refused() {
    let head = br#"{"type":"refused","reason":"x"}"#;
    let bytes = frame(head.len(), 3, &[&head[..], b"abc"].concat());
    assert_eq!(
        error::<ToRunner>(&bytes),
        "a message has 3 bytes of body, but its kind has none"
    );
}

#[test]
fn an_error_stays() {
    let mut decoder = Decoder::<ToRunner>::new();
    decoder.push(b"garbage");
    let first = decoder.next_message().unwrap_err();
    decoder.push(&encode(&ToRunner::Refused { reason: "x".into() }).unwrap());
    assert_eq!(decoder.next_message(), Err(first.clone()));
    assert_eq!(decoder.finish(), Err(first));
}

#[test]
fn fields_of_a_newer_version_are_ignored_and_missing_ones_have_defaults() {
    let head = br#"{"type":"run","id":"x","new":1,"request":{"kind":"sources","sha":"abc","newer":{"a":[1]}}}"#;
    let messages = decode::<ToAgent>(&frame(head.len(), 0, head), &[]).unwrap();
    let request = SourcesRequest {
        sha: "abc".into(),
        ..SourcesRequest::default()
    };
    let request = StageRequest::Sources(Box::new(request));
    assert_eq!(
        messages,
        [ToAgent::Run(Box::new(Run {
            id: "x".into(),
            from: Offsets::default(),
            request
        }))]
    );
    let head = br#"{"type":"run","id":"x","request":{"kind":"steps","script":["a"],"x":{"y":1}}}"#;
    let messages = decode::<ToAgent>(&frame(head.len(), 0, head), &[]).unwrap();
    assert!(matches!(&messages[..], [ToAgent::Run(run)] if run.request == StageRequest::Unknown));
}

#[test]
fn an_end_told_by_a_version_without_entries_is_understood_and_so_is_an_outcome_to_come() {
    let done = |rest: &str| {
        let head = format!(
            r#"{{"type":"state","id":"x","state":"done","exit_code":0,"output":{{"stdout":1}}{rest}}}"#
        );
        let messages = decode::<ToRunner>(&frame(head.len(), 0, head.as_bytes()), &[]).unwrap();
        match &messages[..] {
            [
                ToRunner::State {
                    state: StageState::Done { entries, .. },
                    ..
                },
            ] => entries.clone(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(done(""), []);
    let entries = done(
        r#","entries":[{"entry":0,"outcome":"done"},{"entry":1,"outcome":"teleported","by":"x"}]"#,
    );
    assert_eq!(entries[0].outcome, EntryOutcome::Done);
    assert_eq!(entries[1].outcome, EntryOutcome::Unknown);
}

#[test]
fn an_archive_stage_of_an_older_runner_gets_the_peer_s_defaults() {
    let head = br#"{"type":"run","id":"x","request":{"kind":"upload_artifacts","job_id":7}}"#;
    let messages = decode::<ToAgent>(&frame(head.len(), 0, head), &[]).unwrap();
    let expected = UploadArtifactsRequest {
        job_id: 7,
        ..UploadArtifactsRequest::default()
    };
    assert_eq!(expected.timeout_seconds, 3600);
    assert!(
        matches!(&messages[..], [ToAgent::Run(run)] if run.request == StageRequest::UploadArtifacts(Box::new(expected)))
    );
}

#[test]
fn no_debug_text_of_an_archive_stage_shows_a_token_a_signed_address_or_a_header() {
    let secret = || SignedUrl {
        url: "https://s3cret".into(),
        headers: vec![Header {
            name: "x".into(),
            value: "s3cret".into(),
        }],
    };
    let remote = RemoteSource {
        get: secret(),
        head: Some(secret()),
    };
    let requests = [
        StageRequest::RestoreCache(Box::new(RestoreCacheRequest {
            entries: vec![RestoreEntry {
                candidates: vec![RestoreCandidate {
                    remote: Some(remote.clone()),
                    alternate: Some(remote),
                    ..RestoreCandidate::default()
                }],
                ..RestoreEntry::default()
            }],
            ..RestoreCacheRequest::default()
        })),
        StageRequest::ArchiveCache(Box::new(ArchiveCacheRequest {
            entries: vec![ArchiveCacheEntry {
                put: Some(secret()),
                check: Some(secret()),
                ..ArchiveCacheEntry::default()
            }],
            ..ArchiveCacheRequest::default()
        })),
        StageRequest::DownloadArtifacts(Box::new(DownloadArtifactsRequest {
            dependencies: vec![Dependency {
                token: "s3cret".into(),
                ..Dependency::default()
            }],
            ..DownloadArtifactsRequest::default()
        })),
        StageRequest::UploadArtifacts(Box::new(UploadArtifactsRequest {
            token: "s3cret".into(),
            entries: vec![ArtifactEntry::default()],
            variables: vec![Variable {
                key: "KEY".into(),
                value: "s3cret".into(),
            }],
            ..UploadArtifactsRequest::default()
        })),
    ];
    for request in requests {
        assert!(!format!("{request:?}").contains("s3cret"), "{request:?}");
    }
}

#[test]
fn secrets_are_in_the_frame_but_not_in_debug() {
    let request = SourcesRequest {
        token: "s3cret".into(),
        variables: vec![Variable {
            key: "KEY".into(),
            value: "s3cret".into(),
        }],
        pre_get_sources: vec!["echo s3cret".into()],
        ..SourcesRequest::default()
    };
    let run = Run {
        id: "x".into(),
        from: Offsets::default(),
        request: StageRequest::Sources(Box::new(request)),
    };
    let message = ToAgent::Run(Box::new(run));
    assert!(!format!("{message:?}").contains("s3cret"));
    let frame = encode(&message).unwrap();
    assert!(String::from_utf8_lossy(&frame).contains("s3cret"));
    let output = ToRunner::Output {
        id: "x".into(),
        stream: Stream::Stdout,
        offset: 0,
        bytes: b"s3cret".to_vec(),
    };
    assert_eq!(
        format!("{output:?}"),
        "Output { id: \"x\", stream: Stdout, offset: 0, 6 bytes }"
    );
}

#[test]
fn output_is_raw_on_the_wire() {
    let bytes: Vec<u8> = (0..=255).collect();
    let output = ToRunner::Output {
        id: "x".into(),
        stream: Stream::Stderr,
        offset: 7,
        bytes: bytes.clone(),
    };
    assert!(encode(&output).unwrap().ends_with(&bytes));
}
