//! `executor_opts` of an image: the one place of the payload where an unknown key matters.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Options per executor. Keys that are not known are kept by name, because they fail the job
/// ([`crate::unsupported_keywords`]).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecutorOpts {
    /// `docker`.
    pub docker: DockerOpts,
    /// `kubernetes`: read, since servers may send it to any runner, and otherwise ignored.
    pub kubernetes: KubernetesOpts,
    /// Other keys.
    pub unknown: Vec<String>,
}

/// `executor_opts.docker`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DockerOpts {
    /// Platform to pull, e.g. `linux/arm64`; not yet expanded.
    pub platform: String,
    /// User to run as, name or number with optional group; not yet expanded.
    pub user: String,
    /// Other keys.
    pub unknown: Vec<String>,
}

/// `executor_opts.kubernetes`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KubernetesOpts {
    /// User to run as.
    pub user: String,
    /// Other keys.
    pub unknown: Vec<String>,
}

/// A JSON object read key by key.
trait Keyed: Default {
    /// What a reader expects, for error messages.
    const WHAT: &'static str;
    /// Takes the value of one key from `map`.
    fn take<'de, A: MapAccess<'de>>(&mut self, key: String, map: &mut A) -> Result<(), A::Error>;
}

struct KeyedVisitor<T>(PhantomData<T>);

impl<'de, T: Keyed> Visitor<'de> for KeyedVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::WHAT)
    }

    fn visit_unit<E>(self) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let mut value = T::default();
        while let Some(key) = map.next_key::<String>()? {
            value.take(key, &mut map)?;
        }
        Ok(value)
    }
}

fn unknown<'de, A: MapAccess<'de>>(
    names: &mut Vec<String>,
    key: String,
    map: &mut A,
) -> Result<(), A::Error> {
    map.next_value::<serde::de::IgnoredAny>()?;
    if !names.contains(&key) {
        names.push(key);
    }
    Ok(())
}

impl Keyed for ExecutorOpts {
    const WHAT: &'static str = "an object of options per executor";

    fn take<'de, A: MapAccess<'de>>(&mut self, key: String, map: &mut A) -> Result<(), A::Error> {
        match key.as_str() {
            "docker" => self.docker = map.next_value::<Option<_>>()?.unwrap_or_default(),
            "kubernetes" => self.kubernetes = map.next_value::<Option<_>>()?.unwrap_or_default(),
            _ => unknown(&mut self.unknown, key, map)?,
        }
        Ok(())
    }
}

impl Keyed for DockerOpts {
    const WHAT: &'static str = "an object of docker options";

    fn take<'de, A: MapAccess<'de>>(&mut self, key: String, map: &mut A) -> Result<(), A::Error> {
        match key.as_str() {
            "platform" => self.platform = map.next_value::<Option<_>>()?.unwrap_or_default(),
            "user" => self.user = map.next_value::<Option<User>>()?.unwrap_or_default().0,
            _ => unknown(&mut self.unknown, key, map)?,
        }
        Ok(())
    }
}

impl Keyed for KubernetesOpts {
    const WHAT: &'static str = "an object of kubernetes options";

    fn take<'de, A: MapAccess<'de>>(&mut self, key: String, map: &mut A) -> Result<(), A::Error> {
        match key.as_str() {
            "user" => self.user = map.next_value::<Option<User>>()?.unwrap_or_default().0,
            _ => unknown(&mut self.unknown, key, map)?,
        }
        Ok(())
    }
}

/// A user: a string or an integer on the wire.
#[derive(Default)]
struct User(String);

impl<'de> Deserialize<'de> for User {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct UserVisitor;

        impl Visitor<'_> for UserVisitor {
            type Value = User;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a user as string or integer")
            }

            fn visit_str<E>(self, text: &str) -> Result<User, E> {
                Ok(User(text.to_owned()))
            }

            fn visit_u64<E>(self, number: u64) -> Result<User, E> {
                Ok(User(number.to_string()))
            }

            fn visit_i64<E>(self, number: i64) -> Result<User, E> {
                Ok(User(number.to_string()))
            }
        }

        deserializer.deserialize_any(UserVisitor)
    }
}

macro_rules! keyed_deserialize {
    ($($type:ty),*) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(KeyedVisitor(PhantomData))
            }
        }
    )*};
}

keyed_deserialize!(ExecutorOpts, DockerOpts, KubernetesOpts);

/// Writes unknown keys too, with no value, so that a payload read back is refused alike.
fn serialize_unknown<M: SerializeMap>(map: &mut M, names: &[String]) -> Result<(), M::Error> {
    names
        .iter()
        .try_for_each(|name| map.serialize_entry(name, &()))
}

impl Serialize for ExecutorOpts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if self.docker != DockerOpts::default() {
            map.serialize_entry("docker", &self.docker)?;
        }
        if self.kubernetes != KubernetesOpts::default() {
            map.serialize_entry("kubernetes", &self.kubernetes)?;
        }
        serialize_unknown(&mut map, &self.unknown)?;
        map.end()
    }
}

impl Serialize for DockerOpts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("platform", &self.platform)?;
        map.serialize_entry("user", &self.user)?;
        serialize_unknown(&mut map, &self.unknown)?;
        map.end()
    }
}

impl Serialize for KubernetesOpts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("user", &self.user)?;
        serialize_unknown(&mut map, &self.unknown)?;
        map.end()
    }
}
