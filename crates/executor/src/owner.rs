//! `FF_DISABLE_UMASK_FOR_DOCKER_EXECUTOR`: what the helper made becomes the build image's user's, before the first script
//! (docker-executor §7.4).

use std::future::Future;

use futures_util::StreamExt;
use gantry_agent::{ChangeOwnerRequest, StageRequest};
use gantry_engine::{EngineError, StdStream};
use gantry_job::{Cause, Stage};
use gantry_trace::Level;

use crate::{ExecutorError, StageEnd, StopReason, context::Context, walk::Walk};

/// Most that is read of what `id` says.
const MOST_OUTPUT: usize = 1024;

impl Walk {
    /// Gives the files away, once a job. `container` is the build container, which waits for its script: the user is that of the
    /// image, whatever user the container runs as.
    pub(crate) async fn give_to_image_user(
        &mut self,
        container: &str,
        stage: &Stage,
        stop: impl Future<Output = StopReason>,
    ) -> Result<StageEnd, ExecutorError> {
        if self.given {
            return Ok(StageEnd::Succeeded);
        }
        let context = self.context.clone();
        let prepared = self.prepared.as_ref();
        let user = prepared.map_or("", |it| it.build_user.as_str());
        let owner = match user {
            "" | "root" | "0" => None,
            user => {
                let image = prepared.map_or("", |it| it.build_image_id.as_str());
                let uid = id_of(&context, container, user, image, "UID", "-u").await?;
                match uid {
                    0 => None,
                    uid => {
                        let gid = id_of(&context, container, user, image, "GID", "-g").await?;
                        Some((uid, gid))
                    }
                }
            }
        };
        let Some((uid, gid)) = owner else {
            self.given = true;
            return Ok(StageEnd::Succeeded);
        };
        let directories = &context.plan.directories;
        let paths = [&directories.project, &directories.temporary];
        for (number, path) in paths.into_iter().enumerate() {
            let text = format!("Changing ownership of files at \"{path}\" to {uid}:{gid}");
            context
                .trace
                .line_once(&format!("owner{number}"), Level::Print, &text);
        }
        let request = StageRequest::ChangeOwner(Box::new(ChangeOwnerRequest {
            paths: paths.map(Into::into).to_vec(),
            uid,
            gid,
        }));
        let end = self
            .helper_stage("change_owner/1", stage, &request, stop)
            .await?;
        match end {
            StageEnd::Failed(cause) => {
                // As in the peer: the script tells what it cannot do.
                tracing::warn!(job = context.plan.job_id, reason = %cause.message(), "not all files of the job could be given to the image's user");
                self.given = true;
                Ok(StageEnd::Succeeded)
            }
            StageEnd::Succeeded => {
                self.given = true;
                Ok(StageEnd::Succeeded)
            }
            stopped @ StageEnd::Stopped(_) => Ok(stopped),
        }
    }
}

/// What `id` says of the image's user.
async fn id_of(
    context: &Context,
    container: &str,
    user: &str,
    image: &str,
    what: &str,
    flag: &str,
) -> Result<u32, Cause> {
    let failed = |message: String| Cause::Engine {
        what: format!("checking {image:?} image {what}"),
        message,
    };
    let command = ["sh", "-c", &format!("id {flag}")].map(str::to_owned);
    let (stdout, stderr) = output_of(context, container, &command, user)
        .await
        .map_err(|error| failed(error.to_string()))?;
    parse(&stdout, &stderr, flag).map_err(failed)
}

async fn output_of(
    context: &Context,
    container: &str,
    command: &[String],
    user: &str,
) -> Result<(String, String), EngineError> {
    let mut exec = context.engine.exec(container, command, Some(user)).await?;
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    while let Some(chunk) = exec.output.next().await.transpose()? {
        let to = match chunk.stream {
            StdStream::Stdout => &mut stdout,
            StdStream::Stderr => &mut stderr,
        };
        let room = MOST_OUTPUT.saturating_sub(to.len());
        to.extend_from_slice(&chunk.bytes[..chunk.bytes.len().min(room)]);
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    Ok((text(&stdout), text(&stderr)))
}

/// The number on the last line.
fn parse(stdout: &str, stderr: &str, flag: &str) -> Result<u32, String> {
    let Some(line) = stdout.lines().last().map(str::trim) else {
        return Err(format!(
            "id command returned no output on stdout (stderr: {stderr})"
        ));
    };
    line.parse()
        .map_err(|error| format!("parsing \"id {flag}\" output: {line:?}: {error}"))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("1000", Ok(1000))]
    #[case("welcome\n1000", Ok(1000))]
    #[case(
        "",
        Err("id command returned no output on stdout (stderr: sh: id: not found)")
    )]
    #[case(
        "postgres",
        Err("parsing \"id -u\" output: \"postgres\": invalid digit found in string")
    )]
    fn the_last_line_is_a_number(#[case] stdout: &str, #[case] expected: Result<u32, &str>) {
        let found = parse(stdout, "sh: id: not found", "-u");
        assert_eq!(found, expected.map_err(str::to_owned));
    }
}
