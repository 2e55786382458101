//! `[runners.docker]` (docker-executor §1).

use super::{Key, Kind, Section, Variable};

pub(super) static SECTION: Section = Section {
    path: "runners.docker",
    what: "containers",
    keys: &[
        // §1.1 connection
        Key::new(
            "host",
            Kind::Text,
            "",
            "endpoint of the engine; else $DOCKER_HOST, else the platform's socket",
        )
        .variable(Variable::Under("DOCKER_HOST")),
        Key::new(
            "tls_cert_path",
            Kind::Text,
            "",
            "folder with ca.pem, cert.pem and key.pem",
        ),
        Key::new("tls_verify", Kind::Bool, "false", "TLS to the engine"),
        // §1.2 images and policies
        Key::new("image", Kind::Text, "", "image of jobs that name none"),
        Key::new(
            "pull_policy",
            Kind::Policies,
            "always",
            "when images are pulled: always, if-not-present, never, or several to try in turn",
        ),
        Key::new(
            "allowed_pull_policies",
            Kind::PolicyList,
            "",
            "pull policies jobs may ask for",
        )
        .not_yet("jobs may ask for any"),
        Key::new("allowed_images", Kind::List, "", "images jobs may use")
            .not_yet("jobs may use any image"),
        Key::new("allowed_services", Kind::List, "", "services jobs may use"),
        Key::new(
            "allowed_privileged_images",
            Kind::List,
            "",
            "images that may be privileged",
        )
        .not_yet("privileged goes for all images"),
        Key::new(
            "allowed_privileged_services",
            Kind::List,
            "",
            "services that may be privileged",
        ),
        Key::new(
            "helper_image",
            Kind::Text,
            "",
            "image of the helper container",
        ),
        Key::new(
            "helper_image_flavor",
            Kind::Text,
            "alpine",
            "flavour of the default helper image",
        )
        .not_yet(""),
        Key::new(
            "disable_entrypoint_overwrite",
            Kind::Bool,
            "false",
            "entrypoints of jobs and of services are ignored",
        ),
        // §1.3 containers
        Key::new("hostname", Kind::Text, "", "host name of build and helper").not_yet(""),
        Key::new("user", Kind::Text, "", "user of the build container"),
        Key::new("allowed_users", Kind::List, "", "users jobs may run as")
            .not_yet("jobs may run as any user"),
        Key::new(
            "privileged",
            Kind::Bool,
            "false",
            "extended privileges for all containers",
        ),
        Key::new(
            "services_privileged",
            Kind::Bool,
            "",
            "extended privileges for services; else as privileged",
        )
        .zero_counts(),
        Key::new("cap_add", Kind::List, "", "capabilities to add").not_yet(""),
        Key::new("cap_drop", Kind::List, "", "capabilities to drop")
            .not_yet("containers keep them"),
        Key::new("group_add", Kind::List, "", "additional groups").not_yet(""),
        Key::new("security_opt", Kind::List, "", "security options")
            .not_yet("the engine's defaults apply"),
        Key::new(
            "services_security_opt",
            Kind::List,
            "",
            "security options of services",
        ),
        Key::new("userns_mode", Kind::Text, "", "user namespace").not_yet(""),
        Key::new(
            "pid_mode",
            Kind::Text,
            "",
            "PID namespace of the build container",
        )
        .not_yet(""),
        Key::new("ipcmode", Kind::Text, "", "IPC namespace").not_yet(""),
        Key::new("runtime", Kind::Text, "", "OCI runtime")
            .not_yet("the engine's default runtime is used"),
        Key::new("isolation", Kind::Text, "", "isolation (Windows)").not_yet(""),
        Key::new(
            "shm_size",
            Kind::Bytes,
            "0",
            "size of /dev/shm in bytes; 0: the engine's default",
        ),
        Key::new("tmpfs", Kind::Texts, "", "tmpfs mounts: path to options").not_yet(""),
        Key::new(
            "services_tmpfs",
            Kind::Texts,
            "",
            "tmpfs mounts of services",
        ),
        Key::new("sysctls", Kind::Texts, "", "kernel parameters").not_yet(""),
        Key::new("ulimit", Kind::Texts, "", "limits: name to soft[:hard]").not_yet(""),
        Key::new("devices", Kind::List, "", "devices of the host").not_yet(""),
        Key::new("device_cgroup_rules", Kind::List, "", "device rules").not_yet(""),
        Key::new(
            "services_devices",
            Kind::Lists,
            "",
            "devices of the host for services: pattern of their image to devices",
        ),
        Key::new("gpus", Kind::Text, "", "GPUs").not_yet(""),
        Key::new(
            "service_gpus",
            Kind::Text,
            "",
            "GPUs of services, as for docker run --gpus",
        ),
        Key::new(
            "oom_kill_disable",
            Kind::Bool,
            "false",
            "no kill when out of memory",
        )
        .not_yet(""),
        Key::new(
            "oom_score_adjust",
            Kind::Int,
            "0",
            "order of kills when out of memory",
        )
        .not_yet(""),
        Key::new(
            "memory",
            Kind::Size,
            "",
            "memory limit of build and helper, such as 512m",
        ),
        Key::new("memory_swap", Kind::Size, "", "memory and swap limit").not_yet(""),
        Key::new("memory_reservation", Kind::Size, "", "soft memory limit").not_yet(""),
        Key::new("service_memory", Kind::Size, "", "memory limit of services"),
        Key::new(
            "service_memory_swap",
            Kind::Size,
            "",
            "memory and swap limit of services",
        ),
        Key::new(
            "service_memory_reservation",
            Kind::Size,
            "",
            "soft memory limit of services",
        ),
        Key::new(
            "cpus",
            Kind::Cpus,
            "",
            "CPUs of build and helper, such as 1.5 or 1/3",
        ),
        Key::new("service_cpus", Kind::Cpus, "", "CPUs of services"),
        Key::new("cpu_shares", Kind::Int, "0", "relative weight").not_yet(""),
        Key::new(
            "service_cpu_shares",
            Kind::Int,
            "0",
            "relative weight of services",
        ),
        Key::new("cpuset_cpus", Kind::Text, "", "CPUs to run on").not_yet(""),
        Key::new(
            "service_cpuset_cpus",
            Kind::Text,
            "",
            "CPUs services run on",
        ),
        Key::new("cpuset_mems", Kind::Text, "", "memory nodes").not_yet(""),
        Key::new("cgroup_parent", Kind::Text, "", "parent cgroup").not_yet(""),
        Key::new(
            "service_cgroup_parent",
            Kind::Text,
            "",
            "parent cgroup of services",
        ),
        Key::new(
            "service_slot_cgroup_template",
            Kind::Text,
            "",
            "cgroup of services by autoscaler slot",
        )
        .with("use_slot_cgroups"),
        Key::new(
            "log_options",
            Kind::Texts,
            "",
            "env and labels of container logs",
        )
        .not_yet(""),
        Key::new("container_labels", Kind::Texts, "", "labels of containers").not_yet(""),
        // §1.4 networks
        Key::new("network_mode", Kind::Text, "", "network of all containers"),
        Key::new(
            "enable_ipv6",
            Kind::Bool,
            "false",
            "IPv6 in per-job networks",
        )
        .not_yet(""),
        Key::new(
            "network_mtu",
            Kind::Int,
            "0",
            "MTU of per-job networks; 0: the engine's default",
        )
        .not_yet(""),
        Key::new("mac_address", Kind::Text, "", "MAC address").not_yet(""),
        Key::new("dns", Kind::List, "", "name servers")
            .not_yet("the engine's name servers are used"),
        Key::new("dns_search", Kind::List, "", "search domains").not_yet(""),
        Key::new(
            "extra_hosts",
            Kind::List,
            "",
            "host:ip lines for /etc/hosts",
        ),
        Key::new("links", Kind::List, "", "links to running containers").not_yet(""),
        // §1.5 volumes and cache
        Key::new("volumes", Kind::FilledList, "", "volumes of all containers"),
        Key::new(
            "volumes_from",
            Kind::List,
            "",
            "containers whose volumes are taken",
        )
        .not_yet(""),
        Key::new("volume_driver", Kind::Text, "", "volume driver")
            .not_yet("the engine's default driver is used"),
        Key::new(
            "volume_driver_ops",
            Kind::Texts,
            "",
            "options of the volume driver",
        )
        .not_yet(""),
        Key::new(
            "volume_keep",
            Kind::Bool,
            "false",
            "anonymous volumes stay after a job",
        )
        .not_yet("they are removed"),
        Key::new(
            "cache_dir",
            Kind::Text,
            "",
            "folder of the engine's host for cache volumes, in place of volumes of the engine",
        ),
        Key::new(
            "disable_cache",
            Kind::Bool,
            "false",
            "cache volumes go with their job",
        ),
        // §1.6 services
        Key::new(
            "services",
            Kind::Tables(&SERVICES),
            "",
            "services of every job",
        ),
        Key::new(
            "services_limit",
            Kind::Int,
            "-1",
            "greatest number of services of a job; -1: no limit",
        )
        .zero_counts(),
        Key::new(
            "wait_for_services_timeout",
            Kind::Int,
            "30",
            "seconds services may take to become reachable; negative: no check",
        ),
    ],
};

static SERVICES: Section = Section {
    path: "runners.docker.services",
    what: "one service of every job",
    keys: &[
        Key::new("name", Kind::Text, "", "image"),
        Key::new("alias", Kind::Text, "", "names in the network"),
        Key::new("command", Kind::List, "", "command"),
        Key::new("entrypoint", Kind::List, "", "entrypoint"),
        Key::new("environment", Kind::List, "", "KEY=value variables").secret(),
        Key::new("suspend_data_path", Kind::Text, "", "kubernetes only").foreign(),
    ],
};
