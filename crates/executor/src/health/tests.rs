use gantry_plan::ServiceCheck;
use rstest::rstest;

use super::*;

fn state(env: &[&str], tcp_ports: &[u16]) -> ContainerState {
    ContainerState {
        env: env.iter().map(ToString::to_string).collect(),
        addresses: [
            ("a".to_owned(), vec!["172.17.0.3".to_owned()]),
            (
                "b".to_owned(),
                vec!["172.18.0.2".to_owned(), "fd00::2".to_owned()],
            ),
        ]
        .into(),
        tcp_ports: tcp_ports.to_vec(),
        ..ContainerState::bare("0123", "run-postgres-0", ContainerStatus::Running)
    }
}

#[rstest]
#[case::none(&[], &[], Ok(vec![]))]
#[case::exposed(&[], &[80, 443], Ok(vec![80, 443]))]
#[case::named(&["HEALTHCHECK_TCP_PORT=27017"], &[80], Ok(vec![27017]))]
#[case::named_in_any_case(&["healthcheck_tcp_port=1"], &[], Ok(vec![1]))]
#[case::the_first_named(&["HEALTHCHECK_TCP_PORT=1", "HEALTHCHECK_TCP_PORT=2"], &[], Ok(vec![1]))]
#[case::another_variable(&["MY_HEALTHCHECK_TCP_PORT=1"], &[80], Ok(vec![80]))]
#[case::no_number(&["HEALTHCHECK_TCP_PORT=http"], &[80], Err("invalid health check tcp port: http "))]
#[case::empty(&["HEALTHCHECK_TCP_PORT="], &[80], Err("invalid health check tcp port:  "))]
#[case::zero(&["HEALTHCHECK_TCP_PORT=0"], &[80], Err("invalid health check tcp port: 0 "))]
#[case::too_great(&["HEALTHCHECK_TCP_PORT=65536"], &[], Err("invalid health check tcp port: 65536 "))]
fn the_ports_looked_at_are_the_named_one_or_those_exposed(
    #[case] env: &[&str],
    #[case] exposed: &[u16],
    #[case] expected: Result<Vec<u16>, &str>,
) {
    match (ports(&state(env, exposed)), expected) {
        (Ok(found), Ok(expected)) => assert_eq!(found, expected),
        (Err(cause), Err(expected)) => {
            assert!(matches!(cause, Cause::Configuration { .. }));
            let message = cause.message();
            let expected = format!("getting exposed ports: {expected}");
            assert!(message.contains(&expected), "{message}");
        }
        (found, expected) => panic!("{found:?}, expected {expected:?}"),
    }
}

#[test]
fn of_many_exposed_ports_the_20_lowest_are_looked_at() {
    let exposed: Vec<u16> = (1..=101).collect();
    let expected: Vec<u16> = (1..=20).collect();
    assert_eq!(ports(&state(&[], &exposed)).unwrap(), expected);
}

fn check(loopback: bool) -> ServiceCheck {
    ServiceCheck {
        name: "run-wait-for-services".to_owned(),
        spec: gantry_container::ContainerSpec::default(),
        loopback,
    }
}

#[rstest]
#[case::of_its_own(
    false,
    "172.17.0.3:80 172.17.0.3:81 172.18.0.2:80 172.18.0.2:81 [fd00::2]:80 [fd00::2]:81"
)]
#[case::shared(true, "127.0.0.1:80 127.0.0.1:81 [::1]:80 [::1]:81")]
fn a_service_is_looked_for_at_all_its_addresses(#[case] loopback: bool, #[case] expected: &str) {
    let found = addresses(&check(loopback), &state(&[], &[]), &[80, 81]);
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(found.join(" "), expected);
}

#[rstest]
#[case(0, false, "has ended with exit code 0, though a service has to go on")]
#[case(1, false, "has ended with exit code 1; its log says why")]
#[case(126, false, "has ended with exit code 126; its command cannot be")]
#[case(127, false, "has ended with exit code 127; its command is not in")]
#[case(137, false, "has ended with exit code 137; somebody killed it")]
#[case(
    137,
    true,
    "was killed: out of memory (exit code 137); raise service_memory"
)]
fn how_a_service_ended_is_told_with_what_to_do(
    #[case] exit_code: i64,
    #[case] oom_killed: bool,
    #[case] expected: &str,
) {
    let mut ended = state(&[], &[]);
    ended.status = ContainerStatus::Exited;
    ended.exit_code = exit_code;
    ended.oom_killed = oom_killed;
    let text = Fault::of(&ended).text("run-db-0");
    assert!(
        text.starts_with(&format!("service \"run-db-0\" {expected}")),
        "{text}"
    );
}

#[test]
fn the_block_of_a_service_has_its_error_and_both_logs() {
    assert_eq!(
        block(
            "run-db-0",
            &Fault::TimedOut.text("run-db-0"),
            "t1 dialing\n",
            "t2 booting\n"
        ),
        "\n\x1b[0;33m*** WARNING:\x1b[0;m Service run-db-0 probably didn't start properly.\n\n\
         Health check error:\nservice \"run-db-0-wait-for-service\" timeout\n\n\
         Health check container logs:\nt1 dialing\n\n\
         Service container logs:\nt2 booting\n\n\x1b[0;33m*********\x1b[0;m\n\n"
    );
    let without = block("s", &Fault::Removed.text("s"), "", "");
    assert!(!without.contains("Health check container logs"));
}

#[test]
fn lines_are_put_together_from_pieces_of_either_stream() {
    let mut said = Said::default();
    let chunk = |stream, text: &str| LogChunk {
        stream,
        bytes: text.to_owned().into(),
    };
    assert_eq!(said.lines(&chunk(StdStream::Stdout, "0\n1")), ["0"]);
    assert_eq!(said.lines(&chunk(StdStream::Stderr, "2 no\n")), ["2 no"]);
    assert_eq!(said.lines(&chunk(StdStream::Stdout, "2\n")), ["12"]);
}
