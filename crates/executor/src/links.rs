//! Variables of linked services, as the engine's legacy container links made them (page: "Linked containers share their environment
//! variables"). Made here and not by the engine: a link to a service that has ended keeps the build container from starting, Podman has
//! no links, and newer engines no longer set the variables.

use gantry_container::{ContainerState, ContainerStatus};

/// What the build container gets to know of one service, by each of its aliases. None of a service that has ended: it has no address.
pub(crate) fn variables(
    build: &str,
    aliases: &[String],
    service: &ContainerState,
) -> Vec<(String, String)> {
    if service.status != ContainerStatus::Running {
        return Vec::new();
    }
    let Some(address) = service.addresses.values().flatten().next() else {
        return Vec::new();
    };
    let of_alias = |alias: &String| of_alias(build, alias, address, service);
    aliases.iter().flat_map(of_alias).collect()
}

/// Longest value that is shared. There is a copy by each alias, and the kernel bounds the environment as a whole.
const LONGEST: usize = 4096;

/// Neither what every container has, nor what GitLab and the runner tell all of the job's, build container included.
fn is_shared(key: &str) -> bool {
    const GENERAL: [&str; 7] = [
        "CI",
        "HOME",
        "HOSTNAME",
        "PATH",
        "RUNNER_TEMP_PROJECT_DIR",
        "TERM",
        "container", // Podman's mark
    ];
    let predefined = ["CI_", "FF_", "GITLAB_"];
    !GENERAL.contains(&key) && !predefined.iter().any(|start| key.starts_with(start))
}

fn of_alias(
    build: &str,
    alias: &str,
    address: &str,
    service: &ContainerState,
) -> Vec<(String, String)> {
    let prefix = alias.to_uppercase().replace('-', "_");
    let ports = &service.tcp_ports;
    let mut made = Vec::new();
    let mut set = |name: String, value: String| made.push((format!("{prefix}_{name}"), value));
    if let Some(first) = ports.first() {
        set("PORT".to_owned(), format!("tcp://{address}:{first}"));
    }
    for run in ports.chunk_by(|port, next| port.checked_add(1) == Some(*next)) {
        if let [first, .., last] = run {
            let name = format!("PORT_{first}_TCP");
            set(format!("{name}_START"), format!("tcp://{address}:{first}"));
            set(format!("{name}_ADDR"), address.to_owned());
            set(format!("{name}_PROTO"), "tcp".to_owned());
            set(format!("{name}_PORT_START"), first.to_string());
            set(format!("{name}_END"), format!("tcp://{address}:{last}"));
            set(format!("{name}_PORT_END"), last.to_string());
        }
    }
    for port in ports {
        let name = format!("PORT_{port}_TCP");
        set(name.clone(), format!("tcp://{address}:{port}"));
        set(format!("{name}_ADDR"), address.to_owned());
        set(format!("{name}_PORT"), port.to_string());
        set(format!("{name}_PROTO"), "tcp".to_owned());
    }
    set("NAME".to_owned(), format!("/{build}/{alias}"));
    let own = service
        .env
        .iter()
        .filter_map(|entry| entry.split_once('='))
        .filter(|(key, value)| is_shared(key) && value.len() <= LONGEST);
    for (key, value) in own {
        set(format!("ENV_{key}"), value.to_owned());
    }
    made
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn service(ports: &[u16]) -> ContainerState {
        ContainerState {
            env: [
                "PATH=/bin",
                "HOME=/root",
                "CI_JOB_ID=7",
                "FF_TIMESTAMPS=true",
                "POSTGRES_USER=ada",
                "EMPTY=",
            ]
            .map(str::to_owned)
            .to_vec(),
            addresses: [("bridge".to_owned(), vec!["172.17.0.3".to_owned()])].into(),
            tcp_ports: ports.to_vec(),
            ..ContainerState::bare("0123", "run-postgres-0", ContainerStatus::Running)
        }
    }

    fn lines(aliases: &[&str], service: &ContainerState) -> Vec<String> {
        let aliases: Vec<String> = aliases.iter().map(ToString::to_string).collect();
        variables("run-build", &aliases, service)
            .into_iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect()
    }

    #[test]
    fn a_service_shares_its_address_its_ports_and_its_variables_by_each_alias() {
        assert_eq!(
            lines(&["my-db"], &service(&[5432])),
            [
                "MY_DB_PORT=tcp://172.17.0.3:5432",
                "MY_DB_PORT_5432_TCP=tcp://172.17.0.3:5432",
                "MY_DB_PORT_5432_TCP_ADDR=172.17.0.3",
                "MY_DB_PORT_5432_TCP_PORT=5432",
                "MY_DB_PORT_5432_TCP_PROTO=tcp",
                "MY_DB_NAME=/run-build/my-db",
                "MY_DB_ENV_POSTGRES_USER=ada",
                "MY_DB_ENV_EMPTY=",
            ]
        );
        assert_eq!(
            lines(&["a", "b"], &service(&[])),
            [
                "A_NAME=/run-build/a",
                "A_ENV_POSTGRES_USER=ada",
                "A_ENV_EMPTY=",
                "B_NAME=/run-build/b",
                "B_ENV_POSTGRES_USER=ada",
                "B_ENV_EMPTY=",
            ]
        );
    }

    #[rstest]
    #[case(&[80, 443], &[])]
    #[case(&[7000, 7001, 7002, 9000], &[
        "S_PORT_7000_TCP_START=tcp://172.17.0.3:7000",
        "S_PORT_7000_TCP_PORT_START=7000",
        "S_PORT_7000_TCP_END=tcp://172.17.0.3:7002",
        "S_PORT_7000_TCP_PORT_END=7002",
    ])]
    fn ports_in_a_row_are_a_range_too(#[case] ports: &[u16], #[case] range: &[&str]) {
        let found = lines(&["s"], &service(ports));
        let ranges: Vec<_> = found
            .iter()
            .filter(|line| line.contains("START") || line.contains("END="))
            .collect();
        assert_eq!(ranges, range);
    }

    #[test]
    fn a_long_value_stays_with_the_service() {
        let mut service = service(&[]);
        service.env = vec![
            format!("LONG={}", "x".repeat(LONGEST + 1)),
            "A=b".to_owned(),
        ];
        assert_eq!(
            lines(&["s"], &service),
            ["S_NAME=/run-build/s", "S_ENV_A=b"]
        );
    }

    #[test]
    fn a_service_that_has_ended_shares_nothing() {
        let mut ended = service(&[80]);
        ended.status = ContainerStatus::Exited;
        assert!(lines(&["s"], &ended).is_empty());
    }
}
