use gantry_container::NetworkSpec;
use hyper::Method;

use super::{
    HttpEngine,
    create::CreateNetwork,
    filter_query, filters,
    models::{Created, Network},
};
use crate::{EngineError, ListFilter, NetworkState};

impl HttpEngine {
    pub(super) async fn create_network(&self, spec: &NetworkSpec) -> Result<String, EngineError> {
        let what = format!("create network {}", spec.name);
        let call = self
            .call(what.clone(), Method::POST, |s| s.path("/networks/create"))
            .await?;
        let answer = self
            .ask_in_turn(call.json(&CreateNetwork::from(spec))?)
            .await?;
        match answer.model::<Created>(&what) {
            // Podman's names are unique, which it says with 500.
            Err(EngineError::Failed { what, message, .. })
                if message.contains("already exists") =>
            {
                Err(EngineError::Conflict { what, message })
            }
            created => Ok(created?.id),
        }
    }

    pub(super) async fn inspect_network(
        &self,
        id: &str,
    ) -> Result<Option<NetworkState>, EngineError> {
        let what = format!("inspect network {id}");
        let call = self.call(what.clone(), Method::GET, |s| {
            s.path("/networks").segment(id)
        });
        let network: Option<Network> = self.ask(call.await?).await?.found(&what)?;
        Ok(network.map(Into::into))
    }

    pub(super) async fn list_networks(
        &self,
        filter: &ListFilter,
    ) -> Result<Vec<NetworkState>, EngineError> {
        let what = "list networks".to_owned();
        let call = self.call(what.clone(), Method::GET, |s| {
            filter_query(s.path("/networks"), &filters(filter))
        });
        let list: Vec<Network> = self.ask(call.await?).await?.model(&what)?;
        Ok(list.into_iter().map(Into::into).collect())
    }

    pub(super) async fn remove_network(&self, id: &str) -> Result<(), EngineError> {
        let what = format!("remove network {id}");
        let call = self.call(what.clone(), Method::DELETE, |s| {
            s.path("/networks").segment(id)
        });
        self.ask(call.await?).await?.good_or(&[404], &what)
    }
}
