//! Variables that a GitLab server sets, made up from what the working copy knows (local-pipelines
//! C3). Facts are collected elsewhere; this is a function of them.

use gantry_job::Variable;

use crate::pipeline::PipelineJob;

mod remote;
mod slug;

#[cfg(test)]
mod tests;

pub use remote::RemoteUrl;
pub use slug::slug;

/// What git tells about the working copy. A folder outside of git has the default: nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GitFacts {
    /// `HEAD`; none in a repository without commits and outside of git.
    pub commit: Option<Commit>,
    /// The branch checked out; none with a detached `HEAD`.
    pub branch: Option<String>,
    /// A tag that points at `HEAD`. It names the ref where no branch does.
    pub tag: Option<String>,
    /// Branch that `origin/HEAD` points at, else what is known to be the default branch.
    pub default_branch: Option<String>,
    /// URL of the remote `origin` as git gives it. A password in it goes nowhere.
    pub remote_url: Option<String>,
    /// Whether object names are SHA-256.
    pub sha256: bool,
}

/// A commit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Commit {
    /// Object name, hexadecimal.
    pub sha: String,
    /// Whole message.
    pub message: String,
    /// `Name <mail>`.
    pub author: String,
    /// Committer date, ISO 8601.
    pub timestamp: String,
}

/// Where the working copy lies and who uses it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProjectFacts {
    /// Name of the root folder; names the project where there is no remote.
    pub folder: String,
    /// Path of the pipeline file from the root.
    pub config_path: String,
    /// The person.
    pub user: UserFacts,
}

/// The person who runs the pipeline.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserFacts {
    /// Numeric id.
    pub id: u32,
    /// `user.name` of git.
    pub name: String,
    /// `user.email` of git.
    pub email: String,
}

/// Ids and times of one job that runs here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobFacts {
    /// `CI_JOB_ID`.
    pub job_id: i64,
    /// `CI_PIPELINE_ID`.
    pub pipeline_id: i64,
    /// `CI_PIPELINE_IID`.
    pub pipeline_iid: i64,
    /// When the run began, ISO 8601 in UTC.
    pub started_at: String,
    /// Variables of dotenv reports, the stronger ones last (local-pipelines C1 row 6).
    pub reported: Vec<Variable>,
    /// Earlier jobs whose artifacts are there, in the order in which they are unpacked.
    pub dependencies: Vec<Giver>,
}

/// An earlier job with artifacts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Giver {
    /// `CI_JOB_ID` it had.
    pub id: i64,
    /// Name.
    pub name: String,
    /// Size of the archive, bytes.
    pub size: i64,
}

/// Version of GitLab that local runs claim to be made by.
const SERVER_VERSION: [&str; 3] = ["19", "4", "0"];

/// Namespace of a project without a remote.
const LOCAL_NAMESPACE: &str = "local";

/// Host of a project without a remote: names that end so resolve nowhere else.
const LOCAL_HOST: &str = "localhost";

/// Names of a project and its server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectNames {
    /// The server, real or made up.
    pub remote: RemoteUrl,
    /// A stable positive number made of the path.
    pub id: i64,
    /// A stable positive number made of the namespace.
    pub namespace_id: i64,
}

impl ProjectNames {
    /// From the remote, else from the name of the folder in the namespace `local`.
    pub fn new(git: &GitFacts, project: &ProjectFacts) -> Self {
        let remote = git
            .remote_url
            .as_deref()
            .and_then(RemoteUrl::parse)
            .unwrap_or_else(|| {
                let name: String = project
                    .folder
                    .chars()
                    .map(|letter| match letter {
                        'a'..='z' | 'A'..='Z' | '0'..='9' | '_' | '-' | '.' => letter,
                        _ => '-',
                    })
                    .collect();
                let name = match name.trim_matches(['.', '-']) {
                    "" => "project",
                    name => name,
                };
                RemoteUrl {
                    web_scheme: None,
                    host: LOCAL_HOST.to_owned(),
                    port: None,
                    path: format!("{LOCAL_NAMESPACE}/{name}"),
                }
            });
        let id = stable_id(&remote.path);
        let mut names = Self {
            remote,
            id,
            namespace_id: 0,
        };
        names.namespace_id = stable_id(names.namespace());
        names
    }

    /// Path with its groups.
    pub fn path(&self) -> &str {
        &self.remote.path
    }

    /// Last part of the path.
    pub fn name(&self) -> &str {
        self.path().rsplit('/').next().unwrap_or_default()
    }

    /// The path without its last part; `local` if there is nothing before it.
    pub fn namespace(&self) -> &str {
        self.path()
            .rsplit_once('/')
            .map_or(LOCAL_NAMESPACE, |(namespace, _)| namespace)
    }

    /// First part of the namespace.
    pub fn root_namespace(&self) -> &str {
        self.namespace().split('/').next().unwrap_or_default()
    }
}

/// A number between 1 and 2^31 that a text always gives (FNV-1a).
fn stable_id(text: &str) -> i64 {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    i64::from(u32::try_from(hash >> 33).unwrap_or_default()) + 1
}

impl GitFacts {
    /// The ref of the pipeline: branch, else tag, else the short name of a detached commit.
    pub fn ref_name(&self) -> &str {
        let named = self.branch.as_deref().or(self.tag.as_deref());
        named
            .or_else(|| Some(self.commit.as_ref()?.short_sha()))
            .unwrap_or("main")
    }

    /// The tag, if the pipeline is one of a tag.
    pub fn pipeline_tag(&self) -> Option<&str> {
        self.tag.as_deref().filter(|_| self.branch.is_none())
    }

    /// `HEAD`, or zeros without a commit.
    pub fn sha(&self) -> String {
        match &self.commit {
            Some(commit) => commit.sha.clone(),
            None => self.zero_sha(),
        }
    }

    /// A commit that does not exist, in the length of this repository.
    pub fn zero_sha(&self) -> String {
        "0".repeat(if self.sha256 { 64 } else { 40 })
    }
}

impl Commit {
    /// First eight digits.
    pub fn short_sha(&self) -> &str {
        self.sha.get(..8).unwrap_or(&self.sha)
    }

    /// First line of the message.
    pub fn title(&self) -> &str {
        self.message.lines().next().unwrap_or_default()
    }

    /// The message without its title, or all of it where the title has 100 characters or more.
    pub fn description(&self) -> &str {
        if self.title().chars().count() >= 100 {
            return &self.message;
        }
        self.message
            .split_once('\n')
            .map_or("", |(_, rest)| rest)
            .trim_start_matches(['\r', '\n'])
    }
}

/// The variables of local-pipelines C3 that the server sets: persisted and predefined ones, rows
/// 1 and 2 of the precedence (C1), so the file's own variables come after them. What the runner
/// sets itself (`CI_PROJECT_DIR`, `CI_JOB_STATUS`, …) is not here.
///
/// All are public and raw: their texts, such as a commit message, are nobody's references.
pub fn predefined(
    job: &PipelineJob,
    git: &GitFacts,
    project: &ProjectFacts,
    facts: &JobFacts,
) -> Vec<Variable> {
    let names = ProjectNames::new(git, project);
    let mut set = Set::default();
    of_job(&mut set, job, &names, facts);
    of_server(&mut set, &names);
    of_project(&mut set, &names, git, project);
    of_commit(&mut set, git);
    of_pipeline(&mut set, &names, facts);
    set.0
}

/// `GITLAB_USER_*`: row 5 of the precedence (C1), which the file cannot override. Where git knows
/// only a name or only an address, each stands for the other.
pub fn user_variables(user: &UserFacts) -> Vec<Variable> {
    let known = |texts: [&str; 3]| {
        let text = texts.into_iter().find(|text| !text.is_empty());
        text.unwrap_or_default().to_owned()
    };
    let login = user.email.split('@').next().unwrap_or_default();
    let mut set = Set::default();
    set.add("GITLAB_USER_ID", user.id.to_string());
    set.add("GITLAB_USER_EMAIL", user.email.clone());
    set.add(
        "GITLAB_USER_LOGIN",
        known([login, &user.name, LOCAL_NAMESPACE]),
    );
    set.add(
        "GITLAB_USER_NAME",
        known([&user.name, login, LOCAL_NAMESPACE]),
    );
    set.0
}

#[derive(Default)]
struct Set(Vec<Variable>);

impl Set {
    fn add(&mut self, key: &str, value: impl Into<String>) {
        // No environment holds a NUL; a commit message may.
        let value = value.into().replace('\0', "");
        self.0.push(Variable {
            public: true,
            raw: true,
            ..Variable::new(key, value)
        });
    }

    fn add_if(&mut self, key: &str, value: Option<impl Into<String>>) {
        if let Some(value) = value {
            self.add(key, value);
        }
    }
}

fn of_job(set: &mut Set, job: &PipelineJob, names: &ProjectNames, facts: &JobFacts) {
    set.add("CI_JOB_ID", facts.job_id.to_string());
    set.add(
        "CI_JOB_URL",
        format!("{}/{}/-/jobs/{}", names.remote, names.path(), facts.job_id),
    );
    set.add("CI_JOB_TOKEN", "");
    set.add("CI_JOB_STARTED_AT", facts.started_at.clone());
    set.add("CI_JOB_NAME", job.name.clone());
    set.add("CI_JOB_NAME_SLUG", slug(&job.name));
    set.add("CI_JOB_GROUP_NAME", group_name(&job.name));
    set.add("CI_JOB_STAGE", job.stage.clone());
    if let Some((index, _)) = job.node {
        set.add("CI_NODE_INDEX", index.to_string());
    }
    let total = job.node.map_or(1, |(_, total)| total);
    set.add("CI_NODE_TOTAL", total.to_string());
    set.add("CI", "true");
    set.add("GITLAB_CI", "true");
    set.add("GANTRY_LOCAL", "true");
    set.add("CI_RUNNER_ID", "1");
    set.add("CI_RUNNER_DESCRIPTION", "gantry");
    set.add("CI_RUNNER_TAGS", "[]");
}

fn of_server(set: &mut Set, names: &ProjectNames) {
    let remote = &names.remote;
    let [major, minor, patch] = SERVER_VERSION;
    set.add("CI_SERVER_NAME", "GitLab");
    set.add("CI_SERVER_VERSION", SERVER_VERSION.join("."));
    set.add("CI_SERVER_VERSION_MAJOR", major);
    set.add("CI_SERVER_VERSION_MINOR", minor);
    set.add("CI_SERVER_VERSION_PATCH", patch);
    set.add("CI_SERVER_PROTOCOL", remote.protocol());
    set.add("CI_SERVER_HOST", remote.host.clone());
    set.add("CI_SERVER_PORT", remote.web_port().to_string());
    set.add("CI_SERVER_FQDN", remote.fqdn());
    set.add("CI_SERVER_URL", remote.to_string());
    set.add("CI_SERVER_SHELL_SSH_HOST", remote.host.clone());
    set.add("CI_SERVER_SHELL_SSH_PORT", remote.ssh_port().to_string());
    set.add("CI_API_V4_URL", format!("{remote}/api/v4"));
    set.add("CI_API_GRAPHQL_URL", format!("{remote}/api/graphql"));
    set.add("CI_REGISTRY", format!("registry.{}", remote.host));
    set.add(
        "CI_REGISTRY_IMAGE",
        format!("registry.{}/{}", remote.host, names.path().to_lowercase()),
    );
    set.add("CI_TEMPLATE_REGISTRY_HOST", "registry.gitlab.com");
    let proxy = format!("{}:{}", remote.host, remote.web_port());
    let prefix = |namespace: &str| {
        format!(
            "{proxy}/{}/dependency_proxy/containers",
            namespace.to_lowercase()
        )
    };
    let (root, direct) = (prefix(names.root_namespace()), prefix(names.namespace()));
    set.add("CI_DEPENDENCY_PROXY_SERVER", proxy);
    set.add("CI_DEPENDENCY_PROXY_USER", "gitlab-ci-token");
    set.add("CI_DEPENDENCY_PROXY_GROUP_IMAGE_PREFIX", root);
    set.add("CI_DEPENDENCY_PROXY_DIRECT_GROUP_IMAGE_PREFIX", direct);
    set.add("CI_PAGES_DOMAIN", "");
    set.add("CI_PAGES_URL", "");
}

fn of_project(set: &mut Set, names: &ProjectNames, git: &GitFacts, project: &ProjectFacts) {
    let (remote, path) = (&names.remote, names.path());
    set.add("CI_PROJECT_ID", names.id.to_string());
    set.add("CI_PROJECT_NAME", names.name());
    set.add("CI_PROJECT_TITLE", names.name());
    set.add("CI_PROJECT_DESCRIPTION", "");
    set.add("CI_PROJECT_PATH", path);
    set.add("CI_PROJECT_PATH_SLUG", slug(path));
    set.add("CI_PROJECT_NAMESPACE", names.namespace());
    set.add("CI_PROJECT_NAMESPACE_ID", names.namespace_id.to_string());
    set.add("CI_PROJECT_ROOT_NAMESPACE", names.root_namespace());
    set.add("CI_PROJECT_URL", format!("{remote}/{path}"));
    set.add("CI_PROJECT_VISIBILITY", "private");
    set.add("CI_PROJECT_REPOSITORY_LANGUAGES", "");
    set.add("CI_PROJECT_CLASSIFICATION_LABEL", "");
    set.add("CI_CONFIG_PATH", project.config_path.clone());
    set.add(
        "CI_DEFAULT_BRANCH",
        git.default_branch.as_deref().unwrap_or("main"),
    );
    set.add("CI_REPOSITORY_URL", format!("{remote}/{path}.git"));
}

fn of_commit(set: &mut Set, git: &GitFacts) {
    let commit = git.commit.as_ref();
    let sha = git.sha();
    set.add("CI_COMMIT_SHORT_SHA", sha.get(..8).unwrap_or(&sha));
    set.add("CI_COMMIT_SHA", sha);
    set.add("CI_COMMIT_BEFORE_SHA", git.zero_sha());
    set.add("CI_COMMIT_REF_NAME", git.ref_name());
    set.add("CI_COMMIT_REF_SLUG", slug(git.ref_name()));
    set.add("CI_COMMIT_REF_PROTECTED", "false");
    set.add_if("CI_COMMIT_BRANCH", git.branch.as_deref());
    set.add_if("CI_COMMIT_TAG", git.pipeline_tag());
    set.add(
        "CI_COMMIT_MESSAGE",
        commit.map_or("", |commit| &commit.message),
    );
    set.add("CI_COMMIT_TITLE", commit.map_or("", Commit::title));
    set.add(
        "CI_COMMIT_DESCRIPTION",
        commit.map_or("", Commit::description),
    );
    set.add(
        "CI_COMMIT_AUTHOR",
        commit.map_or("", |commit| &commit.author),
    );
    set.add(
        "CI_COMMIT_TIMESTAMP",
        commit.map_or("", |commit| &commit.timestamp),
    );
}

fn of_pipeline(set: &mut Set, names: &ProjectNames, facts: &JobFacts) {
    let id = facts.pipeline_id;
    set.add("CI_PIPELINE_ID", id.to_string());
    set.add("CI_PIPELINE_IID", facts.pipeline_iid.to_string());
    set.add(
        "CI_PIPELINE_URL",
        format!("{}/{}/-/pipelines/{id}", names.remote, names.path()),
    );
    set.add("CI_PIPELINE_SOURCE", "push");
    set.add("CI_PIPELINE_CREATED_AT", facts.started_at.clone());
}

/// A job's name without the ` n/m` or `: [a, b]` of its cell (local-pipelines A8).
fn group_name(name: &str) -> &str {
    if let Some((group, cell)) = name.rsplit_once(": [")
        && cell.ends_with(']')
    {
        return group;
    }
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match name.rsplit_once(' ') {
        Some((group, cell))
            if cell
                .split_once('/')
                .is_some_and(|(n, m)| number(n) && number(m)) =>
        {
            group
        }
        _ => name,
    }
}
