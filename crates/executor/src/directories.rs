//! Volume roots with the right mode, the project directory, and the working tree of a local run.
//!
//! Docker: one archive upload into a never started *carrier* container that has the same mounts, while the build container starts.
//! Podman: uploads into the running build container, since a first start resets a volume (engine-mechanics §a).

use std::io::Cursor;

use gantry_container::{ContainerSpec, EngineFlavor, Env, HostSpec, TarEntry};
use gantry_engine::{Archive, EngineError};
use gantry_plan::Plan;

use crate::{ExecutorError, claim, context::Context};

/// Mode of volume roots and of directories made for the job: any user of any image may write.
const MODE: u32 = 0o777;
const MAKING: &str = "making the directories of the job";

/// Makes directories once per job and process.
#[derive(Default)]
pub(crate) struct Directories {
    made: tokio::sync::OnceCell<()>,
    running: tokio::sync::OnceCell<()>,
}

impl Directories {
    /// An earlier process made them: the script runs already.
    pub(crate) fn assume_made(&self) {
        self.made.set(()).ok();
        self.running.set(()).ok();
    }

    /// The Docker form; to be run while the build container starts. `created` is a container with all mounts.
    pub(crate) async fn ensure(
        &self,
        context: &Context,
        image: &str,
        created: &str,
    ) -> Result<(), ExecutorError> {
        if context.facts.flavor != EngineFlavor::Docker {
            return Ok(());
        }
        self.made
            .get_or_try_init(|| async {
                let failed = |error: EngineError| context.cause(MAKING, &error);
                let entries = wanted(context, created).await.map_err(failed)?;
                if entries.is_empty() && context.working_tree.is_none() {
                    return Ok(());
                }
                carry(context, image, entries).await.map_err(failed)?;
                Ok(())
            })
            .await
            .copied()
    }

    /// The Podman form; `running` is the started build container that waits for its script.
    pub(crate) async fn ensure_running(
        &self,
        context: &Context,
        running: &str,
    ) -> Result<(), ExecutorError> {
        if context.facts.flavor != EngineFlavor::Podman {
            return Ok(());
        }
        self.running
            .get_or_try_init(|| async {
                for root in roots(&context.plan) {
                    let mut entries = vec![entry(".".to_owned())];
                    let below = format!("{}/", root.trim_end_matches('/'));
                    entries.extend(
                        context
                            .plan
                            .make_directories
                            .iter()
                            .filter_map(|path| path.strip_prefix(&below))
                            .map(|path| entry(path.to_owned())),
                    );
                    let archive = archive_of(&entries);
                    put(context, running, root, archive).await?;
                }
                if let Some(tree) = &context.working_tree {
                    put(context, running, &context.plan.directories.project, tree()).await?;
                }
                Ok(())
            })
            .await
            .copied()
    }
}

async fn put(
    context: &Context,
    id: &str,
    path: &str,
    archive: Archive,
) -> Result<(), ExecutorError> {
    let put = context.engine.archive_put(id, path, archive).await;
    Ok(put.map_err(|error| context.cause(MAKING, &error))?)
}

/// Where volumes are mounted, and folders that stand in for them.
fn roots(plan: &Plan) -> impl Iterator<Item = &str> {
    let volumes = plan.volumes.iter().map(|volume| &volume.destination);
    volumes.chain(&plan.folders).map(String::as_str)
}

/// Volume roots whose mode is not right, and the directories to make.
async fn wanted(context: &Context, created: &str) -> Result<Vec<TarEntry>, EngineError> {
    let plan = &context.plan;
    let mut entries = Vec::new();
    for root in roots(plan) {
        if context.engine.archive_mode(created, root).await? != Some(MODE) {
            entries.push(entry(root.trim_start_matches('/').to_owned()));
        }
    }
    entries.extend(
        plan.make_directories
            .iter()
            .map(|path| entry(path.trim_start_matches('/').to_owned())),
    );
    Ok(entries)
}

async fn carry(context: &Context, image: &str, entries: Vec<TarEntry>) -> Result<(), EngineError> {
    let plan = &context.plan;
    let engine = &context.engine;
    let name = plan.carrier_name();
    let spec = ContainerSpec {
        image: image.to_owned(),
        entrypoint: Some(vec!["/none".to_owned()]),
        cmd: Some(vec!["/none".to_owned()]),
        env: Env::default(),
        labels: plan.labels.clone(),
        host: HostSpec {
            binds: plan.build.spec.host.binds.clone(),
            network_mode: "none".to_owned(),
            ..HostSpec::default()
        },
        ..ContainerSpec::default()
    };
    // What an earlier process of this job left: its uploads are repeated.
    let id = claim::create(engine, &name, &spec).await?;
    let upload = async {
        if !entries.is_empty() {
            engine.archive_put(&id, "/", archive_of(&entries)).await?;
        }
        if let Some(tree) = &context.working_tree {
            engine
                .archive_put(&id, &plan.directories.project, tree())
                .await?;
        }
        Ok(())
    };
    let uploaded = upload.await;
    // In the background of the script: nobody waits for this.
    let engine = engine.clone();
    tokio::spawn(async move {
        if let Err(error) = engine.container_remove(&id).await {
            tracing::debug!(container = id, %error, "carrier is left to the cleanup");
        }
    });
    uploaded
}

fn entry(path: String) -> TarEntry {
    TarEntry {
        path,
        mode: MODE,
        uid: 0,
        gid: 0,
    }
}

fn archive_of(entries: &[TarEntry]) -> Archive {
    let mut builder = tar::Builder::new(Vec::new());
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(entry.mode);
        header.set_uid(entry.uid.into());
        header.set_gid(entry.gid.into());
        header.set_size(0);
        // Writing to memory cannot fail; a path that no tar can name is refused by the engine's own check.
        builder
            .append_data(&mut header, format!("{}/", entry.path), std::io::empty())
            .ok();
    }
    let bytes = builder.into_inner().unwrap_or_default();
    Box::pin(Cursor::new(bytes))
}
