use std::{
    collections::BTreeMap,
    future::Future,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use futures_util::StreamExt;
use gantry_container::{ContainerSpec, HostSpec, Labels, LogSpec};
use gantry_engine::{
    Endpoint, Engine, EngineError, HttpEngine, ListFilter, OutputStream, StdStream,
};
use tokio::io::AsyncWriteExt;

/// Label of everything the tests make; its value is one test's own.
pub(crate) const LABEL: &str = "gantry.engine.test";

/// One test's share of an engine.
pub(crate) struct Lab {
    pub(crate) engine: HttpEngine,
    pub(crate) image: String,
    id: String,
}

/// What a run gave.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Ran {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) exit_code: i64,
}

/// The endpoint under test; `None` when none is asked for.
pub(crate) fn endpoint() -> Option<String> {
    match std::env::var("GANTRY_TEST_ENGINE") {
        Ok(host) if host.contains("://") => Some(host),
        Ok(set) if !set.is_empty() && set != "0" => Some("unix:///var/run/docker.sock".to_owned()),
        _ => None,
    }
}

/// Path of the engine's socket, for proxies before it.
pub(crate) fn socket() -> Option<PathBuf> {
    endpoint()?.strip_prefix("unix://").map(PathBuf::from)
}

pub(crate) fn connect(host: &str) -> HttpEngine {
    HttpEngine::new(Endpoint::resolve(host, false, "", |_| None).unwrap()).unwrap()
}

pub(crate) fn skip(test: &str, why: &str) {
    // Past the capture of the test harness: a skip must be seen.
    let line = format!("SKIPPED {test}: {why}\n");
    drop(std::io::Write::write_all(
        &mut std::io::stderr(),
        line.as_bytes(),
    ));
}

/// Runs a test against the engine; afterwards nothing of it may be left.
pub(crate) async fn lab<F, Fut>(test: &str, body: F)
where
    F: FnOnce(Arc<Lab>) -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    let Some(host) = endpoint() else {
        return skip(test, "GANTRY_TEST_ENGINE is not set");
    };
    lab_on(connect(&host), test, body).await;
}

pub(crate) async fn lab_on<F, Fut>(engine: HttpEngine, test: &str, body: F)
where
    F: FnOnce(Arc<Lab>) -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let id = format!("{test}-{}-{count}", std::process::id());
    let image = image(&engine).await;
    let lab = Arc::new(Lab { engine, image, id });
    let outcome = tokio::spawn(body(Arc::clone(&lab))).await;
    let left = lab.sweep().await;
    if let Err(error) = outcome {
        std::panic::resume_unwind(error.into_panic());
    }
    assert!(left.is_empty(), "left on the engine: {left:?}");
}

/// A busybox image; made here when `./dev images` has not made one.
async fn image(engine: &HttpEngine) -> String {
    static MADE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _one = MADE.lock().await;
    for name in ["gantry.test/busybox:1", "gantry.test/engine-tests:1"] {
        if engine.image_inspect(name).await.unwrap().is_some() {
            return name.to_owned();
        }
    }
    let name = "gantry.test/engine-tests:1";
    let archive = image_archive(name, &busybox_layer());
    engine
        .image_load(Box::pin(std::io::Cursor::new(archive)))
        .await
        .unwrap();
    name.to_owned()
}

/// A root file system of Debian's static busybox.
fn busybox_layer() -> Vec<u8> {
    let busybox = std::fs::read("/usr/bin/busybox").or_else(|_| std::fs::read("/bin/busybox"));
    let busybox = busybox.expect("install busybox-static");
    let mut tar = tar::Builder::new(Vec::new());
    entry(&mut tar, "bin/busybox", 0o755, Some(&busybox));
    entry(&mut tar, "tmp/", 0o1777, None);
    for applet in [
        "sh", "cat", "sleep", "true", "head", "dd", "printf", "yes", "stat", "id", "kill",
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, format!("bin/{applet}"), "busybox")
            .unwrap();
    }
    tar.into_inner().unwrap()
}

pub(crate) fn entry(
    tar: &mut tar::Builder<Vec<u8>>,
    path: &str,
    mode: u32,
    content: Option<&[u8]>,
) {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_uid(33);
    header.set_gid(33);
    header.set_mtime(0);
    header.set_size(content.map_or(0, |content| content.len() as u64));
    let kind = if content.is_some() {
        tar::EntryType::Regular
    } else {
        tar::EntryType::Directory
    };
    header.set_entry_type(kind);
    tar.append_data(&mut header, path, content.unwrap_or_default())
        .unwrap();
}

/// An image in the form of `docker save`.
pub(crate) fn image_archive(name: &str, layer: &[u8]) -> Vec<u8> {
    use sha2::Digest;
    let diff: String = sha2::Sha256::digest(layer)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{"Env":["PATH=/bin"],"Cmd":["sh"]}},"rootfs":{{"type":"layers","diff_ids":["sha256:{diff}"]}}}}"#
    );
    let manifest =
        format!(r#"[{{"Config":"config.json","RepoTags":["{name}"],"Layers":["layer.tar"]}}]"#);
    let mut tar = tar::Builder::new(Vec::new());
    entry(&mut tar, "config.json", 0o644, Some(config.as_bytes()));
    entry(&mut tar, "layer.tar", 0o644, Some(layer));
    entry(&mut tar, "manifest.json", 0o644, Some(manifest.as_bytes()));
    tar.into_inner().unwrap()
}

impl Lab {
    /// A name of this test's own.
    pub(crate) fn name(&self, part: &str) -> String {
        format!("gantry-engine-{}-{part}", self.id)
    }

    pub(crate) fn labels(&self) -> Labels {
        Labels::from([(LABEL.to_owned(), self.id.clone())])
    }

    /// Whether these are the labels of this test (an image adds its own).
    pub(crate) fn labelled(&self, labels: &Labels) -> bool {
        labels.get(LABEL) == Some(&self.id)
    }

    pub(crate) fn filter(&self) -> ListFilter {
        ListFilter {
            labels: self.labels(),
            name: None,
        }
    }

    /// A container without network whose log is the driver that Gantry uses.
    pub(crate) fn spec(&self, cmd: &[&str]) -> ContainerSpec {
        let options = [("compress", "false"), ("max-file", "1"), ("max-size", "1t")];
        let options = options.map(|(key, value)| (key.to_owned(), value.to_owned()));
        ContainerSpec {
            image: self.image.clone(),
            cmd: Some(cmd.iter().map(|&word| word.to_owned()).collect()),
            labels: self.labels(),
            interactive: true,
            host: HostSpec {
                network_mode: "none".to_owned(),
                log: Some(LogSpec {
                    driver: "local".to_owned(),
                    options: BTreeMap::from(options),
                }),
                ..Default::default()
            },
            ..Default::default()
        }
    }

    pub(crate) async fn create(&self, part: &str, cmd: &[&str]) -> String {
        self.engine
            .container_create(&self.name(part), &self.spec(cmd))
            .await
            .unwrap()
    }

    /// Attach, wait, start, stdin, half-close, output to its end.
    pub(crate) async fn run(&self, id: &str, stdin: &[u8]) -> Ran {
        let mut attached = self.engine.container_attach(id).await.unwrap();
        let wait = self.engine.container_wait(id).await.unwrap();
        self.engine.container_start(id).await.unwrap();
        let stdin = stdin.to_vec();
        let writer = tokio::spawn(async move {
            // A container that ends early closes its stdin.
            drop(attached.stdin.write_all(&stdin).await);
            drop(attached.stdin.shutdown().await);
            attached.stdin
        });
        let (stdout, stderr) = read(attached.output).await.unwrap();
        let exit_code = wait.await.unwrap().exit_code;
        drop(writer.await.unwrap());
        Ran {
            stdout,
            stderr,
            exit_code,
        }
    }

    /// Removes everything of this test; what was there is what it left.
    async fn sweep(&self) -> Vec<String> {
        let filter = self.filter();
        let mut left = Vec::new();
        for container in self.engine.container_list(&filter).await.unwrap() {
            self.engine.container_remove(&container.id).await.unwrap();
            left.push(container.name);
        }
        for volume in self.engine.volume_list(&filter).await.unwrap() {
            self.engine.volume_remove(&volume.name, true).await.unwrap();
            left.push(volume.name);
        }
        for network in self.engine.network_list(&filter).await.unwrap() {
            self.engine.network_remove(&network.id).await.unwrap();
            left.push(network.name);
        }
        left
    }
}

/// Reads an output stream to its end: stdout and stderr.
pub(crate) async fn read(mut output: OutputStream) -> Result<(Vec<u8>, Vec<u8>), EngineError> {
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    while let Some(chunk) = output.next().await {
        let chunk = chunk?;
        match chunk.stream {
            StdStream::Stdout => stdout.extend_from_slice(&chunk.bytes),
            StdStream::Stderr => stderr.extend_from_slice(&chunk.bytes),
        }
    }
    Ok((stdout, stderr))
}

/// Bytes of every value, in lines of very different lengths.
pub(crate) fn hostile_bytes(seed: u64, lines: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut bytes: Vec<u8> = (0..=255).collect();
    bytes.push(b'\n');
    for _ in 0..lines {
        let length = match next() % 6 {
            0 => 0,
            1 => 16_384,
            2 => 16_380 + next() % 10,
            3 => 32_768 + next() % 3,
            4 => next() % 70_000,
            _ => next() % 200,
        };
        for _ in 0..length {
            let byte = (next() >> 32) as u8;
            bytes.push(if byte == b'\n' { b'\r' } else { byte });
        }
        bytes.push(b'\n');
    }
    bytes
}

/// Asserts equality of long byte strings without printing them.
#[track_caller]
pub(crate) fn assert_same(seen: &[u8], written: &[u8]) {
    let differs = seen.iter().zip(written).position(|(a, b)| a != b);
    assert!(
        seen.len() == written.len() && differs.is_none(),
        "{} bytes seen, {} written, first difference at {differs:?}",
        seen.len(),
        written.len()
    );
}
