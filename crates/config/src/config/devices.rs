//! Devices and GPUs of containers, as `services_devices` and `service_gpus` write them (docker-executor §1.3).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// A device of the engine's host: `host[:container[:permissions]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Path on the host.
    pub host: String,
    /// Path in the container; the same where none is written.
    pub container: String,
    /// What the container may do with it, of `r`, `w` and `m`; all where none are written.
    pub permissions: String,
}

impl Device {
    /// Reads a device as it is written in the file.
    ///
    /// # Errors
    /// A sentence for the reader.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = text.split(':');
        let host = parts.next().unwrap_or_default();
        let container = parts.next().filter(|part| !part.is_empty());
        let permissions = parts.next().filter(|part| !part.is_empty());
        let failed = |why: &str| Err(format!("failed to parse device string {text:?}: {why}"));
        if parts.next().is_some() {
            return failed("too many colons");
        }
        if host.is_empty() {
            return failed("no path on the host");
        }
        Ok(Self {
            host: host.to_owned(),
            container: container.unwrap_or(host).to_owned(),
            permissions: permissions.unwrap_or("rwm").to_owned(),
        })
    }
}

/// GPUs, in the words of the `--gpus` option of Docker's command line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuRequest {
    /// Driver; empty: the engine chooses.
    pub driver: String,
    /// How many; -1: all; 0 where `devices` names them.
    pub count: i64,
    /// Which, by number or UUID.
    pub devices: Vec<String>,
    /// What they must be able to do, `gpu` included.
    pub capabilities: Vec<String>,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
}

impl GpuRequest {
    /// Reads a request; `None` for a blank text.
    ///
    /// # Errors
    /// A sentence for the reader.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        if text.trim().is_empty() {
            return Ok(None);
        }
        read(text)
            .map(Some)
            .map_err(|why| format!("parsing gpus string {text:?}: {why}"))
    }
}

fn read(text: &str) -> Result<GpuRequest, String> {
    let mut request = GpuRequest {
        driver: String::new(),
        count: 0,
        devices: Vec::new(),
        capabilities: vec!["gpu".to_owned()],
        options: BTreeMap::new(),
    };
    let mut seen = BTreeSet::new();
    let words = |value: &str| value.split(',').map(str::to_owned).collect::<Vec<_>>();
    for field in fields(text)? {
        // A number alone is the count.
        let (key, value) = field.split_once('=').unwrap_or(("count", &field));
        if !seen.insert(key.to_owned()) {
            return Err(format!("{key} can be given only once"));
        }
        match key {
            "driver" => value.clone_into(&mut request.driver),
            "count" if value == "all" => request.count = -1,
            "count" => {
                let count = value.parse();
                request.count = count.map_err(|_| format!("{value:?} is no whole number"))?;
            }
            "device" => request.devices = words(value),
            "capabilities" => {
                request.capabilities = words(value);
                request.capabilities.push("gpu".to_owned());
            }
            "options" => {
                for option in fields(value)? {
                    let (name, value) = option.split_once('=').unwrap_or((&option, ""));
                    request.options.insert(name.to_owned(), value.to_owned());
                }
            }
            _ => {
                return Err(format!(
                    "unexpected key {key:?}, expected driver, count, device, capabilities or options"
                ));
            }
        }
    }
    if !seen.contains("count") && request.devices.is_empty() {
        request.count = 1;
    }
    Ok(request)
}

/// Fields of a line of comma-separated values. One that holds commas stands in quotes, and a quote in it is doubled.
fn fields(line: &str) -> Result<Vec<String>, String> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                if rest[..end].contains('"') {
                    return Err("a quote in a field that does not begin with one".to_owned());
                }
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None if after.is_empty() => return Ok(fields),
            None => return Err("text after a closing quote".to_owned()),
        }
    }
}

fn quoted_field(mut rest: &str) -> Result<(String, &str), String> {
    let mut field = String::new();
    loop {
        let Some((part, after)) = rest.split_once('"') else {
            return Err("a quote is not closed".to_owned());
        };
        field.push_str(part);
        match after.strip_prefix('"') {
            Some(more) => {
                field.push('"');
                rest = more;
            }
            None => return Ok((field, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    // docker-executor §1.3, `devices`
    #[rstest]
    #[case("/dev/kvm", Ok(["/dev/kvm", "/dev/kvm", "rwm"]))]
    #[case("/dev/a:/dev/b", Ok(["/dev/a", "/dev/b", "rwm"]))]
    #[case("/dev/a:/dev/b:r", Ok(["/dev/a", "/dev/b", "r"]))]
    #[case("/dev/a::r", Ok(["/dev/a", "/dev/a", "r"]))]
    #[case(
        "a:b:c:d",
        Err("failed to parse device string \"a:b:c:d\": too many colons")
    )]
    #[case("", Err("failed to parse device string \"\": no path on the host"))]
    fn a_device_is_a_path_on_the_host_and_may_have_another_in_the_container(
        #[case] text: &str,
        #[case] device: Result<[&str; 3], &str>,
    ) {
        let found = Device::parse(text).map(|it| [it.host, it.container, it.permissions]);
        assert_eq!(
            found,
            device
                .map(|parts| parts.map(str::to_owned))
                .map_err(str::to_owned)
        );
    }

    // docker-executor §1.3, `gpus`
    #[rstest]
    #[case("all", -1, "", "gpu", "")]
    #[case("2", 2, "", "gpu", "")]
    #[case("count=all", -1, "", "gpu", "")]
    #[case("device=0", 0, "0", "gpu", "")]
    #[case("\"device=0,GPU-1\"", 0, "0 GPU-1", "gpu", "")]
    #[case(
        "driver=nvidia,\"capabilities=compute,utility\"",
        1,
        "",
        "compute utility gpu",
        ""
    )]
    #[case("all,\"options=a=1,b=2\"", -1, "", "gpu", "a=1 b=2")]
    fn gpus_are_read_as_by_the_command_line_of_docker(
        #[case] text: &str,
        #[case] count: i64,
        #[case] devices: &str,
        #[case] capabilities: &str,
        #[case] options: &str,
    ) {
        let request = GpuRequest::parse(text).unwrap().unwrap();
        let pairs = request.options.iter();
        let pairs: Vec<_> = pairs.map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(
            (
                request.count,
                &*request.devices.join(" "),
                &*request.capabilities.join(" "),
                &*pairs.join(" ")
            ),
            (count, devices, capabilities, options)
        );
    }

    #[rstest]
    #[case("some", "\"some\" is no whole number")]
    #[case("1,2", "count can be given only once")]
    #[case("count=1,all", "count can be given only once")]
    #[case(
        "size=1",
        "unexpected key \"size\", expected driver, count, device, capabilities or options"
    )]
    #[case("\"device=0", "a quote is not closed")]
    #[case("\"device=0\"1", "text after a closing quote")]
    #[case("device=\"0\"", "a quote in a field that does not begin with one")]
    fn a_request_for_gpus_that_is_none_says_why(#[case] text: &str, #[case] why: &str) {
        let error = GpuRequest::parse(text).unwrap_err();
        assert_eq!(error, format!("parsing gpus string {text:?}: {why}"));
    }

    #[test]
    fn a_blank_request_is_none() {
        assert_eq!(GpuRequest::parse(" "), Ok(None));
    }
}
