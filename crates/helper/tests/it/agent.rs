//! Stages, connections and processes.

use std::{fs, os::unix::fs::PermissionsExt};

use gantry_agent::{
    Hello, Offsets, PROTOCOL, StageRequest, StageState, Stream, ToAgent, ToRunner, encode,
};

use crate::support::{Agent, Client, alive, terminate, until, written};

#[test]
fn welcome_tells_versions_and_host_name() {
    let agent = Agent::start();
    let welcome = agent.connect().welcome.unwrap();
    assert_eq!(welcome.protocol, PROTOCOL);
    assert_eq!(welcome.helper_version, env!("CARGO_PKG_VERSION"));
    assert_eq!(
        welcome.hostname,
        fs::read_to_string("/proc/sys/kernel/hostname")
            .unwrap()
            .trim()
    );
    assert!(welcome.git_version.unwrap().starts_with("git version "));
}

#[test]
fn output_survives_lost_connections_without_a_missing_or_doubled_byte() {
    // More than the spool keeps in memory, on both streams.
    let agent = Agent::start();
    let script = agent.script("seq 1 150000; seq 1 150000 >&2; printf end");
    let id = "get_sources/1";
    let mut held = [Vec::<u8>::new(), Vec::new()];
    let mut lost = 0;
    'connections: loop {
        let from = Offsets {
            stdout: held[0].len() as u64,
            stderr: held[1].len() as u64,
        };
        let mut client = agent.connect();
        if lost % 2 == 0 {
            client.start_at(id, from, StageRequest::Sources(Box::new(script.clone())));
        } else {
            client.send(&ToAgent::Attach {
                id: id.into(),
                from,
            });
        }
        let mut messages = 0;
        loop {
            match client.next().unwrap() {
                ToRunner::Output {
                    stream,
                    offset,
                    bytes,
                    ..
                } => {
                    let stderr = usize::from(stream == Stream::Stderr);
                    assert_eq!(offset, held[stderr].len() as u64);
                    held[stderr].extend(bytes);
                    messages += 1;
                    if lost % 3 == 0 {
                        let offset = held[stderr].len() as u64;
                        client.send(&ToAgent::Ack {
                            id: id.into(),
                            stream,
                            offset,
                        });
                    }
                    if messages > 3 && lost < 20 {
                        lost += 1;
                        continue 'connections;
                    }
                }
                ToRunner::State {
                    state:
                        StageState::Done {
                            exit_code, output, ..
                        },
                    ..
                } => {
                    assert_eq!(exit_code, 0);
                    assert_eq!(output.stdout, held[0].len() as u64);
                    assert_eq!(output.stderr, held[1].len() as u64);
                    break 'connections;
                }
                _ => {}
            }
        }
    }
    assert!(lost >= 5, "{lost}");
    let numbers: String = (1..=150_000).map(|n| format!("{n}\n")).collect();
    let out = String::from_utf8(held[0].clone()).unwrap();
    let after_echo = out.split_once("command\x1b[0;m\n").unwrap().1;
    let warned = after_echo.split_once("end").unwrap();
    assert!(warned.0 == numbers, "stdout");
    assert!(held[1] == numbers.as_bytes(), "stderr");
}

#[test]
fn a_repeated_run_does_not_run_again() {
    let agent = Agent::start();
    let count = agent.path("count");
    let script = agent.script(&format!("echo once >> {}", count.display()));
    let first = agent.sources("get_sources/1", script.clone()).ok();
    let again = agent.sources("get_sources/1", script.clone()).ok();
    assert_eq!(first.stdout, again.stdout);
    assert_eq!(written(&count), "once");
    agent.sources("get_sources/2", script).ok();
    assert_eq!(written(&count), "once\nonce");
}

#[test]
fn a_query_tells_unknown_running_and_done() {
    let agent = Agent::start();
    let gate = agent.path("gate");
    let mut client = agent.connect();
    assert_eq!(client.query("get_sources/1"), StageState::Unknown);
    let wait = format!("while ! test -e {}; do sleep 0.01; done", gate.display());
    client.start("get_sources/1", agent.script(&wait));
    assert_eq!(client.query("get_sources/1"), StageState::Running);
    fs::write(&gate, "").unwrap();
    client.finish("get_sources/1").ok();
    assert!(matches!(
        client.query("get_sources/1"),
        StageState::Done { exit_code: 0, .. }
    ));
}

#[test]
fn attaching_to_an_unknown_stage_starts_nothing() {
    let agent = Agent::start();
    let mut client = agent.connect();
    client.send(&ToAgent::Attach {
        id: "x".into(),
        from: Offsets::default(),
    });
    let unknown = ToRunner::State {
        id: "x".into(),
        state: StageState::Unknown,
    };
    assert_eq!(client.next(), Some(unknown));
}

#[test]
fn acknowledged_output_is_not_sent_again() {
    let agent = Agent::start();
    let mut client = agent.connect();
    let done = client
        .run_sources("a", agent.script("printf 0123456789 >&2"))
        .ok();
    client.send(&ToAgent::Ack {
        id: "a".into(),
        stream: Stream::Stderr,
        offset: 4,
    });
    client.send(&ToAgent::Ack {
        id: "a".into(),
        stream: Stream::Stdout,
        offset: done.stdout.len() as u64,
    });
    client.send(&ToAgent::Ack {
        id: "unknown".into(),
        stream: Stream::Stdout,
        offset: 1,
    });
    assert!(matches!(client.query("a"), StageState::Done { .. }));
    client.send(&ToAgent::Attach {
        id: "a".into(),
        from: Offsets::default(),
    });
    match client.next() {
        Some(ToRunner::Output {
            stream: Stream::Stderr,
            offset: 4,
            bytes,
            ..
        }) => assert_eq!(bytes, b"456789"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(
        client.next(),
        Some(ToRunner::State {
            state: StageState::Done { .. },
            ..
        })
    ));
}

#[test]
fn cancel_ends_the_command_and_its_children() {
    let agent = Agent::start();
    let pids = agent.path("pids");
    let mut client = agent.connect();
    client.start(
        "a",
        agent.script(&format!(
            "sleep 1000 & echo $$ $! > {}; wait",
            pids.display()
        )),
    );
    let pids = written(&pids);
    client.send(&ToAgent::Cancel { id: "a".into() });
    let done = client.finish("a").failed(143);
    assert_eq!(done.error.as_deref(), Some("canceled"));
    until("all are gone", || pids.split(' ').all(|pid| !alive(pid)));
    assert!(matches!(
        client.query("a"),
        StageState::Done { exit_code: 143, .. }
    ));
    client.send(&ToAgent::Cancel {
        id: "unknown".into(),
    });
    let unknown = ToRunner::State {
        id: "unknown".into(),
        state: StageState::Unknown,
    };
    assert_eq!(client.next(), Some(unknown));
}

#[test]
fn cancel_kills_what_does_not_heed_it() {
    let agent = Agent::start();
    let pids = agent.path("pids");
    let mut client = agent.connect();
    client.start(
        "a",
        agent.script(&format!(
            "trap '' TERM; echo $$ > {}; sleep 1000; sleep 1000",
            pids.display()
        )),
    );
    let pid = written(&pids);
    client.send(&ToAgent::Cancel { id: "a".into() });
    client.finish("a").failed(143);
    until("it is gone", || !alive(&pid));
}

#[test]
fn a_process_left_in_the_background_does_not_hold_the_stage() {
    let agent = Agent::start();
    let pid = agent.path("pid");
    let script = agent.script(&format!(
        "sleep 1000 & echo $! > {}; echo last words",
        pid.display()
    ));
    let done = agent.sources("a", script).ok();
    assert!(done.out().contains("last words\n"));
    let pid = written(&pid);
    assert!(alive(&pid), "such as an ssh-agent lives on");
    terminate(pid.parse().unwrap());
    until("the agent reaps the orphan", || !alive(&pid));
}

#[test]
fn the_newest_connection_is_served_and_older_ones_are_closed() {
    let agent = Agent::start();
    let mut first = Client::welcomed(&agent.socket(), 5);
    let mut second = Client::welcomed(&agent.socket(), 5);
    assert_eq!(first.next(), None, "same generation: the last to come");
    let mut old = Client::open(&agent.socket());
    old.send(&ToAgent::Hello(Hello::new(4)));
    assert!(
        matches!(old.next(), Some(ToRunner::Refused { reason }) if reason.contains("generation 4 is older than 5"))
    );
    assert_eq!(old.next(), None);
    assert_eq!(
        second.query("x"),
        StageState::Unknown,
        "the served one is not disturbed"
    );
}

#[test]
fn what_is_no_hello_is_refused_with_a_reason() {
    let agent = Agent::start();
    let refusal = |bytes: &[u8]| {
        let mut client = Client::open(&agent.socket());
        client.send_raw(bytes);
        match client.next() {
            Some(ToRunner::Refused { reason }) => reason,
            other => panic!("{other:?}"),
        }
    };
    assert!(
        refusal(b"GET / HTTP/1.1\r\n\r\n").contains("expected a message of the helper protocol")
    );
    let query = encode(&ToAgent::Query { id: "x".into() }).unwrap();
    assert!(refusal(&query).contains("the first message must be hello"));
    let far = Hello {
        protocol: PROTOCOL + 2,
        oldest: PROTOCOL + 1,
        generation: 1,
    };
    assert!(refusal(&encode(&ToAgent::Hello(far)).unwrap()).contains("no common version"));
    agent.connect();
}

#[test]
fn a_request_of_an_unknown_kind_fails_by_name_and_the_agent_lives_on() {
    let agent = Agent::start();
    let mut client = agent.connect();
    let done = client.run("a", StageRequest::Unknown).failed(1);
    assert!(
        done.err()
            .contains("does not know what the runner asks of it")
    );
    assert_eq!(client.query("b"), StageState::Unknown);
}

#[test]
fn shutdown_and_term_end_the_agent_with_its_stages() {
    for by_message in [true, false] {
        let mut agent = Agent::start();
        let pid = agent.path("pid");
        let mut client = agent.connect();
        client.start(
            "a",
            agent.script(&format!("echo $$ > {}; sleep 1000", pid.display())),
        );
        let pid = written(&pid);
        let status = if by_message {
            client.send(&ToAgent::Shutdown);
            agent.child.wait().unwrap()
        } else {
            agent.end()
        };
        assert!(status.success());
        until("the stage's shell is gone", || !alive(&pid));
        assert!(!agent.socket().exists() && !agent.path("agent.sock.d").exists());
    }
}

#[test]
fn only_the_owner_reaches_the_socket_and_what_stages_make_is_open_to_all() {
    let agent = Agent::start();
    agent.connect();
    let mode = |name: &str| fs::metadata(agent.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("agent.sock") & 0o077, 0);
    assert_eq!(mode("agent.sock.d"), 0o700);
    agent
        .sources(
            "a",
            agent.script(&format!("touch {}", agent.path("made").display())),
        )
        .ok();
    assert_eq!(mode("made"), 0o666);
}

#[test]
fn an_agent_takes_over_the_socket_of_a_dead_one_but_not_of_a_living_one() {
    let mut agent = Agent::start();
    agent.connect();
    let second = |agent: &Agent| {
        let mut command = std::process::Command::new(crate::support::PROGRAM);
        command
            .args(["agent", "--socket"])
            .arg(agent.socket())
            .stderr(std::process::Stdio::piped());
        command.spawn().unwrap()
    };
    let output = second(&agent).wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("another agent listens at"));
    agent.child.kill().unwrap();
    agent.child.wait().unwrap();
    assert!(agent.socket().exists());
    let mut heir = second(&agent);
    // The socket of the dead one refuses until the new one is bound.
    agent.connect();
    terminate(heir.id());
    assert!(heir.wait().unwrap().success());
}
