use hyper::Method;

use super::{
    HttpEngine,
    create::{CreateExec, StartExec},
    models::{Created, ExecState},
    output::Codec,
};
use crate::{EngineError, ExecStream, TerminalCommand};

impl HttpEngine {
    pub(super) async fn start_exec(
        &self,
        id: &str,
        cmd: &[String],
        user: Option<&str>,
    ) -> Result<ExecStream, EngineError> {
        let create = CreateExec {
            attach_stdin: true,
            attach_stdout: true,
            attach_stderr: true,
            tty: false,
            cmd,
            user,
            env: &[],
        };
        self.create_and_start(id, &create).await
    }

    pub(super) async fn start_terminal(
        &self,
        id: &str,
        command: &TerminalCommand,
    ) -> Result<ExecStream, EngineError> {
        let create = CreateExec {
            attach_stdin: true,
            attach_stdout: true,
            attach_stderr: true,
            tty: true,
            cmd: &command.cmd,
            user: None,
            env: &command.env,
        };
        let exec = self.create_and_start(id, &create).await?;
        let what = format!("size the terminal of an exec in container {id}");
        let resize = self.call(what, Method::POST, |session| {
            let path = session.path("/exec").segment(&exec.id).then("/resize");
            path.query("h", &command.rows.to_string())
                .query("w", &command.columns.to_string())
        });
        // A terminal of no size is of use, too; and the command may be over already.
        if let Err(error) = self.ask(resize.await?).await {
            tracing::debug!(container = id, %error, "a terminal has no size");
        }
        Ok(exec)
    }

    async fn create_and_start(
        &self,
        id: &str,
        create: &CreateExec<'_>,
    ) -> Result<ExecStream, EngineError> {
        let what = format!("exec in container {id}");
        let call = self.call(what.clone(), Method::POST, |session| {
            session.path("/containers").segment(id).then("/exec")
        });
        let answer = self.ask(call.await?.json(create)?).await?;
        let exec_id = answer.model::<Created>(&what)?.id;
        let call = self.call(what.clone(), Method::POST, |session| {
            session.path("/exec").segment(&exec_id).then("/start")
        });
        let call = call.await?.json(&StartExec {
            detach: false,
            tty: create.tty,
        })?;
        let session = self.session().await?;
        // Docker starts the process before it answers; both engines answer before any output.
        let limit = Some(self.client().timeouts.answer);
        let hijacked = self.note(self.client().hijack(call, limit).await)?;
        let (stdin, mut output) = self.streams(&session, what, hijacked);
        if create.tty {
            // Whatever the answer's type says, or an engine before 1.42 does not say: there are no frames.
            output.codec = Codec::Raw;
        }
        Ok(ExecStream {
            id: exec_id,
            stdin,
            output: Box::pin(output),
        })
    }

    pub(super) async fn exec_state(&self, exec_id: &str) -> Result<Option<i64>, EngineError> {
        let what = format!("inspect exec {exec_id}");
        let call = self.call(what.clone(), Method::GET, |session| {
            session.path("/exec").segment(exec_id).then("/json")
        });
        let state: ExecState = self.ask(call.await?).await?.model(&what)?;
        Ok((!state.running).then_some(state.exit_code))
    }
}
