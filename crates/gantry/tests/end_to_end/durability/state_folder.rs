//! The folder that remembers, and what nobody remembers any more.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn mode(path: &std::path::Path) -> u32 {
    let meta = std::fs::metadata(path).expect("a file");
    meta.permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_state_of_jobs_is_readable_by_nobody_else() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let wait = gate("go");
    let script = ["echo begun >> /witness/script", wait.as_str()];
    let id = host.gitlab.enqueue(&job(script));
    let runner = host.start();
    host.wait_witness("script", 1).await;
    let mut folders = vec![host.folder().join(".gantry")];
    while let Some(folder) = folders.pop() {
        assert_eq!(mode(&folder), 0o700, "{}", folder.display());
        for entry in std::fs::read_dir(&folder).expect("a folder").flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                assert_eq!(mode(&entry.path()), 0o600, "{}", entry.path().display());
            }
        }
    }
    host.open_gate("go");
    host.end_of(id).await;
    host.finish(runner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_on_one_state_folder_ends_and_names_the_first() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let runner = host.start();
    host.gitlab.wait_for_requests(Endpoint::RequestJob, 1).await;
    let mut second = host.start();
    assert_eq!(second.exit_code().await, 1);
    second.says(&runner.pid().to_string()).await;
    host.finish(runner).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_folder_that_cannot_be_made_ends_the_start_and_names_the_setting() {
    let config = Config::new().gantry("state_dir = \"/dev/null/state\"");
    let Some(host) = Host::new(&config).await else {
        return;
    };
    let mut runner = host.start();
    assert_eq!(runner.exit_code().await, 1);
    runner.says("state_dir").await;
    runner.says("/dev/null/state").await;
}

/// A job whose folder is gone belongs to nobody: the next start removes what it made, and nothing of others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leftovers_of_a_dead_runner_are_swept_at_start_and_those_of_others_are_not() {
    let config = Config::new().runner("[runners.feature_flags]\nFF_NETWORK_PER_BUILD = true");
    let Some(host) = Host::new(&config).await else {
        return;
    };
    let script = ["echo begun >> /witness/script", "sleep 1000"];
    let id = host.gitlab.enqueue(&job(script));
    let runner = host.start();
    host.wait_witness("script", 1).await;
    runner.kill().await;
    host.gitlab.abort(id);
    let jobs = host.folder().join(".gantry/jobs");
    std::fs::remove_dir_all(&jobs).expect("the folder of jobs");
    let stranger = format!("gantry-end-to-end-stranger-{}", host.short_token());
    let peer = format!("gantry-end-to-end-peer-{}", host.short_token());
    for (name, label) in [
        (&stranger, "gantry.state=0123456789abcdef"),
        (&peer, "com.gitlab.gitlab-runner.managed=true"),
    ] {
        let image = crate::harness::BUSYBOX;
        let create = ["create", "--name", name, "--label", label, image, "true"];
        host.docker.run(&create).await;
    }
    let runner = host.start();
    runner.says("removed leftovers of earlier jobs").await;
    host.finish(runner).await;
    for name in [&stranger, &peer] {
        assert!(host.docker.inspect(name).await.is_some(), "{name} is gone");
        host.docker.run(&["rm", name]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_journal_is_set_aside_and_other_jobs_go_on() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let wait = gate("go");
    let whole = host.gitlab.enqueue(&job([
        "echo begun >> /witness/script",
        wait.as_str(),
        "exit 4",
    ]));
    let damaged = host
        .gitlab
        .enqueue(&job(["echo begun >> /witness/damaged", "sleep 1000"]));
    let runner = host.start();
    host.wait_witness("script", 1).await;
    host.wait_witness("damaged", 1).await;
    runner.kill().await;
    let folder = format!(".gantry/jobs/{}-{damaged}", host.short_token());
    let journal = host.folder().join(folder).join("journal");
    let text = std::fs::read_to_string(&journal).expect("a journal");
    let text = text.replacen("Accepted", "Axxepted", 1);
    std::fs::write(&journal, text).expect("a journal");
    host.open_gate("go");
    let runner = host.start();
    let job = host.end_of(whole).await;
    assert_eq!(job.exit_code, Some(4));
    runner.says("set aside").await;
    // The containers belong to no known job any more.
    until("the damaged job's container to go", async || {
        host.containers("-build").await.is_empty().then_some(())
    })
    .await;
    let aside = host.folder().join(".gantry/aside");
    assert!(aside.is_dir());
    std::fs::remove_dir_all(aside).expect("the folder of damaged jobs");
    host.finish(runner).await;
}

/// A small disk of its own for the state folder. Ends with the test.
struct Disk(std::path::PathBuf);

impl Disk {
    /// `None` where nothing can be mounted.
    fn mount(host: &Host, size: &str) -> Option<Self> {
        let place = host.folder().join(".gantry");
        std::fs::create_dir(&place).expect("a folder");
        let mounted = std::process::Command::new("mount")
            .args([
                "-t",
                "tmpfs",
                "-o",
                &format!("size={size},nr_inodes=200,mode=700"),
                "tmpfs",
            ])
            .arg(&place)
            .status();
        if !mounted.is_ok_and(|status| status.success()) {
            crate::harness::skipped("a disk of one's own cannot be mounted here");
            return None;
        }
        Some(Self(place))
    }

    /// Takes all the space there is.
    fn fill(&self) {
        use std::io::Write as _;
        let mut file = std::fs::File::create(self.0.join("filler")).expect("a file");
        let (mut piece, zeros) = (1 << 20, vec![0_u8; 1 << 20]);
        while piece > 0 {
            match file.write(&zeros[..piece]) {
                Ok(written) if written > 0 => {}
                _ => piece /= 2,
            }
        }
    }

    /// Makes files until the disk can take no more than so many; returns them.
    fn use_up_files(&self, left: u64) -> Vec<std::path::PathBuf> {
        let mut files = Vec::new();
        while rustix::fs::statvfs(&self.0).expect("a disk").f_favail > left {
            let file = self.0.join(format!("filler{}", files.len()));
            std::fs::write(&file, "").expect("a file");
            files.push(file);
        }
        files
    }

    fn empty(&self) {
        std::fs::remove_file(self.0.join("filler")).expect("a file");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmount = std::process::Command::new("umount")
            .arg("-l")
            .arg(&self.0)
            .status();
        unmount.ok();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_running_jobs_go_on_and_no_new_ones_are_taken() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let Some(disk) = Disk::mount(&host, "20m") else {
        return;
    };
    let (start, go_on) = (gate("start"), gate("go-on"));
    let lines = "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo line $i; done";
    let id = host.gitlab.enqueue(&job([
        "echo begun >> /witness/script",
        start.as_str(),
        lines,
        "echo printed >> /witness/script",
        go_on.as_str(),
        "exit 9",
    ]));
    let runner = host.start();
    host.wait_witness("script", 1).await;
    disk.fill();
    host.open_gate("start");
    // The container prints on, whoever reads.
    host.wait_witness("script", 2).await;
    runner.says("job output waits for space on the disk").await;
    runner
        .says("no new jobs: the disk of the state folder is full")
        .await;
    let second = host.gitlab.enqueue(&job(["exit 8"]));
    host.open_gate("go-on");
    host.wait_container("-build", |build| build["State"]["Status"] == "exited")
        .await;
    assert_eq!(host.gitlab.job(id).state, ServerJobState::Running);
    assert_eq!(host.gitlab.job(second).state, ServerJobState::Pending);
    disk.empty();
    let first = host.end_of(id).await;
    assert_eq!(first.exit_code, Some(9), "{}", first.log());
    let printed = JobLog::of(&first).stdout;
    let printed: Vec<_> = printed
        .iter()
        .filter(|line| line.starts_with("line "))
        .collect();
    assert_eq!(printed.len(), 3000);
    host.gitlab.assert_patches(id);
    assert_eq!(host.end_of(second).await.exit_code, Some(8));
    host.finish(runner).await;
}

/// As after a runner that died in the middle of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_handed_out_while_the_disk_filled_up_goes_back_to_the_queue() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let Some(disk) = Disk::mount(&host, "20m") else {
        return;
    };
    let runner = host.start();
    host.gitlab.wait_for_requests(Endpoint::RequestJob, 1).await;
    // Space for the folder, and none for what belongs into it.
    let files = disk.use_up_files(2);
    let id = host.gitlab.enqueue(&job(["exit 8"]));
    runner.says("the job is left to other runners").await;
    assert!(host.job_folders().is_empty());
    assert_eq!(host.gitlab.job(id).state, ServerJobState::HandedOut);
    for file in files {
        std::fs::remove_file(file).expect("a file");
    }
    host.gitlab.reclaim(id);
    assert_eq!(host.end_of(id).await.exit_code, Some(8));
    host.finish(runner).await;
}

/// What is left of the journal says whose job it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_whose_journal_is_damaged_behind_its_acceptance_is_reported() {
    let Some(host) = Host::new(&Config::new()).await else {
        return;
    };
    let id = host
        .gitlab
        .enqueue(&job(["echo begun >> /witness/script", "sleep 1000"]));
    let runner = host.start();
    host.wait_witness("script", 1).await;
    runner.kill().await;
    let folder = format!(".gantry/jobs/{}-{id}", host.short_token());
    let journal = host.folder().join(folder).join("journal");
    let text = std::fs::read_to_string(&journal).expect("a journal");
    std::fs::write(&journal, text.replacen("Planned", "Plxnned", 1)).expect("a journal");
    let runner = host.start();
    let job = host.end_of(id).await;
    assert_eq!(job.state, ServerJobState::Failed);
    assert_eq!(job.failure_reason.as_deref(), Some("runner_system_failure"));
    runner.says("set aside").await;
    std::fs::remove_dir_all(host.folder().join(".gantry/aside")).expect("damaged jobs");
    until("the damaged job's container to go", async || {
        host.containers("-build").await.is_empty().then_some(())
    })
    .await;
    host.finish(runner).await;
}
