use gantry_container::VolumeSpec;
use hyper::Method;

use super::{
    HttpEngine,
    create::CreateVolume,
    filter_query, filters,
    models::{Volume, Volumes},
};
use crate::{EngineError, ListFilter, VolumeState};

impl HttpEngine {
    pub(super) async fn create_volume(
        &self,
        spec: &VolumeSpec,
    ) -> Result<VolumeState, EngineError> {
        let what = format!("create volume {}", spec.name);
        let call = self
            .call(what.clone(), Method::POST, |s| s.path("/volumes/create"))
            .await?;
        let answer = self
            .ask_in_turn(call.json(&CreateVolume::from(spec))?)
            .await?;
        match answer.model::<Volume>(&what) {
            Ok(volume) => Ok(volume.into()),
            // Podman: of two creates at once one fails, and so does one of a volume that is there (engine-mechanics §b).
            Err(error) if already_exists(&error) => {
                self.inspect_volume(&spec.name).await?.ok_or(error)
            }
            Err(error) => Err(error),
        }
    }

    pub(super) async fn inspect_volume(
        &self,
        name: &str,
    ) -> Result<Option<VolumeState>, EngineError> {
        let what = format!("inspect volume {name}");
        let call = self.call(what.clone(), Method::GET, |s| {
            s.path("/volumes").segment(name)
        });
        let volume: Option<Volume> = self.ask(call.await?).await?.found(&what)?;
        Ok(volume.map(Into::into))
    }

    pub(super) async fn list_volumes(
        &self,
        filter: &ListFilter,
    ) -> Result<Vec<VolumeState>, EngineError> {
        let what = "list volumes".to_owned();
        let call = self.call(what.clone(), Method::GET, |s| {
            filter_query(s.path("/volumes"), &filters(filter))
        });
        let list: Volumes = self.ask(call.await?).await?.model(&what)?;
        Ok(list.volumes.into_iter().map(Into::into).collect())
    }

    pub(super) async fn remove_volume(&self, name: &str, force: bool) -> Result<(), EngineError> {
        let what = format!("remove volume {name}");
        let call = self.call(what.clone(), Method::DELETE, |session| {
            let path = session.path("/volumes").segment(name);
            if force {
                path.query("force", "1")
            } else {
                path
            }
        });
        self.ask(call.await?).await?.good_or(&[404], &what)
    }
}

fn already_exists(error: &EngineError) -> bool {
    match error {
        EngineError::Conflict { message, .. } | EngineError::Failed { message, .. } => {
            message.contains("already exists")
        }
        _ => false,
    }
}
