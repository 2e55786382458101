//! A job, its runner and their surroundings, as tests need them: plain defaults, of which a test changes what it is about.

use std::collections::BTreeMap;

use gantry_config::{DockerConfig, LogDriver, RunnerConfig};
use gantry_container::{EngineFacts, EngineFlavor};
use gantry_job::{
    Cause, JobPayload, TlsFiles, Variable,
    payload::{GitInfo, Image, JobInfo, ServerFeatures, Step},
};

use crate::{ArtifactsAt, HostFacts, Inputs, LogPlan, Numbers, Plan, Sources, resolve::Resolved};

/// The job's token, which no output may show.
pub(crate) const JOB_TOKEN: &str = "glcbt-64_job-token";

#[derive(Clone)]
pub(crate) struct Fixture {
    pub(crate) payload: JobPayload,
    pub(crate) runner: RunnerConfig,
    pub(crate) host: HostFacts,
    pub(crate) engine: EngineFacts,
    pub(crate) numbers: Numbers,
    pub(crate) tls: TlsFiles,
    pub(crate) sources: Sources,
    pub(crate) secrets: Vec<Variable>,
    pub(crate) artifacts: ArtifactsAt,
}

impl Fixture {
    /// Job 42 of project 7, image `ruby:3.3`, one command, strategy fetch; runner with token `tok` on system `sys`.
    pub(crate) fn new() -> Self {
        let payload = JobPayload {
            id: 42,
            token: JOB_TOKEN.into(),
            allow_git_fetch: true,
            job_info: JobInfo {
                name: "test".to_owned(),
                stage: "test".to_owned(),
                project_id: 7,
                pipeline_id: 99,
                ..JobInfo::default()
            },
            git_info: GitInfo {
                repo_url: format!(
                    "https://gitlab-ci-token:{JOB_TOKEN}@gitlab.example.com/group/project.git"
                )
                .into(),
                ref_name: "main".to_owned(),
                sha: "265c14cf0a1b2c3d4e5f60718293a4b5c6d7e8f9".to_owned(),
                before_sha: "0".repeat(40),
                refspecs: vec!["+refs/heads/main:refs/remotes/origin/main".to_owned()],
                depth: 20,
                protected: Some(false),
                ..GitInfo::default()
            },
            steps: vec![step("script", &["make test"])],
            image: Some(image("ruby:3.3")),
            features: ServerFeatures {
                trace_sections: true,
                ..ServerFeatures::default()
            },
            ..JobPayload::default()
        };
        let runner = RunnerConfig {
            name: "host1".to_owned(),
            url: "https://gitlab.example.com".to_owned(),
            token: "tok".into(),
            ..RunnerConfig::default()
        };
        Self {
            payload,
            runner,
            host: HostFacts {
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
            },
            engine: EngineFacts {
                flavor: EngineFlavor::Docker,
                version: "20.10.24".to_owned(),
                api_version: "1.41".to_owned(),
                os: "linux".to_owned(),
                architecture: "x86_64".to_owned(),
                host_name: "engine1".to_owned(),
            },
            numbers: Numbers::default(),
            tls: TlsFiles::default(),
            sources: Sources::Git,
            secrets: Vec::new(),
            artifacts: ArtifactsAt::Server,
        }
    }

    /// Changes anything.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Changes `[runners.docker]`.
    pub(crate) fn docker(self, change: impl FnOnce(&mut DockerConfig)) -> Self {
        self.with(|it| change(&mut it.runner.docker))
    }

    /// `volumes` in `[runners.docker]`.
    pub(crate) fn volumes(self, entries: &[&str]) -> Self {
        self.docker(|docker| docker.volumes = strings(entries))
    }

    /// A public job variable.
    pub(crate) fn variable(self, key: &str, value: &str) -> Self {
        self.push(public(key, value))
    }

    /// A job variable with its flags.
    pub(crate) fn push(self, variable: Variable) -> Self {
        self.with(|it| it.payload.variables.push(variable))
    }

    /// `[runners.feature_flags]`.
    pub(crate) fn flag(self, name: &str, on: bool) -> Self {
        let entry = [(name.to_owned(), on)];
        self.with(|it| it.runner.feature_flags.extend(entry))
    }

    /// `[[runners]] environment`.
    pub(crate) fn environment(self, entries: &[(&str, &str)]) -> Self {
        let entries = entries
            .iter()
            .map(|&(key, value)| (key.to_owned(), value.to_owned()));
        self.with(|it| it.runner.environment = entries.collect())
    }

    pub(crate) fn service(self, service: Image) -> Self {
        self.with(|it| it.payload.services.push(service))
    }

    pub(crate) fn inputs(&self) -> Inputs<'_> {
        Inputs {
            payload: &self.payload,
            runner: &self.runner,
            host: &self.host,
            engine: &self.engine,
            numbers: self.numbers,
            seed: [0, 1, 2, 3, 4, 5, 6, 0xff],
            tls: &self.tls,
            correlation_id: Some("01CORRELATION"),
            sources: self.sources,
            secrets: &self.secrets,
            artifacts: self.artifacts,
        }
    }

    pub(crate) fn try_plan(&self) -> Result<Plan, Cause> {
        crate::plan(&self.inputs())
    }

    pub(crate) fn plan(&self) -> Plan {
        self.try_plan()
            .unwrap_or_else(|cause| panic!("{}", cause.message()))
    }

    /// The message of a job that cannot be planned because of a mistake in job or configuration.
    pub(crate) fn mistake(&self) -> String {
        match self.try_plan() {
            Err(Cause::Configuration { message }) => message,
            Err(other) => panic!("not a mistake of the configuration: {other:?}"),
            Ok(_) => panic!("the job is planned"),
        }
    }

    pub(crate) fn resolved(&self) -> Resolved {
        crate::resolve::resolve(&self.inputs())
            .unwrap_or_else(|cause| panic!("{}", cause.message()))
    }

    pub(crate) fn log_plan(&self) -> LogPlan {
        crate::log_plan(
            &self.payload,
            &self.runner,
            &self.host,
            self.numbers,
            &self.secrets,
        )
    }
}

pub(crate) fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

pub(crate) fn image(name: &str) -> Image {
    Image {
        name: name.to_owned(),
        ..Image::default()
    }
}

pub(crate) fn service(name: &str, alias: &str) -> Image {
    Image {
        alias: alias.to_owned(),
        ..image(name)
    }
}

pub(crate) fn step(name: &str, lines: &[&str]) -> Step {
    Step {
        name: name.to_owned(),
        script: strings(lines),
        ..Step::default()
    }
}

pub(crate) fn public(key: &str, value: &str) -> Variable {
    Variable {
        public: true,
        ..Variable::new(key, value)
    }
}

pub(crate) fn masked(key: &str, value: &str) -> Variable {
    Variable {
        masked: true,
        ..Variable::new(key, value)
    }
}

pub(crate) fn file(key: &str, content: &str) -> Variable {
    Variable {
        file: true,
        ..Variable::new(key, content)
    }
}

/// The values of a key in an environment, in order.
pub(crate) fn values<'a>(env: &'a gantry_container::Env, key: &str) -> Vec<&'a str> {
    let entries = env.0.iter().filter(|(name, _)| name == key);
    entries.map(|(_, value)| value.as_str()).collect()
}

/// Labels without the prefix of the peer; others as they are.
pub(crate) fn short_labels(labels: &gantry_container::Labels) -> BTreeMap<&str, &str> {
    labels
        .iter()
        .map(|(key, value)| {
            let key = key.strip_prefix(crate::LABEL_PREFIX).unwrap_or(key);
            (key, value.as_str())
        })
        .collect()
}
