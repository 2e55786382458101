//! Whatever a server sends and a configuration says: an answer, never a panic.

use std::time::Duration;

use gantry_config::{LogDriver, PullPolicy, RunnerConfig};
use gantry_container::{EngineFacts, EngineFlavor};
use gantry_job::{
    JobPayload, TlsFiles, Variable,
    payload::{Artifact, Cache, Credential, GitInfo, Image, JobInfo, RunnerInfo, Step},
};
use gantry_plan::{
    ArtifactsAt, HostFacts, Inputs, Numbers, Sources, job_url, log_plan, plan, refusal, render,
};
use proptest::{collection::vec, option, prelude::*};

/// Text as it may come: plain, with what means something to someone, and any characters at all.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => "[a-z]{0,8}",
        3 => "[a-zA-Z0-9/:@$.{}_ -]{0,24}",
        2 => prop::sample::select(vec![
            "", "$A", "${A}", "${A", "$$", "$CI_PROJECT_DIR", "..", "/", "/..", "https://h/g/p.git",
            "https://u:p@h:1/g/%zz.git", "https://é@ü/ö.git?x#y", "git@h:g/p", "://", "none", "empty", "\0",
            "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", "redis:5@sha256:x",
            "-1", "99999999999999999999", "1h", "true", "recursive", "after_script", "release",
        ]).prop_map(str::to_owned),
        1 => any::<String>(),
    ]
}

fn variable() -> impl Strategy<Value = Variable> {
    let key = prop_oneof![
        2 => prop::sample::select(vec![
            "A", "B", "GIT_STRATEGY", "GIT_CLONE_PATH", "GIT_DEPTH", "FF_NETWORK_PER_BUILD", "CI_DEBUG_TRACE",
            "RUNNER_SCRIPT_TIMEOUT", "GET_SOURCES_ATTEMPTS", "DOCKER_AUTH_CONFIG", "CI_PROJECT_PATH",
        ]).prop_map(str::to_owned),
        1 => text(),
    ];
    (key, text(), any::<[bool; 4]>()).prop_map(|(key, value, [public, file, masked, raw])| {
        Variable {
            public,
            file,
            masked,
            raw,
            ..Variable::new(key, value)
        }
    })
}

/// Mostly entries that can be used, so that plans are made.
fn volume() -> impl Strategy<Value = String> {
    prop_oneof![
        16 => prop::sample::select(vec![
            "/cache", "/cache/", "/srv/a:/a:ro", "/srv:/builds", "store:/x", "/builds", "/$A/y", "/h:/$B/z:rw,z",
        ]).prop_map(str::to_owned),
        1 => text(),
    ]
}

prop_compose! {
    fn image()(
        name in text(),
        alias in text(),
        words in vec(text(), 0..3),
        variables in vec(variable(), 0..3),
        pull_policy in vec(prop_oneof![8 => Just("always".to_owned()), 1 => text()], 0..2),
        [platform, user] in [text(), text()],
        reference in option::weighted(0.9, prop::sample::select(vec!["ruby:3", "redis", "reg.example.com:5000/a/b"])),
    ) -> Image {
        let mut image = Image {
            name: reference.map_or(name, str::to_owned),
            alias,
            command: words.clone(),
            entrypoint: words,
            variables,
            pull_policy,
            ..Image::default()
        };
        image.executor_opts.docker.platform = platform;
        image.executor_opts.docker.user = user;
        image
    }
}

prop_compose! {
    fn payload()(
        numbers in any::<[i64; 5]>(),
        texts in vec(text(), 8),
        variables in vec(variable(), 0..8),
        steps in vec((text(), vec(text(), 0..3)), 0..4),
        image in option::of(image()),
        services in vec(image(), 0..3),
        protected in option::of(any::<bool>()),
        extras in any::<bool>(),
    ) -> JobPayload {
        let [id, project_id, pipeline_id, timeout, depth] = numbers;
        let of = |index: usize| texts[index].clone();
        JobPayload {
            id,
            token: of(0).into(),
            allow_git_fetch: extras,
            job_info: JobInfo { name: of(1), project_id, pipeline_id, ..JobInfo::default() },
            git_info: GitInfo {
                repo_url: of(2).into(),
                ref_name: of(3),
                sha: of(4),
                refspecs: vec![of(5)],
                repo_object_format: of(6),
                depth,
                protected,
                ..GitInfo::default()
            },
            runner_info: RunnerInfo { timeout, ..RunnerInfo::default() },
            variables,
            steps: steps.into_iter().map(|(name, script)| Step { name, script, ..Step::default() }).collect(),
            image,
            services,
            cache: extras.then(|| Cache { key: of(7), paths: vec![of(1)], ..Cache::default() }).into_iter().collect(),
            artifacts: extras.then(|| Artifact { paths: vec![of(7)], ..Artifact::default() }).into_iter().collect(),
            credentials: vec![Credential { kind: "registry".to_owned(), url: of(7), password: of(0).into(), ..Credential::default() }],
            ..JobPayload::default()
        }
    }
}

prop_compose! {
    fn runner()(
        texts in vec(text(), 8),
        set in any::<[bool; 8]>(),
        volumes in vec(volume(), 0..3),
        sizes in any::<[u64; 4]>(),
        environment in vec((text(), text()), 0..3),
    ) -> RunnerConfig {
        let given = |index: usize| set[index].then(|| texts[index].clone());
        let mut runner = RunnerConfig {
            name: texts[0].clone(),
            token: texts[1].clone().into(),
            clone_url: given(2),
            environment: environment.into_iter().collect(),
            prepare_timeout: set[3].then(|| Duration::from_secs(sizes[3])),
            ..RunnerConfig::default()
        };
        if set[4] {
            runner.builds_dir = format!("/{}", texts[4]);
        }
        runner.docker.image = if set[5] { given(5) } else { Some("alpine".to_owned()) };
        runner.docker.helper_image = given(6);
        runner.docker.network_mode = given(7);
        runner.docker.user = given(0);
        runner.docker.volumes = volumes;
        runner.docker.disable_cache = set[1];
        runner.docker.memory = Some(sizes[0]);
        runner.docker.nano_cpus = Some(sizes[1]);
        runner.docker.wait_for_services_timeout = Some(Duration::from_secs(sizes[2]));
        runner.docker.pull_policy = vec![PullPolicy::Always, PullPolicy::Never];
        runner
    }
}

fn host() -> HostFacts {
    HostFacts {
        name: "host1".to_owned(),
        system_id: "sys".to_owned(),
        state_id: "state0".to_owned(),
        version: "19.4.0".to_owned(),
        revision: "abcdef12".to_owned(),
        executable_arch: "linux/amd64".to_owned(),
        helper_image: "gantry/helper:1".to_owned(),
        log_driver: LogDriver::Auto,
        link_variables: true,
        naming: gantry_config::Naming::default(),
        shared_local_cache: false,
        nested_variables: false,
        s3_multipart: true,
        mask_encoded: true,
    }
}

fn engine(podman: bool) -> EngineFacts {
    EngineFacts {
        flavor: if podman {
            EngineFlavor::Podman
        } else {
            EngineFlavor::Docker
        },
        version: String::new(),
        api_version: "1.41".to_owned(),
        os: "linux".to_owned(),
        architecture: "x86_64".to_owned(),
        host_name: String::new(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_payload_and_no_config_make_it_panic(
        payload in payload(),
        runner in runner(),
        podman in any::<bool>(),
        local in any::<bool>(),
        numbers in any::<[u32; 2]>(),
        seed in any::<[u8; 8]>(),
    ) {
        let (host, engine, tls) = (host(), engine(podman), TlsFiles::default());
        let numbers = Numbers { concurrent: numbers[0], concurrent_project: numbers[1] };
        let log = log_plan(&payload, &runner, &host, numbers, &[]);
        prop_assert!(log.header.len() >= 2);
        refusal(&payload, |_| false);
        job_url(&payload);
        let inputs = Inputs {
            payload: &payload,
            runner: &runner,
            host: &host,
            engine: &engine,
            numbers,
            seed,
            tls: &tls,
            correlation_id: None,
            sources: if local { Sources::WorkingTree } else { Sources::Git },
            secrets: &[],
            artifacts: if local { ArtifactsAt::Here } else { ArtifactsAt::Server },
        };
        let Ok(plan) = plan(&inputs) else { return Ok(()) };

        // What holds for every plan.
        prop_assert!(plan.directories.project.starts_with('/'));
        prop_assert!(!plan.directories.project.contains("/../"));
        prop_assert!(!plan.build.image.policies.is_empty());
        for volume in &plan.volumes {
            let owned = volume.spec.labels.contains_key(gantry_plan::STATE_LABEL);
            prop_assert_eq!(owned, volume.temporary);
        }
        let binds = &plan.build.spec.host.binds;
        for container in plan.helper.iter().chain(plan.services.iter().map(|service| &service.container)) {
            prop_assert_eq!(&container.spec.host.binds, binds);
        }
        let text = render::text(&plan, &log.masks);
        let json = render::json(&plan, &log.masks).to_string();
        for phrase in log.masks.phrases.iter().filter(|phrase| phrase.len() > 12) {
            prop_assert!(!text.contains(phrase.as_str()) && !json.contains(phrase.as_str()));
        }
        let journaled = serde_json::to_string(&plan).unwrap();
        let back: gantry_plan::Plan = serde_json::from_str(&journaled).unwrap();
        prop_assert_eq!(serde_json::to_string(&back).unwrap(), journaled);
    }
}
