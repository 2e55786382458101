//! What the executor asks of a container engine, as plain data.
//!
//! Specifications of containers, volumes and networks in the Engine API's own words, image references, volume definitions and
//! facts about an engine. Pure: nothing here talks to an engine. `gantry-plan` fills these types, `gantry-engine` sends them.

mod facts;
mod image;
mod names;
mod spec;
mod volume;

pub use facts::{ContainerState, ContainerStatus, EngineFacts, EngineFlavor, ImageInfo};
pub use image::{ImageError, ImageReference, ServiceReference, is_image_id};
pub use names::rfc1123;
pub use spec::{
    ContainerSpec, DeviceRequestSpec, DeviceSpec, EndpointSpec, Env, HostSpec, Labels, LogSpec,
    NetworkSpec, TarEntry, VolumeSpec,
};
pub use volume::{Destinations, VolumeDefinition, VolumeError, VolumeSource, clean_path, is_below};
