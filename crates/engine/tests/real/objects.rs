use std::process::Command;

use gantry_container::{EndpointSpec, NetworkSpec, VolumeSpec};
use gantry_engine::Engine;

use crate::support::{entry, image_archive, lab};

#[tokio::test]
async fn volumes_are_created_once_listed_and_removed() {
    lab("volumes", async |lab| {
        let name = lab.name("v");
        let spec = VolumeSpec {
            name: name.clone(),
            labels: lab.labels(),
            ..Default::default()
        };
        let made = lab.engine.volume_create(&spec).await.unwrap();
        assert_eq!(lab.engine.volume_create(&spec).await.unwrap(), made);
        assert_eq!(
            lab.engine.volume_inspect(&name).await.unwrap().as_ref(),
            Some(&made)
        );
        assert_eq!(
            lab.engine.volume_list(&lab.filter()).await.unwrap(),
            std::slice::from_ref(&made)
        );
        assert!(made.created.is_some() && made.labels == lab.labels());
        lab.engine.volume_remove(&name, false).await.unwrap();
        lab.engine.volume_remove(&name, true).await.unwrap();
        assert_eq!(lab.engine.volume_inspect(&name).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn networks_join_containers_by_alias_and_share_names() {
    lab("networks", async |lab| {
        let name = lab.name("n");
        let spec = NetworkSpec {
            name: name.clone(),
            labels: lab.labels(),
            ..Default::default()
        };
        let id = lab.engine.network_create(&spec).await.unwrap();
        let twin = lab.engine.network_create(&spec).await.unwrap();
        assert_ne!(id, twin);
        assert_eq!(
            lab.engine.network_list(&lab.filter()).await.unwrap().len(),
            2
        );
        lab.engine.network_remove(&twin).await.unwrap();
        let mut container = lab.spec(&["sh", "-c", "sleep 60"]);
        container.host.network_mode.clone_from(&name);
        let endpoint = EndpointSpec {
            aliases: vec!["db".to_owned()],
        };
        container.endpoints.insert(name.clone(), endpoint);
        let member = lab
            .engine
            .container_create(&lab.name("c"), &container)
            .await
            .unwrap();
        lab.engine.container_start(&member).await.unwrap();
        let state = lab
            .engine
            .container_inspect(&member)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(state.addresses[&name].len(), 1);
        let network = lab.engine.network_inspect(&id).await.unwrap().unwrap();
        assert_eq!(network.containers, [(member.clone(), lab.name("c"))].into());
        assert!(lab.engine.network_remove(&id).await.is_err());
        lab.engine.container_remove(&member).await.unwrap();
        lab.engine.network_remove(&id).await.unwrap();
        lab.engine.network_remove(&id).await.unwrap();
        assert!(lab.engine.network_inspect(&name).await.unwrap().is_none());
    })
    .await;
}

#[tokio::test]
async fn images_are_loaded_tagged_and_inspected() {
    lab("load", async |lab| {
        let name = format!("gantry.test/{}:1", lab.name("image"));
        let mut layer = tar::Builder::new(Vec::new());
        entry(&mut layer, "file", 0o644, Some(b"x"));
        let archive = image_archive(&name, &layer.into_inner().unwrap());
        let loaded = lab
            .engine
            .image_load(Box::pin(std::io::Cursor::new(archive)))
            .await
            .unwrap();
        assert_eq!(loaded, [name.as_str()]);
        let image = lab.engine.image_inspect(&name).await.unwrap().unwrap();
        assert!(image.id.starts_with("sha256:"));
        assert_eq!(
            (image.cmd.as_slice(), image.os.as_str()),
            (["sh".to_owned()].as_slice(), "linux")
        );
        assert_eq!(image.architecture, "amd64");
        let repo = format!("gantry.test/{}", lab.name("tagged"));
        lab.engine.image_tag(&image.id, &repo, "2").await.unwrap();
        let tagged = lab
            .engine
            .image_inspect(&format!("{repo}:2"))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(tagged.id, image.id);
        let garbage = lab
            .engine
            .image_load(Box::pin(std::io::Cursor::new(vec![1; 5000])))
            .await;
        assert!(garbage.is_err(), "{garbage:?}");
        let status = Command::new("docker")
            .args(["rmi", "-f", &image.id])
            .output()
            .unwrap();
        assert!(status.status.success());
        assert!(lab.engine.image_inspect(&image.id).await.unwrap().is_none());
    })
    .await;
}
