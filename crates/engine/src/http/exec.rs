use hyper::Method;

use super::{
    HttpEngine,
    create::{CreateExec, StartExec},
    models::{Created, ExecState},
};
use crate::{EngineError, ExecStream};

impl HttpEngine {
    pub(super) async fn start_exec(
        &self,
        id: &str,
        cmd: &[String],
        user: Option<&str>,
    ) -> Result<ExecStream, EngineError> {
        let what = format!("exec in container {id}");
        let create = CreateExec {
            attach_stdin: true,
            attach_stdout: true,
            attach_stderr: true,
            tty: false,
            cmd,
            user,
        };
        let call = self.call(what.clone(), Method::POST, |session| {
            session.path("/containers").segment(id).then("/exec")
        });
        let answer = self.ask(call.await?.json(&create)?).await?;
        let exec_id = answer.model::<Created>(&what)?.id;
        let call = self.call(what.clone(), Method::POST, |session| {
            session.path("/exec").segment(&exec_id).then("/start")
        });
        let call = call.await?.json(&StartExec {
            detach: false,
            tty: false,
        })?;
        let session = self.session().await?;
        // Docker starts the process before it answers; both engines answer before any output.
        let limit = Some(self.client().timeouts.answer);
        let hijacked = self.note(self.client().hijack(call, limit).await)?;
        let (stdin, output) = self.streams(&session, what, hijacked);
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
