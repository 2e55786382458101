//! Complete job payloads (coordinator-api §5), as JSON.

use serde_json::{Map, Value, json};

use crate::Repository;

/// Reasons a current server lists.
const FAILURE_REASONS: [&str; 24] = [
    "unknown_failure",
    "script_failure",
    "api_failure",
    "stuck_or_timeout_failure",
    "runner_system_failure",
    "missing_dependency_failure",
    "runner_unsupported",
    "stale_schedule",
    "job_execution_timeout",
    "archived_failure",
    "unmet_prerequisites",
    "scheduler_failure",
    "data_integrity_failure",
    "forward_deployment_failure",
    "user_blocked",
    "project_deleted",
    "ci_quota_exceeded",
    "pipeline_loop_detected",
    "no_matching_runner",
    "trace_size_exceeded",
    "image_pull_failure",
    "runner_configuration_error",
    "runner_external_dependency_failure",
    "runner_interrupted",
];

/// A job to enqueue. Everything a test does not set is as a real server sends it.
///
/// Without [`git`](Self::git) the repository cannot be reached and the variable `GIT_STRATEGY` is `none`.
#[derive(Debug, Clone)]
pub struct JobBuilder {
    name: String,
    script: Vec<String>,
    after_script: Option<Vec<String>>,
    image: Value,
    services: Vec<Value>,
    variables: Vec<Value>,
    git: Option<GitSource>,
    timeout: i64,
    changes: Vec<(String, Option<Value>)>,
}

#[derive(Debug, Clone)]
struct GitSource {
    url: String,
    path: String,
    ref_name: String,
    sha: String,
    depth: i64,
}

/// A service of a job.
#[derive(Debug, Clone)]
pub struct ServiceBuilder {
    service: Map<String, Value>,
}

impl ServiceBuilder {
    /// A service from this image.
    #[must_use]
    pub fn new(image: &str) -> Self {
        let service = json!({
            "name": image, "alias": null, "command": null, "entrypoint": null, "ports": [],
            "variables": [], "pull_policy": null, "executor_opts": {},
        });
        let Value::Object(service) = service else {
            unreachable!("an object literal")
        };
        Self { service }
    }

    /// Names it is reached by, separated by spaces or commas.
    #[must_use]
    pub fn alias(self, alias: &str) -> Self {
        self.set("alias", alias.into())
    }

    /// Its command.
    #[must_use]
    pub fn command<S: Into<String>>(self, command: impl IntoIterator<Item = S>) -> Self {
        self.set("command", strings(command).into())
    }

    /// Its entrypoint.
    #[must_use]
    pub fn entrypoint<S: Into<String>>(self, entrypoint: impl IntoIterator<Item = S>) -> Self {
        self.set("entrypoint", strings(entrypoint).into())
    }

    /// A variable of its own.
    #[must_use]
    pub fn variable(mut self, key: &str, value: &str) -> Self {
        if let Some(Value::Array(variables)) = self.service.get_mut("variables") {
            variables.push(variable(key, value));
        }
        self
    }

    /// Any field of the service.
    #[must_use]
    pub fn set(mut self, field: &str, value: Value) -> Self {
        self.service.insert(field.to_owned(), value);
        self
    }
}

impl JobBuilder {
    /// A job of this name in stage `test`, whose script is empty.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            script: Vec::new(),
            after_script: None,
            image: Value::Null,
            services: Vec::new(),
            variables: Vec::new(),
            git: None,
            timeout: 3600,
            changes: Vec::new(),
        }
    }

    /// Name of the job.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Lines of the script (`before_script` included, as servers send it).
    #[must_use]
    pub fn script<S: Into<String>>(mut self, lines: impl IntoIterator<Item = S>) -> Self {
        self.script = strings(lines);
        self
    }

    /// Lines of `after_script`.
    #[must_use]
    pub fn after_script<S: Into<String>>(mut self, lines: impl IntoIterator<Item = S>) -> Self {
        self.after_script = Some(strings(lines));
        self
    }

    /// Name of the image.
    #[must_use]
    pub fn image(self, name: &str) -> Self {
        let image = json!({
            "name": name, "alias": null, "command": null, "entrypoint": null, "ports": [],
            "pull_policy": null, "executor_opts": {},
        });
        self.image_object(image)
    }

    /// The whole `image` object.
    #[must_use]
    pub fn image_object(mut self, image: Value) -> Self {
        self.image = image;
        self
    }

    /// One more service.
    #[must_use]
    pub fn service(mut self, service: ServiceBuilder) -> Self {
        self.services.push(Value::Object(service.service));
        self
    }

    /// A public, expanded variable.
    #[must_use]
    pub fn variable(self, key: &str, value: &str) -> Self {
        self.variable_object(variable(key, value))
    }

    /// A masked variable that is not public.
    #[must_use]
    pub fn masked(self, key: &str, value: &str) -> Self {
        self.variable_object(json!({
            "key": key, "value": value, "public": false, "masked": true, "file": false, "raw": false,
        }))
    }

    /// A file variable that is not public.
    #[must_use]
    pub fn file(self, key: &str, value: &str) -> Self {
        self.variable_object(json!({
            "key": key, "value": value, "public": false, "masked": false, "file": true, "raw": false,
        }))
    }

    /// A raw (not expanded), public variable.
    #[must_use]
    pub fn raw(self, key: &str, value: &str) -> Self {
        self.variable_object(json!({
            "key": key, "value": value, "public": true, "masked": false, "file": false, "raw": true,
        }))
    }

    /// Any element of `variables`.
    #[must_use]
    pub fn variable_object(mut self, variable: Value) -> Self {
        self.variables.push(variable);
        self
    }

    /// Sources: this repository at the head of this branch or tag. The URL gets the job's own token.
    #[must_use]
    pub fn git(self, repository: &Repository, ref_name: &str) -> Self {
        let sha = repository.sha(ref_name).to_owned();
        self.git_at(repository.url(), repository.path(), ref_name, &sha)
    }

    /// Sources by hand: URL without credentials, project path, ref and commit.
    #[must_use]
    pub fn git_at(mut self, url: &str, path: &str, ref_name: &str, sha: &str) -> Self {
        self.git = Some(GitSource {
            url: url.to_owned(),
            path: path.to_owned(),
            ref_name: ref_name.to_owned(),
            sha: sha.to_owned(),
            depth: 20,
        });
        self
    }

    /// `git_info.depth`; 0 is the whole history. Only with [`git`](Self::git).
    #[must_use]
    pub fn depth(mut self, depth: i64) -> Self {
        if let Some(git) = &mut self.git {
            git.depth = depth;
        }
        self
    }

    /// Job timeout in seconds.
    #[must_use]
    pub fn timeout(mut self, seconds: i64) -> Self {
        self.timeout = seconds;
        self
    }

    /// `features.failure_reasons`.
    #[must_use]
    pub fn failure_reasons<S: Into<String>>(self, reasons: impl IntoIterator<Item = S>) -> Self {
        self.set("/features/failure_reasons", strings(reasons).into())
    }

    /// `features.trace_sections`.
    #[must_use]
    pub fn trace_sections(self, on: bool) -> Self {
        self.set("/features/trace_sections", on.into())
    }

    /// `features.token_mask_prefixes`.
    #[must_use]
    pub fn token_mask_prefixes<S: Into<String>>(
        self,
        prefixes: impl IntoIterator<Item = S>,
    ) -> Self {
        self.set("/features/token_mask_prefixes", strings(prefixes).into())
    }

    /// Sets the value at a JSON pointer of the finished payload; the last field may be new.
    #[must_use]
    pub fn set(mut self, pointer: &str, value: Value) -> Self {
        self.changes.push((pointer.to_owned(), Some(value)));
        self
    }

    /// Removes the field at a JSON pointer of the finished payload.
    #[must_use]
    pub fn remove(mut self, pointer: &str) -> Self {
        self.changes.push((pointer.to_owned(), None));
        self
    }

    /// The payload for this id and job token, from the server at `server_url`.
    ///
    /// # Panics
    /// If a pointer of [`set`](Self::set) or [`remove`](Self::remove) leads nowhere.
    #[must_use]
    pub fn build(&self, id: i64, token: &str, server_url: &str) -> Value {
        let git = self.git.clone().unwrap_or_else(|| GitSource {
            url: format!("{server_url}/acme/tools/widget.git"),
            path: "acme/tools/widget".to_owned(),
            ref_name: "main".to_owned(),
            sha: "265c14cf140a66cfc61e40e4ab45c95ba8df5ed1".to_owned(),
            depth: 20,
        });
        let repo_url = match git.url.split_once("://") {
            Some((scheme, rest)) => format!("{scheme}://gitlab-ci-token:{token}@{rest}"),
            None => git.url.clone(),
        };
        let pipeline = 120;
        let mut steps = vec![json!({
            "name": "script", "script": self.script, "timeout": self.timeout, "when": "on_success",
            "allow_failure": false,
        })];
        if let Some(after) = &self.after_script {
            steps.push(json!({
                "name": "after_script", "script": after, "timeout": self.timeout, "when": "always",
                "allow_failure": true,
            }));
        }
        let project = git.path.rsplit('/').next().unwrap_or_default().to_owned();
        let mut payload = json!({
            "id": id,
            "token": token,
            "allow_git_fetch": true,
            "job_info": {
                "id": id, "name": self.name, "stage": "test", "pipeline_id": pipeline, "project_id": 4,
                "project_name": project, "project_full_path": git.path, "namespace_id": 17,
                "root_namespace_id": 9, "organization_id": 1, "instance_id": "ea8bf810",
                "instance_uuid": "0d3c5d6e-1111-4222-8333-444455556666", "user_id": 42,
                "scoped_user_id": null, "time_in_queue_seconds": 2.13,
                "project_jobs_running_on_instance_runners_count": "+Inf", "queue_size": 3,
                "queue_depth": 1,
            },
            "git_info": {
                "repo_url": repo_url, "repo_object_format": "sha1", "ref": git.ref_name, "sha": git.sha,
                "before_sha": "0000000000000000000000000000000000000000", "ref_type": "branch",
                "refspecs": [
                    format!("+{}:refs/pipelines/{pipeline}", git.sha),
                    format!("+refs/heads/{0}:refs/remotes/origin/{0}", git.ref_name),
                ],
                "depth": git.depth, "protected": true,
            },
            "runner_info": {"uuid": "", "timeout": self.timeout, "runner_session_url": null},
            "inputs": [],
            "variables": self.variables(id, token, server_url, &git, &repo_url),
            "steps": steps,
            "image": self.image,
            "services": self.services,
            "artifacts": [],
            "cache": [],
            "credentials": [],
            "dependencies": [],
            "features": {
                "trace_sections": true, "token_mask_prefixes": ["glpat-"],
                "failure_reasons": FAILURE_REASONS, "tracing": null,
            },
            "secrets": {},
            "hooks": [],
            "policy_options": {"execution_policy_job": false, "policy_name": ""},
            "suspend_options": {},
        });
        for (pointer, value) in &self.changes {
            change(&mut payload, pointer, value.clone());
        }
        payload
    }

    fn variables(
        &self,
        id: i64,
        token: &str,
        server_url: &str,
        git: &GitSource,
        repo_url: &str,
    ) -> Vec<Value> {
        let (namespace, project) = git.path.rsplit_once('/').unwrap_or(("", &git.path));
        let short_sha = git.sha.get(..8).unwrap_or(&git.sha);
        let id = id.to_string();
        let host = server_url.split("://").nth(1).unwrap_or(server_url);
        let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
        let mut variables: Vec<Value> = [
            ("CI_PIPELINE_ID", "120"),
            ("CI_PIPELINE_IID", "7"),
            ("CI_PIPELINE_SOURCE", "push"),
            ("CI_JOB_ID", id.as_str()),
            ("CI_JOB_NAME", self.name.as_str()),
            ("CI_JOB_STAGE", "test"),
            ("CI", "true"),
            ("GITLAB_CI", "true"),
            ("CI_SERVER_URL", server_url),
            ("CI_SERVER_HOST", host),
            ("CI_SERVER_NAME", "GitLab"),
            ("CI_SERVER_VERSION", "19.4.0"),
            ("CI_API_V4_URL", &format!("{server_url}/api/v4")),
            ("CI_PROJECT_ID", "4"),
            ("CI_PROJECT_NAME", project),
            ("CI_PROJECT_NAMESPACE", namespace),
            ("CI_PROJECT_PATH", git.path.as_str()),
            ("CI_PROJECT_URL", &format!("{server_url}/{}", git.path)),
            ("CI_DEFAULT_BRANCH", "main"),
            ("CI_COMMIT_SHA", git.sha.as_str()),
            ("CI_COMMIT_SHORT_SHA", short_sha),
            ("CI_COMMIT_REF_NAME", git.ref_name.as_str()),
            ("CI_COMMIT_REF_SLUG", git.ref_name.as_str()),
            ("CI_COMMIT_BRANCH", git.ref_name.as_str()),
            ("CI_COMMIT_REF_PROTECTED", "true"),
            ("GITLAB_USER_LOGIN", "jane"),
            ("GITLAB_USER_NAME", "Jane Doe"),
        ]
        .into_iter()
        .map(|(key, value)| variable(key, value))
        .collect();
        for (key, value) in [("CI_JOB_TOKEN", token), ("CI_REPOSITORY_URL", repo_url)] {
            variables.push(json!({
                "key": key, "value": value, "public": false, "masked": true, "file": false, "raw": false,
            }));
        }
        if self.git.is_none() {
            variables.push(variable("GIT_STRATEGY", "none"));
        }
        variables.extend(self.variables.iter().cloned());
        variables
    }
}

fn variable(key: &str, value: &str) -> Value {
    json!({"key": key, "value": value, "public": true, "masked": false, "file": false, "raw": false})
}

fn strings<S: Into<String>>(items: impl IntoIterator<Item = S>) -> Vec<String> {
    items.into_iter().map(Into::into).collect()
}

fn change(payload: &mut Value, pointer: &str, value: Option<Value>) {
    if pointer.is_empty() {
        *payload = value.unwrap_or_default();
        return;
    }
    let (parent, field) = pointer
        .rsplit_once('/')
        .unwrap_or_else(|| panic!("{pointer:?} is no JSON pointer"));
    let parent = payload
        .pointer_mut(parent)
        .unwrap_or_else(|| panic!("nothing at {parent:?} of the payload"));
    match (parent, value) {
        (Value::Object(object), Some(value)) => {
            object.insert(field.to_owned(), value);
        }
        (Value::Object(object), None) => {
            object
                .remove(field)
                .unwrap_or_else(|| panic!("nothing at {pointer:?} of the payload"));
        }
        (Value::Array(array), Some(value)) => match field.parse::<usize>() {
            Ok(index) if index < array.len() => array[index] = value,
            _ => array.push(value),
        },
        (other, _) => panic!("{pointer:?} of the payload lies in {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_complete_without_being_told_anything() {
        let payload = JobBuilder::new("unit").build(7, "glcbt-7", "http://127.0.0.1:1");
        for field in [
            "id",
            "token",
            "allow_git_fetch",
            "job_info",
            "git_info",
            "runner_info",
            "inputs",
            "variables",
            "steps",
            "image",
            "services",
            "artifacts",
            "cache",
            "credentials",
            "dependencies",
            "features",
            "secrets",
            "hooks",
            "policy_options",
            "suspend_options",
        ] {
            assert!(payload.get(field).is_some(), "{field}");
        }
        assert_eq!(
            payload["git_info"]["repo_url"],
            "http://gitlab-ci-token:glcbt-7@127.0.0.1:1/acme/tools/widget.git"
        );
        let variables = payload["variables"].as_array().unwrap();
        assert!(variables.contains(&variable("GIT_STRATEGY", "none")));
    }

    #[test]
    fn any_place_of_the_payload_can_be_changed() {
        let payload = JobBuilder::new("unit")
            .script(["make"])
            .set("/git_info/sha", "abc".into())
            .set("/steps/0/when", Value::Null)
            .set("/artifacts/-", json!({"paths": ["a"]}))
            .set("/new", 1.into())
            .remove("/cache")
            .build(7, "t", "http://h");
        assert_eq!(payload["git_info"]["sha"], "abc");
        assert_eq!(payload["steps"][0]["when"], Value::Null);
        assert_eq!(payload["artifacts"][0]["paths"][0], "a");
        assert_eq!(payload["new"], 1);
        assert!(payload.get("cache").is_none());
    }
}
