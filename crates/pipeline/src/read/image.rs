//! `image` and `services`.

use super::Reader;
use super::variables::VariablesOf;
use crate::keywords::{DOCKER, IMAGE, Keywords, SERVICE};
use crate::pipeline::{DockerOptions, Image, PullPolicy, Service};
use crate::problem::ProblemKind;
use crate::suggest::nearest;
use crate::yaml::{Map, Node, Value};

impl Reader<'_> {
    /// `image`; null is none.
    pub(super) fn image(&mut self, node: &Node, path: &str) -> Option<Image> {
        match &node.value {
            Value::Null => None,
            Value::Str(_) => self.text(node, path).map(|name| Image {
                name,
                ..Image::default()
            }),
            Value::Map(map) => self.image_map(map, node, path, &IMAGE),
            _ => {
                self.wrong_type(node, path, "text or a map with `name`");
                None
            }
        }
    }

    /// `services`; null is none.
    pub(super) fn services(&mut self, node: &Node, path: &str) -> Vec<Service> {
        if node.is_null() {
            return Vec::new();
        }
        let Some(items) = node.as_seq() else {
            self.wrong_type(node, path, "a list");
            return Vec::new();
        };
        items
            .iter()
            .filter_map(|item| self.service(item, path))
            .collect()
    }

    fn service(&mut self, node: &Node, path: &str) -> Option<Service> {
        let map = match &node.value {
            Value::Str(_) => {
                let name = self.text(node, path)?;
                let image = Image {
                    name,
                    ..Image::default()
                };
                return Some(Service {
                    image,
                    ..Service::default()
                });
            }
            Value::Map(map) => map,
            _ => {
                self.wrong_type(node, path, "a list of texts or maps with `name`");
                return None;
            }
        };
        let image = self.image_map(map, node, path, &SERVICE);
        let alias = match map.get("alias") {
            Some(alias) if !alias.is_null() => self.text(alias, &format!("{path}:alias")),
            _ => None,
        };
        let command = match map.get("command") {
            Some(node) if node.as_str().is_some() => {
                node.as_str().map(str::to_owned).into_iter().collect()
            }
            Some(node) => self.texts(node, &format!("{path}:command")),
            None => Vec::new(),
        };
        let variables = map.get("variables").map_or_else(Vec::new, |node| {
            self.variables(node, &format!("{path}:variables"), VariablesOf::Service)
        });
        Some(Service {
            image: image?,
            alias: alias.unwrap_or_default(),
            command,
            variables,
        })
    }

    /// The keys that an image and a service share.
    fn image_map(
        &mut self,
        map: &Map,
        node: &Node,
        path: &str,
        keywords: &Keywords,
    ) -> Option<Image> {
        self.check_keywords(map, keywords, path);
        let name = match map.get("name") {
            Some(name) if !name.is_null() => self.text(name, &format!("{path}:name")),
            _ => {
                let problem = self
                    .at(
                        ProblemKind::Missing,
                        node.span,
                        format!("`{path}` has no `name`"),
                    )
                    .label("which image?");
                self.report(problem);
                None
            }
        };
        let entrypoint = map.get("entrypoint").map_or_else(Vec::new, |node| {
            self.entrypoint(node, &format!("{path}:entrypoint"))
        });
        let pull_policy = map.get("pull_policy").map_or_else(Vec::new, |node| {
            self.pull_policy(node, &format!("{path}:pull_policy"))
        });
        let docker = map
            .get("docker")
            .map_or_else(DockerOptions::default, |node| {
                self.docker(node, &format!("{path}:docker"))
            });
        Some(Image {
            name: name?,
            entrypoint,
            pull_policy,
            docker,
        })
    }

    fn entrypoint(&mut self, node: &Node, path: &str) -> Vec<String> {
        if let Some(text) = node.as_str() {
            let problem = self
                .at(
                    ProblemKind::Type,
                    node.span,
                    format!("`{path}` should be a list of texts, not text"),
                )
                .label("text")
                .help(format!("write [\"{text}\"]"));
            self.report(problem);
            return Vec::new();
        }
        self.texts(node, path)
    }

    fn pull_policy(&mut self, node: &Node, path: &str) -> Vec<PullPolicy> {
        match &node.value {
            Value::Null => Vec::new(),
            Value::Seq(items) => items
                .iter()
                .filter_map(|item| self.one_pull_policy(item, path))
                .collect(),
            _ => self.one_pull_policy(node, path).into_iter().collect(),
        }
    }

    fn one_pull_policy(&mut self, node: &Node, path: &str) -> Option<PullPolicy> {
        let Some(text) = node.as_str() else {
            self.wrong_type(node, path, "a pull policy or a list of them");
            return None;
        };
        let found = PullPolicy::ALL
            .into_iter()
            .find(|policy| policy.as_str() == text);
        if found.is_none() {
            let names = PullPolicy::ALL.map(PullPolicy::as_str);
            let help = match nearest(text, names) {
                Some(name) => format!("did you mean `{name}`?"),
                None => format!("one of {}", names.join(", ")),
            };
            let problem = self
                .at(
                    ProblemKind::Undefined,
                    node.span,
                    format!("`{path}` has no policy `{text}`"),
                )
                .label("unknown policy")
                .help(help);
            self.report(problem);
        }
        found
    }

    fn docker(&mut self, node: &Node, path: &str) -> DockerOptions {
        let Some(map) = node.as_map() else {
            if !node.is_null() {
                self.wrong_type(node, path, "a map");
            }
            return DockerOptions::default();
        };
        self.check_keywords(map, &DOCKER, path);
        let mut option = |key: &str| match map.get(key) {
            Some(node) if matches!(node.value, Value::Int(_)) && key == "user" => node.to_text(),
            Some(node) if !node.is_null() => self.text(node, &format!("{path}:{key}")),
            _ => None,
        };
        DockerOptions {
            user: option("user").unwrap_or_default(),
            platform: option("platform").unwrap_or_default(),
        }
    }
}
