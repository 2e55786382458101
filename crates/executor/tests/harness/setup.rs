use std::{collections::BTreeMap, time::Duration};

use gantry_config::{DockerConfig, LogDriver, PullPolicy, RunnerConfig};
use gantry_container::EngineFlavor;
use gantry_engine::fake::FakeImage;
use gantry_job::{
    JobPayload, Variable,
    payload::{
        Artifact, Cache, Dependency, DependencyFile, GitInfo, Image, JobInfo, PolicyOptions,
        RunnerInfo, ServerFeatures, Step,
    },
};
use gantry_plan::{ArtifactsAt, HostFacts, Sources};

use super::{shell, work::Work};

pub(crate) const BUILD_IMAGE: &str = "alpine:3.20";
pub(crate) const HELPER_IMAGE: &str = "gantry/helper:1";

/// A job, its runner, the engine's images, and what the job's containers do. Plain defaults, of which a test changes what it is
/// about: image `alpine:3.20`, no sources, no helper.
pub(crate) struct Setup {
    pub(crate) payload: JobPayload,
    pub(crate) runner: RunnerConfig,
    pub(crate) flavor: EngineFlavor,
    pub(crate) sources: Sources,
    pub(crate) artifacts: ArtifactsAt,
    /// Local images besides the build image, the helper's and those of services.
    pub(crate) images: Vec<FakeImage>,
    /// Images that can be pulled; the job's own are not local then.
    pub(crate) registry: Option<Vec<FakeImage>>,
    pub(crate) image: shell::Image,
    /// Stage → what its script does the first, second … time.
    pub(crate) work: BTreeMap<String, Vec<Work>>,
    /// Stage attempt or stage → what the helper does.
    pub(crate) helper: BTreeMap<String, Work>,
}

impl Setup {
    /// A job with one script.
    pub(crate) fn script(work: Work) -> Self {
        Self::new().step("script", work)
    }

    /// A job without a step.
    pub(crate) fn new() -> Self {
        let payload = JobPayload {
            id: 42,
            token: "glcbt-64_job-token".into(),
            allow_git_fetch: true,
            job_info: JobInfo {
                name: "test".to_owned(),
                stage: "test".to_owned(),
                project_id: 7,
                pipeline_id: 99,
                ..JobInfo::default()
            },
            git_info: GitInfo {
                repo_url:
                    "https://gitlab-ci-token:glcbt-64_job-token@gitlab.example.com/g/project.git"
                        .into(),
                ref_name: "main".to_owned(),
                sha: "265c14cf0a1b2c3d4e5f60718293a4b5c6d7e8f9".to_owned(),
                refspecs: vec!["+refs/heads/main:refs/remotes/origin/main".to_owned()],
                depth: 20,
                ..GitInfo::default()
            },
            runner_info: RunnerInfo {
                timeout: 3600,
                ..RunnerInfo::default()
            },
            image: Some(Image {
                name: BUILD_IMAGE.to_owned(),
                ..Image::default()
            }),
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
            docker: DockerConfig {
                pull_policy: vec![PullPolicy::IfNotPresent],
                ..DockerConfig::default()
            },
            ..RunnerConfig::default()
        };
        Self {
            payload,
            runner,
            flavor: EngineFlavor::Docker,
            sources: Sources::Git,
            artifacts: ArtifactsAt::Server,
            images: Vec::new(),
            registry: None,
            image: shell::Image::default(),
            work: BTreeMap::new(),
            helper: BTreeMap::new(),
        }
        .variable("GIT_STRATEGY", "none")
    }

    /// Changes anything.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// A public job variable; the last of a key counts.
    pub(crate) fn variable(mut self, key: &str, value: &str) -> Self {
        self.payload.variables.push(Variable {
            public: true,
            ..Variable::new(key, value)
        });
        self
    }

    /// Sources by git on a kept volume, so that there is a helper.
    pub(crate) fn git(self) -> Self {
        self.variable("GIT_STRATEGY", "fetch")
            .helper("get_sources", fetches())
    }

    /// What the helper does in a stage attempt (`get_sources/2`) or stage.
    pub(crate) fn helper(mut self, stage: &str, work: Work) -> Self {
        self.helper.insert(stage.to_owned(), work);
        self
    }

    /// A cache to restore, and to save however the job ends.
    pub(crate) fn cache(mut self) -> Self {
        self.payload.cache.push(Cache {
            key: "gems".to_owned(),
            paths: vec!["vendor".to_owned()],
            when: "always".to_owned(),
            ..Cache::default()
        });
        self
    }

    /// Artifacts to upload however the job ends.
    pub(crate) fn artifacts(mut self) -> Self {
        self.payload.artifacts.push(Artifact {
            paths: vec!["dist".to_owned()],
            when: "always".to_owned(),
            ..Artifact::default()
        });
        self
    }

    /// Artifacts of an earlier job.
    pub(crate) fn dependency(mut self) -> Self {
        self.payload.dependencies.push(Dependency {
            id: 41,
            token: "glcbt-64_other-token".into(),
            name: "build".to_owned(),
            artifacts_file: DependencyFile {
                filename: "artifacts.zip".to_owned(),
                size: 1,
            },
        });
        self
    }

    pub(crate) fn step(self, name: &str, work: Work) -> Self {
        self.step_each_time(name, vec![work])
    }

    /// A step that does something else the second time.
    pub(crate) fn step_each_time(mut self, name: &str, work: Vec<Work>) -> Self {
        self.payload.steps.push(Step {
            name: name.to_owned(),
            script: vec![format!("./{name}.sh"), "echo \"it's done\"".to_owned()],
            ..Step::default()
        });
        let stage = gantry_job::Stage::of_step(name).section_name().into_owned();
        self.work.insert(stage, work);
        self
    }

    pub(crate) fn after_script(self, work: Work) -> Self {
        self.step("after_script", work)
    }

    /// Two services and a network of the job's own.
    pub(crate) fn services(mut self) -> Self {
        for (name, alias) in [("postgres:16", "db"), ("redis:7", "cache kv")] {
            self.payload.services.push(Image {
                name: name.to_owned(),
                alias: alias.to_owned(),
                ..Image::default()
            });
            self.images.push(FakeImage::new(name));
        }
        self.variable("FF_NETWORK_PER_BUILD", "true")
    }

    /// As [`Self::services`], and each has a port to look at.
    pub(crate) fn services_with_ports(self) -> Self {
        self.services().with(|setup| {
            for (service, port) in setup.payload.services.iter_mut().zip(["5432", "6379"]) {
                let port = Variable::new("HEALTHCHECK_TCP_PORT", port);
                service.variables.push(port);
            }
        })
    }

    /// The image has this entrypoint.
    pub(crate) fn entrypoint(mut self, entrypoint: shell::Entrypoint) -> Self {
        self.image.entrypoint = Some(entrypoint);
        self
    }

    /// A policy made the job.
    pub(crate) fn policy(mut self, name: &str) -> Self {
        self.payload.policy_options = PolicyOptions {
            execution_policy_job: true,
            policy_name: name.to_owned(),
            ..PolicyOptions::default()
        };
        self
    }

    pub(crate) fn podman(mut self) -> Self {
        self.flavor = EngineFlavor::Podman;
        self
    }

    pub(crate) fn job_timeout(mut self, seconds: i64) -> Self {
        self.payload.runner_info.timeout = seconds;
        self
    }

    pub(crate) fn prepare_timeout(mut self, seconds: u64) -> Self {
        self.runner.prepare_timeout = Some(Duration::from_secs(seconds));
        self
    }

    pub(crate) fn get_sources_timeout(mut self, seconds: u64) -> Self {
        self.runner.get_sources_timeout = Some(Duration::from_secs(seconds));
        self
    }

    /// Local images of the job.
    pub(crate) fn local_images(&self) -> Vec<FakeImage> {
        let mut images = self.images.clone();
        images.push(FakeImage::new(HELPER_IMAGE));
        if self.registry.is_none() {
            images.push(self.build_image());
        }
        images
    }

    /// The build image with the entrypoint it is to have.
    pub(crate) fn build_image(&self) -> FakeImage {
        let has_entrypoint = self.image.entrypoint.is_some();
        FakeImage::new(BUILD_IMAGE).with(|info| {
            if has_entrypoint {
                info.entrypoint = vec!["/entrypoint".to_owned()];
            }
        })
    }

    pub(crate) fn host(&self) -> HostFacts {
        HostFacts {
            name: "host1".to_owned(),
            system_id: "sys".to_owned(),
            state_id: "state0".to_owned(),
            version: "19.4.0".to_owned(),
            revision: "abcdef12".to_owned(),
            executable_arch: "linux/amd64".to_owned(),
            helper_image: HELPER_IMAGE.to_owned(),
            log_driver: LogDriver::Auto,
            link_variables: true,
            naming: gantry_config::Naming::default(),
            shared_local_cache: false,
            nested_variables: false,
            s3_multipart: true,
            mask_encoded: true,
        }
    }
}

/// What a fetch says.
pub(crate) fn fetches() -> Work {
    Work::says("Fetching changes with git depth set to 20...\n")
        .err("From https://gitlab.example.com/g/project\n")
        .pause_ms(200)
        .out("Checking out 265c14cf ")
        .pause_ms(100)
        .out("as detached HEAD (ref is main)...\n")
}
