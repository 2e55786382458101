//! `gantry run` on a configuration that changes, without an engine: who asks for jobs, and how.

#![allow(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gantry_testkit::{Endpoint, FakeGitLab, RecordedRequest, TestCa};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::timeout;

/// Longest wait for a fact; only a broken program ever waits so long.
const PATIENCE: Duration = Duration::from_secs(120);

struct Service {
    child: Child,
    log: Arc<Mutex<String>>,
    lines: watch::Receiver<usize>,
    folder: TempDir,
}

impl Service {
    async fn start(config: &str, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::start_in(folder, config, arguments).await
    }

    async fn start_in(folder: TempDir, config: &str, arguments: &[&str]) -> Self {
        let path = folder.path().join("config.toml");
        write(&path, config);
        let mut child = Command::new(env!("CARGO_BIN_EXE_gantry"))
            .arg("run")
            .arg("--config")
            .arg(&path)
            .args(arguments)
            .env_clear()
            .env("HOME", folder.path())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (count, lines) = watch::channel(0);
        let text = Arc::clone(&log);
        let mut read = BufReader::new(child.stderr.take().unwrap()).lines();
        tokio::spawn(async move {
            while let Ok(Some(line)) = read.next_line().await {
                let mut text = text.lock().unwrap();
                text.push_str(&line);
                text.push('\n');
                drop(text);
                count.send_modify(|count| *count += 1);
            }
        });
        let service = Self {
            child,
            log,
            lines,
            folder,
        };
        service.says("Configuration loaded", 1).await;
        service
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("config.toml")
    }

    fn text(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until the log has these words so often.
    async fn says(&self, words: &str, times: usize) {
        let mut lines = self.lines.clone();
        let said = lines.wait_for(|_| self.text().matches(words).count() >= times);
        let said = matches!(timeout(PATIENCE, said).await, Ok(Ok(_)));
        assert!(said, "the log does not say {words:?}:\n{}", self.text());
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    async fn ends(mut self) -> i32 {
        let status = timeout(PATIENCE, self.child.wait()).await;
        status.unwrap().unwrap().code().unwrap()
    }
}

/// In one step, as editors do.
fn write(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(&new, path).unwrap();
}

fn runner(gitlab: &FakeGitLab, token: &str) -> String {
    entry(gitlab.url(), token)
}

fn entry(url: &str, token: &str) -> String {
    format!(
        "[[runners]]\nname = \"unit\"\nurl = \"{url}\"\ntoken = \"{token}\"\nexecutor = \"docker\"\n\
         [runners.docker]\nhost = \"unix:///nowhere/at/all.sock\"\n"
    )
}

fn asked(gitlab: &FakeGitLab, token: &str) -> Vec<RecordedRequest> {
    let requests = gitlab.requests_to(Endpoint::RequestJob);
    let of_token = |request: &RecordedRequest| request.header("runner-token") == Some(token);
    requests.into_iter().filter(of_token).collect()
}

/// Waits until `count` requests of a token have been answered.
async fn wait_asked(gitlab: &FakeGitLab, token: &str, count: usize) -> Vec<RecordedRequest> {
    for any in 1.. {
        gitlab.wait_for_requests(Endpoint::RequestJob, any).await;
        let found = asked(gitlab, token);
        if found.len() >= count {
            return found;
        }
    }
    unreachable!("somebody asks for ever")
}

#[tokio::test]
async fn a_changed_file_is_read_again_without_a_word() {
    let gitlab = FakeGitLab::start().await;
    let (one, two) = (gitlab.runner_token().to_owned(), "glrt-theOtherRunner");
    gitlab.add_runner_token(two);
    let head = "concurrent = 2\ncheck_interval = 1\n";
    let service = Service::start(&format!("{head}{}", runner(&gitlab, &one)), &[]).await;
    wait_asked(&gitlab, &one, 1).await;
    assert!(asked(&gitlab, two).is_empty());
    write(
        &service.config(),
        &format!("{head}{}", runner(&gitlab, two)),
    );
    service.says("Configuration loaded", 2).await;
    let before = asked(&gitlab, &one).len();
    let of_two = asked(&gitlab, two).len();
    wait_asked(&gitlab, two, of_two + 3).await;
    // One may have been under way.
    assert!(asked(&gitlab, &one).len() <= before + 1);
    service.signal(Signal::TERM);
    assert_eq!(service.ends().await, 0);
}

#[tokio::test]
async fn the_servers_word_on_its_queue_is_echoed_over_one_connection() {
    let gitlab = FakeGitLab::start().await;
    let token = gitlab.runner_token().to_owned();
    let config = format!("check_interval = 1\n{}", runner(&gitlab, &token));
    let _service = Service::start(&config, &[]).await;
    let requests = wait_asked(&gitlab, &token, 3).await;
    assert_eq!(requests[0].json().get("last_update"), None);
    assert!(
        requests[1].json()["last_update"].is_string(),
        "{:?}",
        requests[1].json()
    );
    assert!(requests[2].json()["last_update"].is_string());
    assert_eq!(requests[0].peer, requests[2].peer);
}

#[tokio::test]
async fn a_held_request_of_a_runner_that_is_gone_keeps_no_other_from_asking() {
    let hold = Duration::from_secs(600);
    let gitlab = FakeGitLab::builder().long_poll(hold).start().await;
    let (one, two) = (gitlab.runner_token().to_owned(), "glrt-theOtherRunner");
    gitlab.add_runner_token(two);
    let head = "concurrent = 1\ncheck_interval = 1\n";
    let service = Service::start(&format!("{head}{}", runner(&gitlab, &one)), &[]).await;
    // The first is answered at once, the second is held.
    wait_asked(&gitlab, &one, 1).await;
    write(
        &service.config(),
        &format!("{head}{}", runner(&gitlab, two)),
    );
    service.signal(Signal::HUP);
    wait_asked(&gitlab, two, 1).await;
}

#[tokio::test]
async fn a_broken_file_names_its_line_once_and_the_old_one_stays_active() {
    let gitlab = FakeGitLab::start().await;
    let token = gitlab.runner_token().to_owned();
    let good = format!("check_interval = 1\n{}", runner(&gitlab, &token));
    let service = Service::start(&good, &[]).await;
    wait_asked(&gitlab, &token, 1).await;
    write(&service.config(), &format!("{good}memory = \"lots\"\n"));
    service
        .says("config.toml:9:10: runners[0].docker.memory", 1)
        .await;
    service.says("the old one stays active", 1).await;
    let before = asked(&gitlab, &token).len();
    wait_asked(&gitlab, &token, before + 5).await;
    assert_eq!(service.text().matches("stays active").count(), 1);
    assert_eq!(service.text().matches("Configuration loaded").count(), 1);
    write(&service.config(), &good);
    service.says("Configuration loaded", 2).await;
}

#[tokio::test]
async fn a_file_that_is_gone_takes_nothing_away() {
    let gitlab = FakeGitLab::start().await;
    let token = gitlab.runner_token().to_owned();
    let good = format!("check_interval = 1\n{}", runner(&gitlab, &token));
    let service = Service::start(&good, &[]).await;
    wait_asked(&gitlab, &token, 1).await;
    fs::remove_file(service.config()).unwrap();
    service.says("Failed to load config stat", 1).await;
    service.signal(Signal::HUP);
    service.says("the configuration file is gone", 1).await;
    let before = asked(&gitlab, &token).len();
    wait_asked(&gitlab, &token, before + 3).await;
    write(&service.config(), &good);
    service.says("Configuration loaded", 2).await;
}

#[tokio::test]
async fn a_file_that_comes_later_is_found() {
    let gitlab = FakeGitLab::start().await;
    let token = gitlab.runner_token().to_owned();
    let service = Service::start("", &[]).await;
    write(&service.config(), &runner(&gitlab, &token));
    wait_asked(&gitlab, &token, 1).await;
}

#[tokio::test]
async fn level_and_form_of_the_log_change_unless_the_command_line_fixed_them() {
    let service = Service::start("log_level = \"info\"\n", &[]).await;
    write(
        &service.config(),
        "log_level = \"info\"\nlog_format = \"json\"\n",
    );
    service.says("\"msg\":\"Configuration loaded\"", 1).await;
    // Its second load is not seen in the log, but by the server.
    let gitlab = FakeGitLab::start().await;
    let token = gitlab.runner_token().to_owned();
    let quiet = "log_level = \"error\"\nlog_format = \"json\"\n";
    write(
        &service.config(),
        &format!("{quiet}{}", runner(&gitlab, &token)),
    );
    wait_asked(&gitlab, &token, 1).await;
    write(&service.config(), &format!("{quiet}concurrent = 0\n"));
    service.says("cannot be run", 1).await;
    assert_eq!(
        service.text().matches("Configuration loaded").count(),
        2,
        "{}",
        service.text()
    );
    assert_eq!(service.ends().await, 1);

    let fixed = Service::start("", &["--log-format", "text"]).await;
    write(&fixed.config(), "log_format = \"json\"\n");
    fixed.says("msg=\"Configuration loaded\"", 2).await;
}

#[tokio::test]
async fn what_needs_a_restart_is_named() {
    let service = Service::start("", &[]).await;
    write(&service.config(), "[gantry]\nlog_driver = \"local\"\n");
    service.says("takes effect at the next start", 1).await;
    assert!(
        service.text().contains("gantry.log_driver"),
        "{}",
        service.text()
    );
}

#[tokio::test]
async fn certificates_are_found_by_host_name_beside_the_configuration_and_when_they_come_later() {
    let (servers, clients) = (TestCa::new("Servers"), TestCa::new("Clients"));
    let client = clients.issue(&["runner"]);
    let gitlab = FakeGitLab::builder()
        .mutual_tls(servers.issue(&["127.0.0.1"]), clients)
        .start()
        .await;
    let token = gitlab.runner_token().to_owned();
    let config = format!(
        "check_interval = 1\n{}",
        entry(gitlab.url(), &token).replace(
            "[runners.docker]",
            "unhealthy_requests_limit = 1000\n[runners.docker]"
        )
    );
    let service = Service::start(&config, &[]).await;
    service.says("Checking for jobs... failed", 1).await;
    let certs = service.folder.path().join("certs");
    fs::create_dir(&certs).unwrap();
    fs::write(certs.join("127.0.0.1.auth.crt"), &client.certificate).unwrap();
    fs::write(certs.join("127.0.0.1.auth.key"), &client.key).unwrap();
    fs::write(certs.join("127.0.0.1.crt"), servers.pem()).unwrap();
    wait_asked(&gitlab, &token, 1).await;
}

/// With more runners than slots they take turns, whatever their place in the file.
#[tokio::test]
async fn many_runners_ask_in_turn() {
    const RUNNERS: usize = 8;
    let gitlab = FakeGitLab::start().await;
    let tokens: Vec<_> = (0..RUNNERS)
        .map(|number| format!("glrt-turn{number}turnturn"))
        .collect();
    let mut config = "concurrent = 1\ncheck_interval = 1\n".to_owned();
    for token in &tokens {
        gitlab.add_runner_token(token);
        config += &runner(&gitlab, token);
    }
    let service = Service::start(&config, &[]).await;
    wait_asked(&gitlab, &tokens[RUNNERS - 1], 4).await;
    let mut counts = [0_usize; RUNNERS];
    for request in gitlab.requests_to(Endpoint::RequestJob) {
        let token = request.header("runner-token").unwrap();
        counts[tokens.iter().position(|known| known == token).unwrap()] += 1;
        let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        assert!(most - least <= 2, "{counts:?}");
        assert!(request.json().get("last_update").is_none());
    }
    service.signal(Signal::TERM);
    assert_eq!(service.ends().await, 0);
}
